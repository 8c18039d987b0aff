"""What a stream holds for a client that reads slowly: bounded in events and in bytes.

Beyond the bound the log is the buffer. Before that, events that were marked as being of low priority give way: of
those of one key only the newest is kept.
"""

from __future__ import annotations

from collections import deque

from shared.counts import Counts
from shared.entry import Gap
from shared.follower import Event, Proven

MAX_EVENTS = 256
MAX_BYTES = 262_144
#: The gauges: the most that any stream of this process has ever held.
MOST_EVENTS = "buffered_events_most"
MOST_BYTES = "buffered_bytes_most"

Item = Event | Gap | Proven


class Buffer:
    """Items that the hub has offered, in their order. ``coalesced`` counts the events that gave way."""

    __slots__ = ("_bytes", "_counts", "_items", "_low", "_most_bytes", "_most_events", "coalesced")

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._low = 0
        # Its own marks: nearly every event finds it empty, and need not look further.
        self._most_events = self._most_bytes = 0
        self.coalesced = 0

    def __len__(self) -> int:
        return len(self._items)

    def push(self, item: Item) -> bool:
        """Take an item, unless there is no room for it: then False, and all that is left is to `clear`."""
        size = len(item.data) if isinstance(item, Event) else 0
        if len(self._items) >= MAX_EVENTS or self._bytes + size > MAX_BYTES:
            self._coalesce(item)
            if len(self._items) >= MAX_EVENTS or self._bytes + size > MAX_BYTES:
                return False
        self._items.append(item)
        if isinstance(item, Event):
            self._bytes += size
            self._low += item.low is not None
        if len(self._items) > self._most_events:
            self._most_events = len(self._items)
            self._counts.reach(MOST_EVENTS, self._most_events)
        if self._bytes > self._most_bytes:
            self._most_bytes = self._bytes
            self._counts.reach(MOST_BYTES, self._most_bytes)
        return True

    def peek(self) -> Item:
        """Return the first item. Raises IndexError when there is none."""
        return self._items[0]

    def pop(self) -> Item:
        """Take the first item out. Raises IndexError when there is none."""
        item = self._items.popleft()
        if isinstance(item, Event):
            self._bytes -= len(item.data)
            self._low -= item.low is not None
        return item

    def clear(self) -> None:
        """Forget every item; what had given way to one of them counts no more."""
        self._items.clear()
        self._bytes = self._low = self.coalesced = 0

    def _coalesce(self, coming: Item) -> None:
        """Drop every event of low priority that a newer one of its topic and key follows, ``coming`` included."""
        if not self._low:
            return
        newer: set[tuple[str, str]] = set()
        if isinstance(coming, Event) and coming.low is not None:
            newer.add((coming.topic, coming.low))
        kept: deque[Item] = deque()
        for item in reversed(self._items):
            if isinstance(item, Event) and item.low is not None:
                key = (item.topic, item.low)
                if key in newer:
                    self._bytes -= len(item.data)
                    self._low -= 1
                    self.coalesced += 1
                    continue
                newer.add(key)
            kept.appendleft(item)
        self._items = kept
