"""What a stream may say next: pages of the log first, then what the hub offers, as fast as its client wants it.

It knows what was sent of each topic and which cursor the client was told. It neither reads nor writes: see
`functions.stream.session`.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from functions.stream.buffer import Buffer, Item
from functions.stream.order import Order
from functions.stream.pace import MIN_PAGE, Drain, Pace
from functions.stream.window import Window
from shared import sse
from shared.counts import Counts
from shared.entry import Entry, Gap, Reading, merge, starting_cursor
from shared.follower import Event, Proven
from shared.log import From
from shared.position import ZERO, Position

PAGE_LIMIT = 500
#: So much is handed to the server at a time; it holds no more than that and what it has not sent before.
CHUNK_BYTES = 65_536
_UNLIMITED: Final = sys.maxsize


class _PageEnd(NamedTuple):
    """Stands behind the last frame of a page: what is so once all of it is sent. ``gap`` is told only then."""

    cursor: Position
    more: bool
    born: Position
    gap: Gap | None


class Outgoing:
    """The frames of one stream, in their order. ``clock`` is monotonic seconds.

    Counts ``events_coalesced``, and keeps the gauges of `functions.stream.buffer`.
    """

    def __init__(self, order: Order, *, clock: Callable[[], float], counts: Counts) -> None:
        self.behind = False
        """Whether what the hub offers is not kept: the log must be read before the next live event is sent."""
        self.told = ZERO
        """The cursor that the client was told last."""
        self.buffer = Buffer(counts)
        self.window = None if order.window is None else Window(order.window)
        self._counts = counts
        self._clock = clock
        self._pace = None if order.max_rate is None else Pace(order.max_rate, clock())
        self._drain: Drain | None = None
        # A page of the log that is on its way out. Until it is through, what the hub offers has to wait.
        self._page: deque[bytes | Entry | _PageEnd] | None = None
        self._paging = True
        self._sent: dict[str, Position] = {}
        # Per topic, the beginning of the log's memory that the client was told of, or that lies below its cursor.
        self._born_told = dict.fromkeys(order.topics, ZERO)
        self._single = len(order.topics) == 1
        # What the log was last read for to prove. After a failover it may not reach that far: it is asked once.
        self._asked_to_prove = ZERO

    # --- what the hub says -------------------------------------------------------------------------------

    def offer(self, item: Item) -> bool:
        """Take an item from the hub; returns whether there may be something new to say."""
        if self.behind:
            return False
        if isinstance(item, Proven) and not self.buffer and not self._paging:
            self._sent[item.topic] = max(self._sent[item.topic], item.position)
            return False
        if not self.buffer.push(item):
            self.fall_behind()
        return not isinstance(item, Proven)

    def fall_behind(self) -> None:
        """Forget what the hub has offered: it does not follow directly on what was sent."""
        self.buffer.clear()
        self.behind = True

    # --- what the log says -------------------------------------------------------------------------------

    @property
    def wants_page(self) -> bool:
        """Whether the log has to be read: not for what may not be sent yet."""
        return self.behind and self._page is None and (self._room() > 0 or self._lacks_proof())

    def ask(self) -> Mapping[str, From]:
        """Return what to read from. What the hub offers from now on is kept behind that page."""
        self.buffer.clear()
        self.behind, self._paging = False, True
        return {topic: From(sent, self._born_told[topic]) for topic, sent in self._sent.items()}

    def begin(self, reading: Reading, limit: int) -> None:
        """Take the first reading of all."""
        self.told = starting_cursor(reading.topics)
        if self.window is not None:
            # Whoever begins at a cursor says that it has everything up to there.
            self.window.ack(self.told)
        self._sent = {topic.topic: topic.start for topic in reading.topics}
        self.take(reading, limit)

    def take(self, reading: Reading, limit: int) -> None:
        """Line the page of a reading up to be sent. Without an event, its gap is told with the cursor behind it."""
        page = merge(reading, limit)
        last = page.gaps[-1] if page.gaps and not page.entries else None
        self._page = deque(sse.gap(gap, None) for gap in page.gaps if gap is not last)
        self._page.extend(page.entries)
        self._page.append(_PageEnd(page.cursor, page.more, reading.born, last))
        for gap in page.gaps:
            self._born_told[gap.topic] = gap.born

    def page_limit(self) -> int:
        """How many events to read at once: what can be sent soon, a few at least."""
        limit = PAGE_LIMIT if self._drain is None else self._drain.page(PAGE_LIMIT)
        if self._pace is not None:
            limit = min(limit, self._pace.page(PAGE_LIMIT))
        if self.window is not None:
            limit = min(limit, max(MIN_PAGE, self.window.room))
        return limit

    def drained(self, size: int, seconds: float) -> None:
        """Hear that the client has taken so many bytes in so many seconds of being waited for."""
        if self._drain is None:
            self._drain = Drain()
        self._drain.took(size, seconds)

    # --- what may be said now ----------------------------------------------------------------------------

    @property
    def has_said_all(self) -> bool:
        """Whether nothing waits to be sent or to be read."""
        return not (self.behind or self._page or self.buffer)

    @property
    def waits_for_ack(self) -> bool:
        """Whether no event may be sent until the client acknowledges something."""
        return self.window is not None and not self.window.room

    def next_at(self) -> float | None:
        """When something that waits may be sent, if that is only a matter of time."""
        if self._pace is None or self.waits_for_ack or self.has_said_all:
            return None
        return self._pace.next_at()

    def _room(self) -> int:
        """How many events may be sent now."""
        if self._pace is None:
            return _UNLIMITED if self.window is None else self.window.room
        room = self._pace.room(self._clock())
        return room if self.window is None else min(room, self.window.room)

    def chunk(self) -> bytes:
        """Return the frames that may be sent now, about `CHUNK_BYTES` at most: of a page first, then live."""
        frames, events = self._events(self._room())
        if events and self._pace is not None:
            self._pace.spend(events)
        if self._drain is not None:
            if events:
                self._drain.wrote(sum(map(len, frames)), events)
            elif self.has_said_all:
                self._drain = None
        if self.buffer.coalesced:
            frames.append(self._tell_coalesced())
        if self.window is not None and self._lacks_proof():
            frames.append(self._prove())
        return b"".join(frames)

    def heartbeat(self) -> bytes:
        """Return a heartbeat."""
        return sse.heartbeat(self._advance_told())

    def _events(self, room: int) -> tuple[list[bytes], int]:
        """Take frames, ``room`` events at most, and count the events."""
        frames: list[bytes] = []
        size = events = 0
        while size < CHUNK_BYTES:
            if self._page is not None:
                frame, is_event = self._from_page(self._page, room - events)
            elif self.buffer and not self.behind:
                frame, is_event = self._from_buffer(room - events)
            else:
                break
            if frame is None:
                break
            frames.append(frame)
            size += len(frame)
            events += is_event
        return frames, events

    def _from_page(self, page: deque[bytes | Entry | _PageEnd], room: int) -> tuple[bytes | None, bool]:
        """Take the next frame of a page, and whether it is an event; None when it has to wait."""
        item = page[0]
        if isinstance(item, Entry):
            # One below what was sent already is let through: no cursor could pass it, and there would be no ack.
            owed = self.window is not None and item.position <= self.window.highest
            if room <= 0 and not owed:
                return None, False
            page.popleft()
            # All entries of all topics up to this one precede it, so its position is a safe cursor.
            self.told = max(self.told, item.position)
            if self.window is not None:
                self.window.sent(item.position)
            return sse.id_line(item.position) + sse.event_data(item), True
        page.popleft()
        return (self._end_page(item) if isinstance(item, _PageEnd) else item), False

    def _from_buffer(self, room: int) -> tuple[bytes | None, bool]:
        """Take the next frame of what the hub has offered: empty for what was sent before."""
        item = self.buffer.peek()
        sent = self._sent[item.topic]
        if isinstance(item, Event):
            if item.position <= sent:
                self.buffer.pop()
                return b"", False
            if room <= 0:
                return None, False
            self.buffer.pop()
            self._sent[item.topic] = item.position
            if self.window is not None:
                self.window.sent(item.position)
            if self._single:
                self.told = item.position
                return item.framed, True
            cursor = self._advance_told()
            return item.data if cursor is None else sse.id_line(cursor) + item.data, True
        self.buffer.pop()
        if isinstance(item, Proven):
            self._sent[item.topic] = max(sent, item.position)
        elif item.born > self._born_told[item.topic] or item.resume > sent:
            self._born_told[item.topic] = max(self._born_told[item.topic], item.born)
            return sse.gap(item, None), False
        return b"", False

    def _tell_coalesced(self) -> bytes:
        count, self.buffer.coalesced = self.buffer.coalesced, 0
        self._counts.count("events_coalesced", count)
        return sse.heartbeat(self._advance_told(), coalesced=count)

    def _end_page(self, end: _PageEnd) -> bytes:
        """Note that a page is sent; what is still to be said of it is returned."""
        self._page = None
        self._paging = False
        for topic, sent in self._sent.items():
            self._sent[topic] = max(sent, end.cursor)
        if end.more:
            self.fall_behind()
        else:
            self._born_told = dict.fromkeys(self._born_told, end.born)
        return b"" if end.gap is None else sse.gap(end.gap, self._advance_told())

    # --- the cursor --------------------------------------------------------------------------------------

    def _advance_told(self) -> Position | None:
        """Return the cursor if it is above the one that the client was last told, and note that it is told."""
        cursor = min(self._sent.values())
        if cursor <= self.told:
            return None
        self.told = cursor
        return cursor

    def _lacks_proof(self) -> bool:
        """Whether the window is used up by events that no cursor told so far covers: nothing could be acked."""
        window = self.window
        return window is not None and not window.room and self.told < window.highest

    def _prove(self) -> bytes:
        """Tell a cursor that covers all that was sent; if none is known yet, have the log read for it."""
        assert self.window is not None  # noqa: S101 - it is the window that lacks it
        highest = self.window.highest
        if self._page is not None:
            following = self._page[0]
            if not isinstance(following, Entry) or following.position <= highest:
                return b""  # there is more to send first
            # Everything below the next entry of the page was sent.
            self.told = highest
            return sse.heartbeat(highest)
        cursor = self._advance_told()
        if self.told < highest and self._asked_to_prove < highest and not self.behind:
            self._asked_to_prove = highest
            self.fall_behind()
        return b"" if cursor is None else sse.heartbeat(cursor)
