"""Handing out: what of each topic the followers of this process have been given, and what comes next.

For each topic there is the position up to which everything has been handed out (`proven`). A live event whose
``prev`` is not above it is the next one and goes straight to the followers. Any other means that something was
missed: it waits, and the topic is to be read.

An event is encoded once and the same bytes go to every follower.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from shared.entry import Entry, Reading, TopicRead
from shared.follower import Event, Follower, Proven
from shared.position import ZERO, Position

_MAX_PENDING = 1000


@dataclass(slots=True, eq=False, repr=False)
class Counters:
    """What the hub has done since it began."""

    live_messages: int = 0
    signals: int = 0
    feeds_opened: int = 0
    reads: int = 0
    missed: int = 0
    fences: int = 0
    gaps: int = 0
    suspected_feeds: int = 0


@dataclass(slots=True, eq=False, repr=False)
class Topic:
    """One topic that is followed, or was a moment ago."""

    name: str
    followers: set[Follower] = field(default_factory=set)
    #: Everything up to here has been handed out; None until a first read, made after the feed opened, has said.
    proven: Position | None = None
    #: The clock of that first read.
    seeded: Position = ZERO
    #: The last event handed out: an event that follows it directly names it as `prev`.
    newest: Position = ZERO
    born_told: Position = ZERO
    #: Live events that wait for a read.
    pending: list[Entry] = field(default_factory=list)
    overflowed: bool = False
    #: An event that a reconcile found before the feed brought it.
    late: Position | None = None
    empty_since: float | None = None

    def has_forgotten(self, read: TopicRead) -> bool:
        """Whether an event that was handed out is missing in the log under an event that followed it."""
        after = [entry for entry in read.entries if entry.position > self.newest]
        return read.gap is None and bool(after) and after[0].prev < self.newest


class Fanout:
    """Hands events to followers, topic by topic. ``on_dirty`` is called when one of `dirty` is to be read."""

    def __init__(self, counters: Counters, on_dirty: Callable[[], None]) -> None:
        self.topics: dict[str, Topic] = {}
        #: Topics of which something was missed.
        self.dirty: set[str] = set()
        #: Topics that are being read because of that.
        self.reading: set[str] = set()
        self._counters = counters
        self._on_dirty = on_dirty

    def mark(self, topic: Topic) -> None:
        """Say that a topic is to be read."""
        self.dirty.add(topic.name)
        self._on_dirty()

    def forget(self, topic: Topic) -> None:
        """Drop a topic that nobody follows."""
        del self.topics[topic.name]
        self.dirty.discard(topic.name)

    def seed(self, reading: Reading) -> bool:
        """Begin topics with a first read; see `shared.hub.Hub.seed`."""
        seamless = True
        for read in reading.topics:
            topic = self.topics.get(read.topic)
            if topic is None:
                continue
            if topic.proven is not None:
                seamless = seamless and reading.clock >= topic.seeded
            else:
                topic.proven = topic.seeded = reading.clock
                topic.born_told = reading.born
                if topic.overflowed:
                    topic.overflowed = False
                    self.mark(topic)
                else:
                    self._drain(topic)
        return seamless

    def take(self, topic: Topic, entry: Entry) -> None:
        """Take a live event."""
        if topic.late is not None and entry.position >= topic.late:
            topic.late = None
        if topic.proven is None or topic.name in self.dirty or topic.name in self.reading:
            self._hold(topic, entry)
        else:
            self._advance(topic, entry)

    def apply(self, topic: Topic, read: TopicRead, born: Position) -> Position | None:
        """Hand out what a read after `proven` has shown. Returns the first event that no feed had brought."""
        assert topic.proven is not None  # noqa: S101 - callers see to it
        if read.gap is not None and (read.gap.born > topic.born_told or read.gap.resume > topic.proven):
            self._counters.gaps += 1
            topic.newest = ZERO
            for follower in topic.followers:
                follower.offer(read.gap)
        topic.born_told = max(topic.born_told, born)
        new = [entry for entry in read.entries if entry.position > topic.proven]
        for entry in new:
            self._hand_out(topic, entry)
        topic.proven = max(topic.proven, read.end)
        mark = Proven(topic.name, topic.proven)
        for follower in topic.followers:
            follower.offer(mark)
        if read.truncated or topic.overflowed:
            topic.overflowed = False
            self.mark(topic)
        self._drain(topic)
        return new[0].position if new else None

    def _advance(self, topic: Topic, entry: Entry) -> None:
        """Hand out a live event if it is the next one; have the log read first if it is not."""
        assert topic.proven is not None  # noqa: S101 - callers see to it
        if entry.position <= topic.proven:
            return
        if entry.prev > topic.proven:
            self._counters.missed += 1
            self._hold(topic, entry)
            self.mark(topic)
        elif entry.prev < topic.newest:
            # The event that was handed out last is unknown to the log: it has forgotten.
            self._hold(topic, entry)
            self.mark(topic)
        else:
            self._hand_out(topic, entry)

    @staticmethod
    def _hand_out(topic: Topic, entry: Entry) -> None:
        topic.proven = topic.newest = entry.position
        event = Event.of(entry)
        for follower in topic.followers:
            follower.offer(event)

    @staticmethod
    def _hold(topic: Topic, entry: Entry) -> None:
        if len(topic.pending) >= _MAX_PENDING:
            topic.pending.clear()
            topic.overflowed = True
        topic.pending.append(entry)

    def _drain(self, topic: Topic) -> None:
        pending, topic.pending = sorted(topic.pending, key=lambda entry: entry.position), []
        for entry in pending:
            if topic.name in self.dirty:
                self._hold(topic, entry)
            else:
                self._advance(topic, entry)
