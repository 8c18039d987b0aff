"""What a receiver does with a message that it was given: delete it, or change how long it stays hidden."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

from infra.local.queue import errors, groups, limits
from infra.local.queue.fields import Fields
from infra.local.queue.queues import Queue
from infra.local.queue.receipts import read_handle

_VISIBILITY: Final = "VisibilityTimeout"


@dataclass(frozen=True, slots=True)
class _Held:
    """The message that a receipt handle is for."""

    seq: int
    group_id: str | None
    received_ms: int
    expired: bool
    """It can be received again, or was: on a FIFO queue the handle is worth nothing then."""


def _find(connection: sqlite3.Connection, queue: Queue, handle: str, now_ms: int) -> _Held | None:
    """Find the message, None when it is gone. Raises QueueError for what is no handle of this queue."""
    receipt = read_handle(handle, queue.id)
    row = connection.execute(
        "SELECT group_id, received_ms, receives, visible_ms FROM messages WHERE seq = ? AND queue = ?",
        (receipt.seq, queue.id),
    ).fetchone()
    if row is None:
        return None
    group_id, received_ms, receives, visible_ms = row
    return _Held(receipt.seq, group_id, received_ms, receives != receipt.receive or visible_ms <= now_ms)


def read_visibility(fields: Fields) -> int:
    """Read the time-out that a message is to have. Raises QueueError."""
    reason = "VisibilityTimeout must be an integer between 0 and 43200."
    visibility_s = fields.bounded(_VISIBILITY, 0, limits.VISIBILITY_S, reason)
    if visibility_s is None:
        raise errors.missing(_VISIBILITY)
    return visibility_s


def delete(connection: sqlite3.Connection, queue: Queue, handle: str, now_ms: int) -> None:
    """Delete a message; one that is gone already counts as deleted. Raises QueueError.

    On a standard queue any handle that the message ever had will do. On a FIFO queue only the last, while it holds.
    """
    held = _find(connection, queue, handle, now_ms)
    if held is None:
        return
    if queue.fifo and held.expired:
        raise errors.invalid_parameter(handle, "ReceiptHandle", "The receipt handle has expired.")
    connection.execute("DELETE FROM messages WHERE seq = ?", (held.seq,))
    if queue.fifo:
        groups.settle(connection, queue.id, (held.group_id,))


def change_visibility(
    connection: sqlite3.Connection, queue: Queue, handle: str, visibility_s: int, now_ms: int
) -> None:
    """Let a message be hidden for so long from now on. Raises QueueError."""
    held = _find(connection, queue, handle, now_ms)
    if held is None or (queue.fifo and held.expired):
        reason = "Message does not exist or is not available for visibility timeout change."
        raise errors.invalid_parameter(handle, "ReceiptHandle", reason)
    if visibility_s + (now_ms - held.received_ms) // 1_000 > limits.VISIBILITY_S:
        reason = f"Total VisibilityTimeout for the message is beyond the limit [{limits.VISIBILITY_S} seconds]"
        raise errors.invalid_parameter(visibility_s, _VISIBILITY, reason)
    connection.execute("UPDATE messages SET visible_ms = ? WHERE seq = ?", (now_ms + 1_000 * visibility_s, held.seq))
    if queue.fifo:
        groups.settle(connection, queue.id, (held.group_id,))
