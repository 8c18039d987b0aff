"""The queues in the database: found, created, changed, emptied, deleted."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from infra.local.queue import errors, limits
from infra.local.queue.queue_attributes import Redrive, check_same, check_together, defaults, redrive_of

_COLUMNS: Final = "id, name, attributes, created_s, modified_s, purged_s"


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as it stands in the database. ``attributes`` are those that can be set."""

    id: int
    name: str
    attributes: Mapping[str, str]
    created_s: int
    modified_s: int
    purged_s: int

    @property
    def fifo(self) -> bool:
        """Whether it is a FIFO queue."""
        return limits.is_fifo_name(self.name)

    @property
    def redrive(self) -> Redrive | None:
        """Where its messages go that were received too often."""
        return redrive_of(self.attributes)

    def number(self, attribute: str) -> int:
        """Give the value of an attribute that is a number."""
        return int(self.attributes[attribute])


def arn(region: str, name: str) -> str:
    """Give a queue's Amazon resource name."""
    return f"arn:aws:sqs:{region}:{limits.ACCOUNT}:{name}"


def look_up(connection: sqlite3.Connection, name: str) -> Queue | None:
    """Find a queue by its name."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM queues WHERE name = ?", (name,)).fetchone()  # noqa: S608
    if row is None:
        return None
    number, found, attributes, created_s, modified_s, purged_s = row
    return Queue(number, found, json.loads(attributes), created_s, modified_s, purged_s)


def find(connection: sqlite3.Connection, name: str) -> Queue:
    """Find a queue by its name. Raises QueueError."""
    queue = look_up(connection, name)
    if queue is None:
        raise errors.no_such_queue()
    return queue


def create(connection: sqlite3.Connection, name: str, given: Mapping[str, str], now_s: int) -> None:
    """Create a queue, or find that it is there with the same values. Raises QueueError."""
    existing = look_up(connection, name)
    if existing is not None:
        check_same(given, existing.attributes)
        return
    deleted = connection.execute("SELECT deleted_s FROM deleted_queues WHERE name = ?", (name,)).fetchone()
    if deleted is not None and deleted[0] > now_s - limits.DELETE_PAUSE_S:
        raise errors.deleted_recently()
    create_now(connection, name, given, now_s)


def create_now(connection: sqlite3.Connection, name: str, given: Mapping[str, str], now_s: int) -> None:
    """Create a queue that is not there, whether or not one of its name was deleted just now."""
    attributes = {**defaults(fifo=limits.is_fifo_name(name)), **given}
    check_together(attributes)
    connection.execute("DELETE FROM deleted_queues WHERE name = ?", (name,))
    connection.execute(
        "INSERT INTO queues (name, attributes, created_s, modified_s) VALUES (?, ?, ?, ?)",
        (name, json.dumps(attributes), now_s, now_s),
    )


def change(connection: sqlite3.Connection, queue: Queue, given: Mapping[str, str], now_s: int) -> None:
    """Set attributes. Raises QueueError.

    A new delay holds for messages that a FIFO queue has already, and not for those that a standard queue has.
    """
    attributes = {**queue.attributes, **given}
    check_together(attributes)
    connection.execute(
        "UPDATE queues SET attributes = ?, modified_s = ? WHERE id = ?", (json.dumps(attributes), now_s, queue.id)
    )
    if queue.fifo and "DelaySeconds" in given:
        delay_ms = 1_000 * int(given["DelaySeconds"])
        connection.execute(
            "UPDATE messages SET visible_ms = sent_ms + ? WHERE queue = ? AND receives = 0", (delay_ms, queue.id)
        )
        connection.execute(
            "UPDATE message_groups SET ready_ms = (SELECT visible_ms FROM messages WHERE seq = head) WHERE queue = ?",
            (queue.id,),
        )


def purge(connection: sqlite3.Connection, queue: Queue, now_s: int) -> None:
    """Delete all messages of a queue. Raises QueueError within a minute of the last time."""
    if now_s < queue.purged_s + limits.PURGE_PAUSE_S:
        raise errors.purge_in_progress(queue.name)
    connection.execute("DELETE FROM messages WHERE queue = ?", (queue.id,))
    connection.execute("DELETE FROM message_groups WHERE queue = ?", (queue.id,))
    connection.execute("UPDATE queues SET purged_s = ? WHERE id = ?", (now_s, queue.id))


def delete(connection: sqlite3.Connection, queue: Queue, now_s: int) -> None:
    """Delete a queue with its messages."""
    connection.execute("DELETE FROM queues WHERE id = ?", (queue.id,))
    connection.execute("INSERT OR REPLACE INTO deleted_queues VALUES (?, ?)", (queue.name, now_s))


def names(connection: sqlite3.Connection) -> list[str]:
    """Give the names of all queues, in order."""
    return [name for (name,) in connection.execute("SELECT name FROM queues ORDER BY name")]


def counts(connection: sqlite3.Connection, queue: Queue, now_ms: int) -> tuple[int, int, int]:
    """Count the messages that can be received, those in flight, and those that are delayed."""
    (visible,) = connection.execute(
        "SELECT count(*) FROM messages WHERE queue = ? AND visible_ms <= ?", (queue.id, now_ms)
    ).fetchone()
    (later,) = connection.execute(
        "SELECT count(*) FROM messages WHERE queue = ? AND visible_ms > ?", (queue.id, now_ms)
    ).fetchone()
    flying = in_flight(connection, queue, now_ms)
    return visible, flying, later - flying


def in_flight(connection: sqlite3.Connection, queue: Queue, now_ms: int) -> int:
    """Count the messages in flight."""
    (number,) = connection.execute(
        "SELECT count(*) FROM messages WHERE queue = ? AND visible_ms > ? AND receives > 0", (queue.id, now_ms)
    ).fetchone()
    count: int = number
    return count
