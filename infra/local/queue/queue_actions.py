"""The actions on queues as a whole."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from functools import partial

from infra.local.queue import errors, limits, queues
from infra.local.queue.addresses import name_in, url_of
from infra.local.queue.core import Action, Answer, Asker, Core
from infra.local.queue.fields import Fields
from infra.local.queue.queue_attributes import KNOWN, read_attributes
from infra.local.queue.queues import Queue
from infra.local.queue.receiving import expire


class QueueActions:
    """CreateQueue, GetQueueUrl, ListQueues, DeleteQueue, PurgeQueue, GetQueueAttributes, SetQueueAttributes."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.by_name: Mapping[str, Action] = {
            "CreateQueue": self._create,
            "GetQueueUrl": self._get_url,
            "ListQueues": self._list,
            "DeleteQueue": self._delete,
            "PurgeQueue": self._purge,
            "GetQueueAttributes": self._get_attributes,
            "SetQueueAttributes": self._set_attributes,
        }

    async def _create(self, fields: Fields, asker: Asker) -> Answer:
        name = fields.required("QueueName")
        given = fields.mapping("Attributes")
        if fields.mapping("tags"):
            raise errors.unsupported("A queue's tag")
        fifo = given.get("FifoQueue") == "true"
        limits.check_queue_name(name, fifo=fifo)

        def create(connection: sqlite3.Connection) -> None:
            attributes = read_attributes(given, fifo=fifo, is_queue=partial(self._is_queue, connection))
            queues.create(connection, name, attributes, self._core.now_s())

        await self._core.database.run(create)
        return {"QueueUrl": url_of(asker.base_url, name)}

    async def _get_url(self, fields: Fields, asker: Asker) -> Answer:
        name = fields.required("QueueName")
        limits.check_queue_name(name, fifo=limits.is_fifo_name(name))
        await self._core.on_queue(name, lambda _connection, _queue: None)
        return {"QueueUrl": url_of(asker.base_url, name)}

    async def _list(self, fields: Fields, asker: Asker) -> Answer:
        prefix, after = fields.text("QueueNamePrefix") or "", fields.text("NextToken") or ""
        reason = f"MaxResults must be an integer between 1 and {limits.LISTED_QUEUES}."
        most = fields.bounded("MaxResults", 1, limits.LISTED_QUEUES, reason)
        held = await self._core.database.run(queues.names)
        names = [name for name in held if name.startswith(prefix) and name > after]
        page = names[: most or limits.LISTED_QUEUES]
        answer: Answer = {"QueueUrls": [url_of(asker.base_url, name) for name in page]} if page else {}
        if most is not None and len(names) > most:
            answer["NextToken"] = page[-1]
        return answer

    async def _delete(self, fields: Fields, _asker: Asker) -> Answer:
        def delete(connection: sqlite3.Connection, queue: Queue) -> None:
            queues.delete(connection, queue, self._core.now_s())

        await self._core.on_queue(name_in(fields), delete, ring=True)
        return {}

    async def _purge(self, fields: Fields, _asker: Asker) -> Answer:
        def purge(connection: sqlite3.Connection, queue: Queue) -> None:
            queues.purge(connection, queue, self._core.now_s())

        await self._core.on_queue(name_in(fields), purge)
        return {}

    async def _get_attributes(self, fields: Fields, _asker: Asker) -> Answer:
        name, wanted = name_in(fields), fields.texts("AttributeNames")
        for attribute in wanted:
            if attribute not in KNOWN:
                raise errors.unknown_attribute(attribute)
        held = await self._core.on_queue(name, self._attributes)
        # A redrive policy that was taken away is held as an empty text.
        chosen = {key: value for key, value in held.items() if value and ("All" in wanted or key in wanted)}
        return {"Attributes": chosen} if chosen else {}

    def _attributes(self, connection: sqlite3.Connection, queue: Queue) -> dict[str, str]:
        now_ms = self._core.now_ms()
        expire(connection, queue, now_ms)
        visible, in_flight, delayed = queues.counts(connection, queue, now_ms)
        return {
            **queue.attributes,
            "QueueArn": queues.arn(self._core.region, queue.name),
            "CreatedTimestamp": str(queue.created_s),
            "LastModifiedTimestamp": str(queue.modified_s),
            "ApproximateNumberOfMessages": str(visible),
            "ApproximateNumberOfMessagesNotVisible": str(in_flight),
            "ApproximateNumberOfMessagesDelayed": str(delayed),
        }

    async def _set_attributes(self, fields: Fields, _asker: Asker) -> Answer:
        name, given = name_in(fields), fields.mapping("Attributes")
        if not given:
            raise errors.missing("Attributes")

        def change(connection: sqlite3.Connection, queue: Queue) -> None:
            attributes = read_attributes(given, fifo=queue.fifo, is_queue=partial(self._is_queue, connection))
            queues.change(connection, queue, attributes, self._core.now_s())

        await self._core.on_queue(name, change, ring=True)
        return {}

    def _is_queue(self, connection: sqlite3.Connection, arn: str) -> bool:
        name = arn.rpartition(":")[2]
        return (
            arn.isascii()
            and arn == queues.arn(self._core.region, name)
            and queues.look_up(connection, name) is not None
        )
