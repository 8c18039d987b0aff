"""Client-side flow control: at most so many events beyond the last one that the client has acknowledged."""

from __future__ import annotations

from shared.position import ZERO, Position

#: The largest window that a client may ask for, events.
MAX_WINDOW = 10_000


class Window:
    """Counts what was sent and not acknowledged yet. ``size`` is in events."""

    __slots__ = ("_acked", "_size", "_unacked", "highest")

    def __init__(self, size: int) -> None:
        self._size = size
        self._acked = ZERO
        self._unacked: list[Position] = []
        self.highest = ZERO
        """The highest position that was sent or acknowledged. Kept, as it is asked for with every event."""

    @property
    def room(self) -> int:
        """How many events may be sent now."""
        return max(0, self._size - len(self._unacked))

    def sent(self, position: Position) -> None:
        """Note that an event was sent. Events of several topics may come out of order."""
        if position > self._acked:
            self._unacked.append(position)
            self.highest = max(self.highest, position)

    def ack(self, cursor: Position) -> None:
        """Note that the client has everything up to a cursor. It never moves back."""
        if cursor > self._acked:
            self._acked = cursor
            self.highest = max(self.highest, cursor)
            self._unacked = [position for position in self._unacked if position > cursor]
