"""Receiving: which messages are given, in which order, and what becomes of those given too often or held too long."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from infra.local.queue import errors, groups, limits
from infra.local.queue.fields import Fields
from infra.local.queue.message_attributes import md5_of, selected
from infra.local.queue.queues import Queue, arn, in_flight, look_up
from infra.local.queue.receipts import Receipt
from infra.local.queue.sending import sequence_number

SYSTEM_ATTRIBUTES: Final = frozenset(
    {
        "All",
        "SenderId",
        "SentTimestamp",
        "ApproximateReceiveCount",
        "ApproximateFirstReceiveTimestamp",
        "SequenceNumber",
        "MessageDeduplicationId",
        "MessageGroupId",
        "AWSTraceHeader",
        "DeadLetterQueueSourceArn",
    }
)
_SENDER: Final = "AIDALOCALQUEUESERVER0"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a receiver asks for."""

    number: int
    visibility_s: int | None
    wait_s: int | None
    system_attributes: Sequence[str]
    attributes: Sequence[str]


def read_wish(fields: Fields) -> Wish:
    """Read the members of ReceiveMessage. Raises QueueError."""
    system = [*fields.texts("AttributeNames"), *fields.texts("MessageSystemAttributeNames")]
    for name in system:
        if name not in SYSTEM_ATTRIBUTES:
            raise errors.unknown_attribute(name)
    number = fields.bounded(
        "MaxNumberOfMessages", 1, limits.RECEIVE_MESSAGES, "Must be between 1 and 10, if provided."
    )
    return Wish(
        number=1 if number is None else number,
        visibility_s=fields.bounded(
            "VisibilityTimeout", 0, limits.VISIBILITY_S, "Must be >= 0 and <= 43200, if provided."
        ),
        wait_s=fields.bounded("WaitTimeSeconds", 0, limits.WAIT_S, "Must be >= 0 and <= 20, if provided."),
        system_attributes=system,
        attributes=fields.texts("MessageAttributeNames"),
    )


@dataclass(slots=True)
class Received:
    """What there was. ``wait_s`` is how long the receiver wants to wait for more than nothing."""

    messages: list[dict[str, Any]]
    wait_s: int
    next_ms: int | None
    """When a message can be received that cannot be now, if none comes before."""
    redriven_to: str | None = None
    """The name of the queue that got messages meanwhile."""


@dataclass(slots=True)
class _Picked:
    """What a receive takes: (seq, group), and the queue's name that messages were redriven to."""

    rows: list[tuple[int, str | None]] = field(default_factory=list)
    redriven_to: str | None = None


