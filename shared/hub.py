"""The hub: one per process, between the live feed and every stream.

The live feed is fast and promises nothing; the log is slower and knows everything. For each topic the hub holds
the position up to which it has handed out everything (`proven`). A live event whose ``prev`` is not above it is
the next one and goes straight to the streams. Any other means that something was missed, and is read from the
log first. At every reconcile the log is asked whether anything was missed without a word.

An event is encoded once and the same bytes go to every stream.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from shared.entry import Entry, Reading, TopicRead
from shared.errors import BadCursorError, LogDefectError, LogUnavailableError
from shared.follower import Event, Follower, Proven
from shared.live import LiveFeed
from shared.log import MAX_READ_TOPICS, MAX_REVOCATIONS, From, Glance, Log, parse_live
from shared.position import ZERO, Position

logger = logging.getLogger("tidemark.hub")

#: How long a stream that opens waits for its live feed.
JOIN_TIMEOUT_S = 3.0
#: A topic that nobody follows any more is kept so long, for clients that come right back.
LINGER_S = 10.0
#: A live message that the log has shown may still be on its way; after so long its feed is held to be dead.
LATE_S = 1.0
_READ_LIMIT = 1000
_MAX_PENDING = 1000
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


@dataclass(slots=True)
class Counters:
    """What the hub has done since it began."""

    live_messages: int = 0
    feeds_opened: int = 0
    reads: int = 0
    missed: int = 0
    fences: int = 0
    gaps: int = 0
    suspected_feeds: int = 0


@dataclass(slots=True)
class _Topic:
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


class Hub:
    """Hands events of the log to the streams of this process.

    ``clock`` is monotonic seconds. `start` and `close` belong to the event loop that serves the streams.
    """

    def __init__(
        self, log: Log, live: LiveFeed, *, reconcile_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.counters = Counters()
        self._log = log
        self._live = live
        self._reconcile_s = reconcile_s
        self._clock = clock
        self._topics: dict[str, _Topic] = {}
        self._dirty: set[str] = set()
        self._reading: set[str] = set()
        self._work = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        # The last revocation that the followers have heard of.
        self._revoked_ms = 0
        self._reconciled: tuple[Position, Position] | None = None
        # How many times a follower follows a topic.
        self._followed = 0

    def start(self) -> None:
        """Begin to listen."""
        self._live.start(self)
        self._tasks = [
            asyncio.ensure_future(_keep_running(work)) for work in (self._repair_forever, self._reconcile_forever)
        ]

    async def close(self) -> None:
        """Stop listening and close the feeds."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._live.close()

    async def join(self, follower: Follower, topics: Sequence[str]) -> None:
        """Begin to hand events to a follower; returns when the live feed of each topic is open.

        A read made after this, together with what is offered from now on, misses nothing. Raises
        LogUnavailableError when the feed cannot be opened in time; the follower has then left again.
        """
        for name in topics:
            topic = self._topics.get(name)
            if topic is None:
                topic = self._topics[name] = _Topic(name)
                self._live.follow(name)
            if follower not in topic.followers:
                topic.followers.add(follower)
                self._followed += 1
            topic.empty_since = None
        try:
            async with asyncio.timeout(JOIN_TIMEOUT_S):
                await self._live.opened(topics)
        except TimeoutError:
            self.leave(follower, topics)
            raise LogUnavailableError("The live feed could not be opened.") from None
        except asyncio.CancelledError:
            self.leave(follower, topics)
            raise

    def leave(self, follower: Follower, topics: Sequence[str]) -> None:
        """Hand nothing more to a follower."""
        for name in topics:
            topic = self._topics.get(name)
            if topic is not None and follower in topic.followers:
                topic.followers.discard(follower)
                self._followed -= 1
                if not topic.followers:
                    topic.empty_since = self._clock()
        if self._followed == 0:
            # A Lambda environment without a stream may be frozen, and its feeds be dead when it thaws.
            self._forget_deserted(linger_s=0.0)

    def seed(self, reading: Reading) -> bool:
        """Take a joined follower's first read as the start of topics that were not followed before.

        The read was made after the feed had opened, so whatever it does not show is yet to come on the feed.
        Returns False when a read that was made later has begun a topic already: what lies between the two was
        handed out to nobody, so this follower must read once more.
        """
        seamless = True
        for read in reading.topics:
            topic = self._topics.get(read.topic)
            if topic is None:
                continue
            if topic.proven is not None:
                seamless = seamless and reading.clock >= topic.seeded
            else:
                topic.proven = topic.seeded = reading.clock
                topic.born_told = reading.born
                if topic.overflowed:
                    topic.overflowed = False
                    self._repair(topic)
                else:
                    self._drain(topic)
        return seamless

    # --- what the live feed says -------------------------------------------------------------------------

    def feed_opened(self, topics: Iterable[str]) -> None:
        """Read what may have been missed while a feed was away."""
        self.counters.feeds_opened += 1
        self._log.hear_of_life()
        for name in topics:
            topic = self._topics.get(name)
            if topic is not None and topic.proven is not None:
                self._repair(topic)

    def feed_message(self, topic: str, message: str) -> None:
        """Take a live message."""
        followed = self._topics.get(topic)
        if followed is None:
            return
        self.counters.live_messages += 1
        try:
            entry = parse_live(topic, message)
        except (ValueError, BadCursorError):
            # Of a later version, or torn by something on the way: the log knows.
            logger.warning("a live message could not be read")
            if followed.proven is not None:
                self._repair(followed)
            return
        self._log.saw(entry.position)
        if self._log.is_failing:
            self._log.hear_of_life()
        if followed.late is not None and entry.position >= followed.late:
            followed.late = None
        if followed.proven is None or topic in self._dirty or topic in self._reading:
            self._hold(followed, entry)
        else:
            self._advance(followed, entry)

    # --- handing out -------------------------------------------------------------------------------------

    def _advance(self, topic: _Topic, entry: Entry) -> None:
        """Hand out a live event if it is the next one; read the log first if it is not."""
        assert topic.proven is not None  # noqa: S101 - callers see to it
        if entry.position <= topic.proven:
            return
        if entry.prev > topic.proven:
            self.counters.missed += 1
            self._hold(topic, entry)
            self._repair(topic)
        elif entry.prev < topic.newest:
            # The event that was handed out last is unknown to the log: it has forgotten.
            self._hold(topic, entry)
            self._repair(topic)
        else:
            self._hand_out(topic, entry)

    def _hand_out(self, topic: _Topic, entry: Entry) -> None:
        topic.proven = topic.newest = entry.position
        event = Event.of(entry)
        for follower in topic.followers:
            follower.offer(event)

    def _hold(self, topic: _Topic, entry: Entry) -> None:
        if len(topic.pending) >= _MAX_PENDING:
            topic.pending.clear()
            topic.overflowed = True
        topic.pending.append(entry)

    def _drain(self, topic: _Topic) -> None:
        pending, topic.pending = sorted(topic.pending, key=lambda entry: entry.position), []
        for entry in pending:
            if topic.name in self._dirty:
                self._hold(topic, entry)
            else:
                self._advance(topic, entry)

    # --- reading the log ---------------------------------------------------------------------------------

    def _repair(self, topic: _Topic) -> None:
        self._dirty.add(topic.name)
        self._work.set()

    async def _repair_forever(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            await self._work.wait()
            self._work.clear()
            while self._dirty:
                batch = [name for name, _ in zip(list(self._dirty), range(MAX_READ_TOPICS), strict=False)]
                self._dirty.difference_update(batch)
                unread = await self._read(batch, reconcile=False)
                if not unread:
                    pause_s = _FIRST_PAUSE_S
                else:
                    self._dirty.update(unread)
                    await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _reconcile_forever(self) -> None:
        # Processes that began together do not ask together.
        await asyncio.sleep(self._reconcile_s * random.uniform(0.2, 1.0))  # noqa: S311 - jitter, not a secret
        while True:
            await self.reconcile()
            await asyncio.sleep(self._reconcile_s)

    async def reconcile(self) -> None:
        """Ask the log whether its clock has moved, and if so read every topic."""
        self._forget_deserted(linger_s=LINGER_S)
        if not self._topics:
            return
        try:
            now = await self._glance()
        except (LogUnavailableError, LogDefectError) as error:
            self._complain(error)
            return
        if (now.clock, now.born) == self._reconciled:
            return
        # A topic that has not begun yet may begin with a read that was made before this one.
        done = all(topic.proven is not None for topic in self._topics.values())
        for names in _batches(list(self._topics), MAX_READ_TOPICS):
            done = not await self._read(names, reconcile=True) and done
        if done:
            self._reconciled = (now.clock, now.born)

    async def _glance(self) -> Glance:
        """Ask how far the log is; tell the followers on the way what was revoked since the last time."""
        while True:
            self.counters.reads += 1
            now = await self._log.glance(revoked_after_ms=self._revoked_ms)
            if now.revocations:
                self._revoked_ms = now.revocations[-1].at_ms
                for follower in {follower for topic in self._topics.values() for follower in topic.followers}:
                    for revocation in now.revocations:
                        follower.revoked(revocation)
            if len(now.revocations) < MAX_REVOCATIONS:
                return now

    async def _read(self, names: Sequence[str], *, reconcile: bool) -> Sequence[str]:
        """Read topics after what is proven of them and hand out what that shows. Returns those it could not read."""
        asked = {
            name: From(topic.proven, topic.born_told)
            for name in names
            if (topic := self._topics.get(name)) is not None and topic.proven is not None
        }
        if not asked:
            return ()
        if not reconcile:
            self._reading.update(asked)
        try:
            self.counters.reads += 1
            reading = await self._log.read(asked, limit=_READ_LIMIT)
            for read in reading.topics:
                self._reading.discard(read.topic)
                topic = self._topics.get(read.topic)
                if topic is None or topic.proven is None:
                    continue
                if self._has_forgotten(topic, read):
                    self.counters.fences += 1
                    logger.warning("the log has forgotten events: fenced")
                    await self._log.fence(topic.newest)
                    topic.newest = ZERO
                    self._repair(topic)
                else:
                    self._apply(topic, read, reading.born, reconcile=reconcile)
        except (LogUnavailableError, LogDefectError) as error:
            if error.temporary or len(asked) == 1:
                self._complain(error)
                return tuple(asked)
        else:
            return ()
        finally:
            self._reading.difference_update(asked)
        # A defect of one topic (a key of the wrong type) must not hold up the others: it is found by halves.
        halves = _batches(tuple(asked), (len(asked) + 1) // 2)
        return [name for half in halves for name in await self._read(half, reconcile=reconcile)]

    @staticmethod
    def _has_forgotten(topic: _Topic, read: TopicRead) -> bool:
        """Whether an event that was handed out is missing under an event that followed it."""
        after = [entry for entry in read.entries if entry.position > topic.newest]
        return read.gap is None and bool(after) and after[0].prev < topic.newest

    def _apply(self, topic: _Topic, read: TopicRead, born: Position, *, reconcile: bool) -> None:
        assert topic.proven is not None  # noqa: S101 - callers see to it
        if read.gap is not None and (read.gap.born > topic.born_told or read.gap.resume > topic.proven):
            self.counters.gaps += 1
            topic.newest = ZERO
            for follower in topic.followers:
                follower.offer(read.gap)
        topic.born_told = max(topic.born_told, born)
        for entry in read.entries:
            if entry.position > topic.proven:
                if reconcile:
                    self._note_late(topic, entry.position)
                self._hand_out(topic, entry)
        topic.proven = max(topic.proven, read.end)
        mark = Proven(topic.name, topic.proven)
        for follower in topic.followers:
            follower.offer(mark)
        if read.truncated or topic.overflowed:
            topic.overflowed = False
            self._repair(topic)
        self._drain(topic)

    # --- housekeeping ------------------------------------------------------------------------------------

    def _note_late(self, topic: _Topic, position: Position) -> None:
        """Give the feed a moment to bring what the log has shown; then hold it to be dead."""
        if topic.late is None:
            topic.late = position
            asyncio.get_running_loop().call_later(LATE_S, self._suspect_if_late, topic, position)

    def _suspect_if_late(self, topic: _Topic, position: Position) -> None:
        if topic.late == position:
            topic.late = None
            if self._topics.get(topic.name) is topic:
                self.counters.suspected_feeds += 1
                logger.warning("the live feed was silent about an event: opening it anew")
                self._live.suspect(topic.name)

    def _forget_deserted(self, *, linger_s: float) -> None:
        now = self._clock()
        for topic in list(self._topics.values()):
            if topic.empty_since is not None and now - topic.empty_since >= linger_s:
                del self._topics[topic.name]
                self._dirty.discard(topic.name)
                self._live.unfollow(topic.name)

    @staticmethod
    def _complain(error: LogUnavailableError | LogDefectError) -> None:
        if error.temporary:
            logger.info("the log could not be read", extra={"reason": str(error)})
        else:
            logger.error("the log refused to be read", exc_info=error)


async def _keep_running(work: Callable[[], Awaitable[None]]) -> None:
    """Run work that never ends, again if a defect of ours ended it: streams depend on it."""
    while True:
        try:
            await work()
        except Exception:  # a defect must be seen, and must not end the process's deliveries
            logger.exception("the hub broke")
            await asyncio.sleep(1)


def _batches(names: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (names[start : start + size] for start in range(0, len(names), size))
