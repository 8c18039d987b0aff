"""Sending: what a message must be, whether it was sent before, and where it is put."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import uuid
from dataclasses import dataclass
from typing import Any, Final

from infra.local.queue import errors, groups, limits
from infra.local.queue.fields import Fields
from infra.local.queue.message_attributes import Attributes, md5_of, read_attributes, size_of
from infra.local.queue.queues import Queue

# AWS's sequence numbers have 20 digits, and so sort as texts do; ours sort like that, too.
_FIRST_SEQUENCE: Final = 10_000_000_000_000_000_000
_NOT_THIS_TYPE: Final = "The request include parameter that is not valid for this queue type."
_TRACE: Final = "AWSTraceHeader"


def sequence_number(seq: int) -> str:
    """Give a message's sequence number."""
    return str(_FIRST_SEQUENCE + seq)


@dataclass(frozen=True, slots=True)
class Draft:
    """A message as a client sends it, checked as far as it can be without its queue."""

    body: str
    body_size: int
    attributes: Attributes
    trace: Attributes
    delay_s: int | None
    group_id: str | None
    deduplication_id: str | None

    @property
    def size(self) -> int:
        """Count the bytes that AWS's limits count."""
        return self.body_size + size_of(self.attributes)


def read_draft(fields: Fields) -> Draft:
    """Read the members of SendMessage, or of a batch's entry. Raises QueueError."""
    body = fields.required("MessageBody")
    forbidden = limits.forbidden_character(body)
    if forbidden is not None:
        raise errors.invalid_contents(forbidden)
    group_id, deduplication_id = fields.text("MessageGroupId"), fields.text("MessageDeduplicationId")
    if group_id is not None:
        limits.check_fifo_id(group_id, "MessageGroupId")
    if deduplication_id is not None:
        limits.check_fifo_id(deduplication_id, "MessageDeduplicationId")
    return Draft(
        body=body,
        body_size=len(body.encode()),
        attributes=read_attributes(fields.mapping("MessageAttributes")),
        trace=_read_trace(fields.mapping("MessageSystemAttributes")),
        delay_s=fields.bounded("DelaySeconds", 0, limits.DELAY_S, "DelaySeconds must be >= 0 and <= 900."),
        group_id=group_id,
        deduplication_id=deduplication_id,
    )


def _read_trace(given: dict[str, Any]) -> Attributes:
    for name in given:
        if name != _TRACE:
            raise errors.invalid_value(f"Message system attribute name '{name}' is invalid.")
    trace = read_attributes(given)
    if trace and trace[_TRACE]["DataType"] != "String":
        raise errors.invalid_value(f"Message system attribute '{_TRACE}' must be of type 'String'.")
    return trace


def check_ids(queue: Queue, group_id: str | None, deduplication_id: str | None) -> None:
    """Raise QueueError unless a message has the ids that this queue's type needs; an empty one counts as none."""
    if not queue.fifo:
        if deduplication_id is not None:
            raise errors.invalid_parameter(deduplication_id, "MessageDeduplicationId", _NOT_THIS_TYPE)
        return
    if not group_id:
        raise errors.missing("MessageGroupId")
    if not deduplication_id and queue.attributes["ContentBasedDeduplication"] != "true":
        raise errors.invalid_value(
            "The queue should either have ContentBasedDeduplication enabled or "
            "MessageDeduplicationId provided explicitly"
        )


def send(connection: sqlite3.Connection, queue: Queue, draft: Draft, now_ms: int) -> dict[str, Any]:
    """Put a message into its queue; give the answer to its sender. Raises QueueError."""
    check_ids(queue, draft.group_id, draft.deduplication_id)
    if draft.size > queue.number("MaximumMessageSize"):
        limit = queue.attributes["MaximumMessageSize"]
        raise errors.invalid_value(
            f"One or more parameters are invalid. Reason: Message must be shorter than {limit} bytes."
        )
    if queue.fifo and draft.delay_s:
        raise errors.invalid_parameter(draft.delay_s, "DelaySeconds", _NOT_THIS_TYPE)
    if queue.fifo:
        deduplication_id = draft.deduplication_id or hashlib.sha256(draft.body.encode()).hexdigest()
        seq, message_id = _put_once(connection, queue, draft, deduplication_id, now_ms)
    else:
        seq, message_id = _put(connection, queue, draft, None, now_ms)
    answer = {"MessageId": message_id, "MD5OfMessageBody": _md5(draft.body)}
    if draft.attributes:
        answer["MD5OfMessageAttributes"] = md5_of(draft.attributes)
    if draft.trace:
        answer["MD5OfMessageSystemAttributes"] = md5_of(draft.trace)
    if queue.fifo:
        answer["SequenceNumber"] = sequence_number(seq)
    return answer


def _put_once(
    connection: sqlite3.Connection, queue: Queue, draft: Draft, deduplication_id: str, now_ms: int
) -> tuple[int, str]:
    """Put a message unless it was sent within five minutes; give what the first was given."""
    oldest_ms = now_ms - 1_000 * limits.DEDUPLICATION_S
    connection.execute("DELETE FROM sent_before WHERE sent_ms <= ?", (oldest_ms,))
    condition = "queue = ? AND deduplication_id = ?"
    wanted: tuple[object, ...] = (queue.id, deduplication_id)
    if queue.attributes["DeduplicationScope"] == "messageGroup":
        condition += " AND group_id = ?"
        wanted = (*wanted, draft.group_id)
    before = connection.execute(
        f"SELECT seq, message_id FROM sent_before WHERE {condition} ORDER BY seq LIMIT 1",  # noqa: S608 - of two texts
        wanted,
    ).fetchone()
    if before is not None:
        seq, message_id = before
        return seq, message_id
    seq, message_id = _put(connection, queue, draft, deduplication_id, now_ms)
    connection.execute(
        "INSERT INTO sent_before VALUES (?, ?, ?, ?, ?, ?)",
        (queue.id, deduplication_id, draft.group_id, seq, message_id, now_ms),
    )
    return seq, message_id


def _put(
    connection: sqlite3.Connection, queue: Queue, draft: Draft, deduplication_id: str | None, now_ms: int
) -> tuple[int, str]:
    """Put a message; give its place and its id."""
    message_id = str(uuid.uuid4())
    # On a FIFO queue no delay of its own is left here but 0, which means the queue's (as AWS has it).
    own_delay = None if queue.fifo else draft.delay_s
    delay_s = queue.number("DelaySeconds") if own_delay is None else own_delay
    visible_ms = now_ms + 1_000 * delay_s
    seq = connection.execute(
        "INSERT INTO messages (queue, group_id, sent_ms, visible_ms) VALUES (?, ?, ?, ?)",
        (queue.id, draft.group_id, now_ms, visible_ms),
    ).lastrowid
    assert seq is not None  # noqa: S101 - an INSERT has one
    connection.execute(
        "INSERT INTO contents VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            seq,
            message_id,
            deduplication_id,
            draft.trace[_TRACE]["StringValue"] if draft.trace else None,
            json.dumps(draft.attributes) if draft.attributes else None,
            _md5(draft.body),
            draft.body,
        ),
    )
    if queue.fifo:
        assert draft.group_id is not None  # noqa: S101 - checked before
        groups.enter(connection, queue.id, draft.group_id, seq, visible_ms)
    return seq, message_id


def _md5(body: str) -> str:
    return hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()