class Receiver:
    """One receive from one queue."""

    def __init__(
        self, connection: sqlite3.Connection, queue: Queue, *, now_ms: int, region: str, most_in_flight: int
    ) -> None:
        self._connection = connection
        self._queue = queue
        self._now_ms = now_ms
        self._region = region
        self._most_in_flight = most_in_flight

    def receive(self, wish: Wish) -> Received:
        """Take what can be received. Raises QueueError when too much is in flight."""
        queue = self._queue
        expire(self._connection, queue, self._now_ms)
        wait_s = queue.number("ReceiveMessageWaitTimeSeconds") if wish.wait_s is None else wish.wait_s
        number = min(wish.number, self._most_in_flight - in_flight(self._connection, queue, self._now_ms))
        if number <= 0:
            if wait_s == 0 and not queue.fifo:  # AWS says so to short polls of standard queues alone
                raise errors.over_limit("Too many messages are in flight for the queue.")
            picked = _Picked()
        else:
            picked = self._pick_fifo(number) if queue.fifo else self._pick(number)
        visibility_s = queue.number("VisibilityTimeout") if wish.visibility_s is None else wish.visibility_s
        messages = [self._take(seq, visibility_s, wish) for seq, _ in picked.rows]
        groups.settle(self._connection, queue.id, {group_id for _, group_id in picked.rows} if queue.fifo else ())
        return Received(messages, wait_s, None if messages else self._next_ms(), picked.redriven_to)

    def _pick(self, number: int) -> _Picked:
        picked = _Picked()
        while True:
            rows = self._connection.execute(
                "SELECT seq, group_id, receives FROM messages WHERE queue = ? AND visible_ms <= ? "
                "ORDER BY visible_ms, seq LIMIT ?",
                (self._queue.id, self._now_ms, number),
            ).fetchall()
            if not self._redrive(rows, picked):
                picked.rows = [(seq, group_id) for seq, group_id, _ in rows]
                return picked

    def _pick_fifo(self, number: int) -> _Picked:
        """Take as many as can be had of one group before the next."""
        picked = _Picked()
        for group_id in groups.ready(self._connection, self._queue.id, self._now_ms, number):
            while len(picked.rows) < number:
                rows = self._leading(group_id, number - len(picked.rows))
                if not self._redrive(rows, picked):
                    picked.rows += [(seq, group_id) for seq, _, _ in rows]
                    break
        return picked

    def _leading(self, group_id: str, number: int) -> list[tuple[int, str | None, int]]:
        """Give the group's oldest messages, up to the first that cannot be received."""
        rows = self._connection.execute(
            "SELECT seq, receives, visible_ms FROM messages WHERE queue = ? AND group_id = ? ORDER BY seq LIMIT ?",
            (self._queue.id, group_id, number),
        )
        leading: list[tuple[int, str | None, int]] = []
        for seq, receives, visible_ms in rows:
            if visible_ms > self._now_ms:
                break
            leading.append((seq, group_id, receives))
        return leading

    def _redrive(self, rows: list[tuple[int, str | None, int]], picked: _Picked) -> bool:
        """Move those that were received too often to the dead letter queue; tell whether there were any."""
        policy = self._queue.redrive
        if policy is None:
            return False
        target = look_up(self._connection, policy.target.rpartition(":")[2])
        if target is None:  # deleted meanwhile: there is nowhere to move them to
            return False
        dead = [row for row in rows if row[2] >= policy.max_receives]
        for seq, group_id, _ in dead:
            self._move(seq, group_id, target)
        if dead:
            picked.redriven_to = target.name
        return bool(dead)

    def _move(self, seq: int, group_id: str | None, target: Queue) -> None:
        """Put a message at the end of another queue. Its age goes on in a standard queue, and begins anew in FIFO."""
        source_arn = arn(self._region, self._queue.name)
        moved = self._connection.execute(
            "INSERT INTO messages (queue, group_id, sent_ms, visible_ms, receives, first_received_ms, source_arn) "
            "SELECT ?1, group_id, iif(?5, ?4, sent_ms), ?4, receives, first_received_ms, ?2 "
            "FROM messages WHERE seq = ?3",
            (target.id, source_arn, seq, self._now_ms, target.fifo),
        ).lastrowid
        assert moved is not None  # noqa: S101 - an INSERT has one
        self._connection.execute("UPDATE contents SET seq = ? WHERE seq = ?", (moved, seq))
        self._connection.execute("DELETE FROM messages WHERE seq = ?", (seq,))
        if target.fifo and group_id is not None:
            groups.enter(self._connection, target.id, group_id, moved, self._now_ms)
            groups.settle(self._connection, self._queue.id, (group_id,))

    def _take(self, seq: int, visibility_s: int, wish: Wish) -> dict[str, Any]:
        """Hide a message for its time-out; give it as the receiver gets it."""
        self._connection.execute(
            "UPDATE messages SET receives = receives + 1, received_ms = ?1, visible_ms = ?2, "
            "first_received_ms = CASE first_received_ms WHEN 0 THEN ?1 ELSE first_received_ms END WHERE seq = ?3",
            (self._now_ms, self._now_ms + 1_000 * visibility_s, seq),
        )
        receives, sent_ms, first_ms, group_id, source_arn = self._connection.execute(
            "SELECT receives, sent_ms, first_received_ms, group_id, source_arn FROM messages WHERE seq = ?", (seq,)
        ).fetchone()
        message_id, deduplication_id, trace_header, attributes, body_md5, body = self._connection.execute(
            "SELECT message_id, deduplication_id, trace_header, attributes, body_md5, body "
            "FROM contents WHERE seq = ?",
            (seq,),
        ).fetchone()
        message: dict[str, Any] = {
            "MessageId": message_id,
            "ReceiptHandle": Receipt(self._queue.id, seq, receives).handle(),
            "MD5OfBody": body_md5,
            "Body": body,
        }
        if wish.system_attributes:
            system = {
                "SenderId": _SENDER,
                "SentTimestamp": str(sent_ms),
                "ApproximateReceiveCount": str(receives),
                "ApproximateFirstReceiveTimestamp": str(first_ms),
                "SequenceNumber": sequence_number(seq) if self._queue.fifo else None,
                "MessageDeduplicationId": deduplication_id,
                "MessageGroupId": group_id,
                "AWSTraceHeader": trace_header,
                "DeadLetterQueueSourceArn": source_arn,
            }
            wanted = system.keys() if "All" in wish.system_attributes else wish.system_attributes
            message["Attributes"] = {name: system[name] for name in wanted if system[name] is not None}
        if attributes is not None and wish.attributes:
            chosen = selected(json.loads(attributes), wish.attributes)
            if chosen:
                message["MessageAttributes"] = chosen
                message["MD5OfMessageAttributes"] = md5_of(chosen)
        return message

    def _next_ms(self) -> int | None:
        if self._queue.fifo:
            return groups.next_ready_ms(self._connection, self._queue.id, self._now_ms)
        (next_ms,) = self._connection.execute(
            "SELECT min(visible_ms) FROM messages WHERE queue = ? AND visible_ms > ?", (self._queue.id, self._now_ms)
        ).fetchone()
        found: int | None = next_ms
        return found


def expire(connection: sqlite3.Connection, queue: Queue, now_ms: int) -> None:
    """Delete what is older than the queue's retention, in flight or not: nobody is told."""
    oldest_ms = now_ms - 1_000 * queue.number("MessageRetentionPeriod")
    gone = connection.execute(
        "SELECT DISTINCT group_id FROM messages WHERE queue = ? AND sent_ms <= ?", (queue.id, oldest_ms)
    ).fetchall()
    if gone:
        connection.execute("DELETE FROM messages WHERE queue = ? AND sent_ms <= ?", (queue.id, oldest_ms))
        groups.settle(connection, queue.id, [group_id for (group_id,) in gone] if queue.fifo else ())
