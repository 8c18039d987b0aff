"""Client-side flow control: at most so many events beyond the last one that the client has acknowledged."""

from __future__ import annotations

from shared.position import ZERO, Position

#: The largest window that a client may ask for, events.
MAX_WINDOW = 10_000


class Window:
    """Counts what was sent and not acknowledged yet. ``size`` is in events."""

    __slots__ = ("_acked", "_size", "_unacked")

    def __init__(self, size: int) -> None:
        self._size = size
        self._acked = ZERO
        self._unacked: list[Position] = []

    @property
    def room(self) -> int:
        """How many events may be sent now."""
        return max(0, self._size - len(self._unacked))

    @property
    def highest(self) -> Position:
        """The highest position that waits to be acknowledged, or else the last acknowledged one."""
        return max(self._unacked, default=self._acked)

    def sent(self, position: Position) -> None:
        """Note that an event was sent. Events of several topics may come out of order."""
        if position > self._acked:
            self._unacked.append(position)

    def ack(self, cursor: Position) -> None:
        """Note that the client has everything up to a cursor. It never moves back."""
        if cursor > self._acked:
            self._acked = cursor
            self._unacked = [position for position in self._unacked if position > cursor]
