"""The actions on messages but for receiving: sending, deleting, hiding; alone and in batches."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from functools import partial

from infra.local.queue import errors, handling, limits
from infra.local.queue.addresses import name_in
from infra.local.queue.batch import Batch
from infra.local.queue.core import Action, Answer, Asker, Core
from infra.local.queue.fields import Fields
from infra.local.queue.queues import Queue
from infra.local.queue.receiving import expire
from infra.local.queue.sending import Draft, check_ids, read_draft, send

_REFUSE_ALL = frozenset({"MissingParameter", "MalformedInput"})


class MessageActions:
    """SendMessage, DeleteMessage, ChangeMessageVisibility, and the batch of each."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.by_name: Mapping[str, Action] = {
            "SendMessage": self._send,
            "SendMessageBatch": self._send_batch,
            "DeleteMessage": self._delete,
            "DeleteMessageBatch": self._delete_batch,
            "ChangeMessageVisibility": self._change_visibility,
            "ChangeMessageVisibilityBatch": self._change_visibility_batch,
        }

    async def _send(self, fields: Fields, _asker: Asker) -> Answer:
        name, draft = name_in(fields), read_draft(fields)

        def put(connection: sqlite3.Connection, queue: Queue) -> Answer:
            return send(connection, queue, draft, self._core.now_ms())

        return await self._core.on_queue(name, put, ring=True)

    async def _send_batch(self, fields: Fields, _asker: Asker) -> Answer:
        name = name_in(fields)
        drafts = Batch[Draft]()
        for entry_id, entry in fields.entries("SendMessageBatchRequestEntry"):
            drafts.add(entry_id, partial(read_draft, entry), refuse_all_for=_REFUSE_ALL)
        size = sum(draft.size for draft in drafts.taken.values())
        if size > limits.BATCH_BYTES:
            raise errors.batch_too_long(limits.BATCH_BYTES, size)

        def put_all(connection: sqlite3.Connection, queue: Queue) -> Answer:
            for draft in drafts.taken.values():
                _check_batch_ids(queue, draft)
            now_ms = self._core.now_ms()
            sent = Batch[Answer]()
            sent.failed.update(drafts.failed)
            for entry_id, draft in drafts.taken.items():
                sent.add(entry_id, partial(send, connection, queue, draft, now_ms))
            return sent.answer(lambda answer: answer)

        return await self._core.on_queue(name, put_all, ring=True)

    async def _delete(self, fields: Fields, _asker: Asker) -> Answer:
        name, handle = name_in(fields), fields.required("ReceiptHandle")

        def delete(connection: sqlite3.Connection, queue: Queue) -> None:
            now_ms = self._core.now_ms()
            expire(connection, queue, now_ms)
            handling.delete(connection, queue, handle, now_ms)

        # A message that has gone may have held back its group.
        await self._core.on_queue(name, delete, ring=limits.is_fifo_name(name))
        return {}

    async def _delete_batch(self, fields: Fields, _asker: Asker) -> Answer:
        name = name_in(fields)
        entries = fields.entries("DeleteMessageBatchRequestEntry")
        handles = {entry_id: entry.required("ReceiptHandle") for entry_id, entry in entries}

        def delete_all(connection: sqlite3.Connection, queue: Queue) -> Answer:
            now_ms = self._core.now_ms()
            expire(connection, queue, now_ms)
            deleted = Batch[None]()
            for entry_id, handle in handles.items():
                deleted.add(entry_id, partial(handling.delete, connection, queue, handle, now_ms))
            return deleted.answer(lambda _: {})

        return await self._core.on_queue(name, delete_all, ring=limits.is_fifo_name(name))

    async def _change_visibility(self, fields: Fields, _asker: Asker) -> Answer:
        name, handle = name_in(fields), fields.required("ReceiptHandle")
        visibility_s = handling.read_visibility(fields)

        def change(connection: sqlite3.Connection, queue: Queue) -> None:
            now_ms = self._core.now_ms()
            expire(connection, queue, now_ms)
            handling.change_visibility(connection, queue, handle, visibility_s, now_ms)

        await self._core.on_queue(name, change, ring=True)
        return {}

    async def _change_visibility_batch(self, fields: Fields, _asker: Asker) -> Answer:
        name = name_in(fields)
        entries = fields.entries("ChangeMessageVisibilityBatchRequestEntry")
        handles = {entry_id: entry.required("ReceiptHandle") for entry_id, entry in entries}
        times = Batch[int]()
        for entry_id, entry in entries:
            times.add(entry_id, partial(handling.read_visibility, entry), refuse_all_for=_REFUSE_ALL)

        def change_all(connection: sqlite3.Connection, queue: Queue) -> Answer:
            now_ms = self._core.now_ms()
            expire(connection, queue, now_ms)
            changed = Batch[None]()
            changed.failed.update(times.failed)
            for entry_id, visibility_s in times.taken.items():
                handle = handles[entry_id]
                work = partial(handling.change_visibility, connection, queue, handle, visibility_s, now_ms)
                changed.add(entry_id, work)
            return changed.answer(lambda _: {})

        return await self._core.on_queue(name, change_all, ring=True)


def _check_batch_ids(queue: Queue, draft: Draft) -> None:
    """Refuse a whole batch for an id that one of its messages lacks, as AWS does."""
    try:
        check_ids(queue, draft.group_id, draft.deduplication_id)
    except errors.QueueError as error:
        raise errors.invalid_value(error.message) from None
