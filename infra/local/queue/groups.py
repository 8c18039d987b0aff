"""Message groups of FIFO queues: each waits for its oldest message.

AWS gives a group's messages in their order, and none past one that is in flight. So a group can be received from
when its oldest message can: it is indexed by that time, and a receive looks at no group that waits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable


def enter(connection: sqlite3.Connection, queue: int, group_id: str, seq: int, visible_ms: int) -> None:
    """Note a new message: it changes a group only if it is the first."""
    connection.execute("INSERT OR IGNORE INTO message_groups VALUES (?, ?, ?, ?)", (queue, group_id, seq, visible_ms))


def settle(connection: sqlite3.Connection, queue: int, group_ids: Iterable[str | None]) -> None:
    """Note what became of groups of which messages were received, hidden, shown or deleted; None is no group."""
    for group_id in group_ids:
        if group_id is None:
            continue
        head = connection.execute(
            "SELECT seq, visible_ms FROM messages WHERE queue = ? AND group_id = ? ORDER BY seq LIMIT 1",
            (queue, group_id),
        ).fetchone()
        if head is None:
            connection.execute("DELETE FROM message_groups WHERE queue = ? AND group_id = ?", (queue, group_id))
        else:
            connection.execute("INSERT OR REPLACE INTO message_groups VALUES (?, ?, ?, ?)", (queue, group_id, *head))


def ready(connection: sqlite3.Connection, queue: int, now_ms: int, limit: int) -> list[str]:
    """Give groups that can be received, those first that have waited longest since they could."""
    rows = connection.execute(
        "SELECT group_id FROM message_groups WHERE queue = ? AND ready_ms <= ? ORDER BY ready_ms, head LIMIT ?",
        (queue, now_ms, limit),
    )
    return [group_id for (group_id,) in rows]


def next_ready_ms(connection: sqlite3.Connection, queue: int, now_ms: int) -> int | None:
    """Give the time at which the next group can be received, None if none waits."""
    (next_ms,) = connection.execute(
        "SELECT min(ready_ms) FROM message_groups WHERE queue = ? AND ready_ms > ?", (queue, now_ms)
    ).fetchone()
    found: int | None = next_ms
    return found
