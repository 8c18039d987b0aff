"""The hub: one per process, between the live feed and every stream.

The live feed is fast and promises nothing; the log is slower and knows everything. What the feed brings is handed
out at once where it is the next event of its topic (`shared.fanout`). Where something was missed the log is read
first, and at every reconcile the log is asked whether anything was missed without a word.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice

from shared.audience import Audience
from shared.entry import Reading
from shared.errors import BadCursorError, LogDefectError, LogUnavailableError
from shared.fanout import Counters, Fanout, Topic
from shared.follower import Follower
from shared.live import LiveFeed
from shared.log import MAX_ACKS, MAX_LOST, MAX_READ_TOPICS, MAX_REVOCATIONS, From, Glance, Log
from shared.position import ZERO, Position
from shared.signal import is_signal, parse
from shared.slots import Taken
from shared.wire import parse_live

logger = logging.getLogger("tidemark.hub")

#: How long a stream that opens waits for its live feed.
JOIN_TIMEOUT_S = 3.0
#: A topic that nobody follows any more is kept so long, for clients that come right back.
LINGER_S = 10.0
#: A live message that the log has shown may still be on its way; after so long its feed is held to be dead.
LATE_S = 1.0
_READ_LIMIT = 1000
#: A reconcile reads many topics in which nothing has happened. It holds up neither Redis nor the streams for long: so
#: many together, and a moment for others in between.
_RECONCILED_TOGETHER = 200
_BREATH_S = 0.01
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


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
        self._work = asyncio.Event()
        self._fanout = Fanout(self.counters, self._work.set)
        self._audience = Audience()
        self._tasks: list[asyncio.Task[None]] = []
        # The last revocation, and the last slot taken away, that the followers have heard of; both by Redis's time.
        self._revoked_ms = 0
        self._lost_ms: int | None = None
        self._reconciled: tuple[Position, Position] | None = None

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
        self._audience.add(follower)
        for name in topics:
            topic = self._fanout.topics.get(name)
            if topic is None:
                topic = self._fanout.topics[name] = Topic(name)
                self._live.follow(name)
            topic.followers.add(follower)
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
        """Hand nothing more to a follower. ``topics`` are all that it has joined."""
        self._audience.discard(follower)
        for name in topics:
            topic = self._fanout.topics.get(name)
            if topic is not None and follower in topic.followers:
                topic.followers.discard(follower)
                if not topic.followers:
                    topic.empty_since = self._clock()
        if not self._audience:
            self._lost_ms = None
            # A Lambda environment without a stream may be frozen, and its feeds be dead when it thaws.
            self._forget_deserted(linger_s=0.0)

    def seed(self, reading: Reading) -> bool:
        """Take a joined follower's first read as the start of topics that were not followed before.

        The read was made after the feed had opened, so whatever it does not show is yet to come on the feed.
        Returns False when a read that was made later has begun a topic already: what lies between the two was
        handed out to nobody, so this follower must read once more.
        """
        return self._fanout.seed(reading)

    def took_slot(self, taken: Taken) -> None:
        """Hear that a slot was taken for a stream that has joined.

        Streams of this process that lost theirs to it end at once; what others do to it from then on is asked for at
        each reconcile.
        """
        # What was taken away in the same millisecond may have been that very slot.
        before_ms = taken.at_ms - 1
        since = before_ms if self._lost_ms is None else min(self._lost_ms, before_ms)
        # It may have left meanwhile, and with nobody here nobody asks.
        self._lost_ms = since if self._audience else None
        for end in taken.away:
            self._audience.hear(end)

    # --- what the live feed says -------------------------------------------------------------------------

    def feed_opened(self, topics: Iterable[str]) -> None:
        """Read what may have been missed while a feed was away."""
        self.counters.feeds_opened += 1
        self._log.hear_of_life()
        for name in topics:
            topic = self._fanout.topics.get(name)
            if topic is not None and topic.proven is not None:
                self._fanout.mark(topic)

    def feed_message(self, topic: str, message: str) -> None:
        """Take a live message."""
        followed = self._fanout.topics.get(topic)
        if followed is None:
            return
        if is_signal(message):
            self._take_signal(message)
            return
        self.counters.live_messages += 1
        try:
            entry = parse_live(topic, message)
        except (ValueError, BadCursorError):
            # Of a later version, or torn by something on the way: the log knows.
            logger.warning("a live message could not be read")
            if followed.proven is not None:
                self._fanout.mark(followed)
            return
        self._log.saw(entry.position)
        if self._log.is_failing:
            self._log.hear_of_life()
        self._fanout.take(followed, entry)

    def _take_signal(self, message: str) -> None:
        """Take a live message that is no event."""
        self.counters.signals += 1
        if self._log.is_failing:
            self._log.hear_of_life()
        signal = parse(message)
        if signal is None:
            logger.debug("a signal of a kind that is not known here")
        else:
            self._audience.hear(signal)

    # --- reading the log ---------------------------------------------------------------------------------

    async def _repair_forever(self) -> None:
        pause_s = _FIRST_PAUSE_S
        dirty = self._fanout.dirty
        while True:
            await self._work.wait()
            self._work.clear()
            while dirty:
                batch = list(islice(dirty, MAX_READ_TOPICS))
                dirty.difference_update(batch)
                unread = await self._read(batch, reconcile=False)
                if not unread:
                    pause_s = _FIRST_PAUSE_S
                else:
                    dirty.update(unread)
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
        topics = self._fanout.topics
        if not topics:
            return
        try:
            now = await self._glance()
        except (LogUnavailableError, LogDefectError) as error:
            _complain(error)
            return
        if (now.clock, now.born) == self._reconciled:
            return
        # A topic that has not begun yet may begin with a read that was made before this one.
        done = all(topic.proven is not None for topic in topics.values())
        for number, names in enumerate(_batches(list(topics), _RECONCILED_TOGETHER)):
            if number:
                await asyncio.sleep(_BREATH_S)
            done = not await self._read(names, reconcile=True) and done
        if done:
            self._reconciled = (now.clock, now.born)

    async def _glance(self) -> Glance:
        """Ask how far the log is; tell the followers on the way what else the feed may have lost since last time."""
        waiting = self._audience.waiting()
        while True:
            self.counters.reads += 1
            asked, waiting = waiting[:MAX_ACKS], waiting[MAX_ACKS:]
            lost_after_ms = self._lost_ms
            now = await self._log.glance(revoked_after_ms=self._revoked_ms, lost_after_ms=lost_after_ms, acks=asked)
            if now.revocations:
                self._revoked_ms = now.revocations[-1].at_ms
                for follower in self._audience:
                    for revocation in now.revocations:
                        follower.revoked(revocation)
            for lost in now.lost:
                self._audience.hear(lost.end)
            for ack in now.acks:
                if ack.cursor <= now.clock:  # else it was given to a log that has since forgotten
                    self._audience.hear(ack)
            more = len(now.revocations) == MAX_REVOCATIONS or len(now.lost) == MAX_LOST or waiting
            if lost_after_ms is not None and self._lost_ms == lost_after_ms:
                listed_ms = now.lost[-1].at_ms if now.lost else lost_after_ms
                # A database that took over may be behind in time: what it takes away from now on is not to be missed.
                self._lost_ms = listed_ms if more else min(listed_ms, now.at_ms)
            if not more:
                return now

    async def _read(self, names: Sequence[str], *, reconcile: bool) -> Sequence[str]:
        """Read topics after what is proven of them and hand out what that shows. Returns those it could not read."""
        fanout = self._fanout
        asked = {
            name: From(topic.proven, topic.born_told)
            for name in names
            if (topic := fanout.topics.get(name)) is not None and topic.proven is not None
        }
        if not asked:
            return ()
        if not reconcile:
            fanout.reading.update(asked)
        try:
            self.counters.reads += 1
            reading = await self._log.read(asked, limit=_READ_LIMIT)
            for read in reading.topics:
                fanout.reading.discard(read.topic)
                topic = fanout.topics.get(read.topic)
                if topic is None or topic.proven is None:
                    continue
                if topic.has_forgotten(read):
                    self.counters.fences += 1
                    logger.warning("the log has forgotten events: fenced")
                    await self._log.fence(topic.newest)
                    topic.newest = ZERO
                    fanout.mark(topic)
                else:
                    first = fanout.apply(topic, read, reading.born)
                    if reconcile and first is not None:
                        self._note_late(topic, first)
        except (LogUnavailableError, LogDefectError) as error:
            if error.temporary or len(asked) == 1:
                _complain(error)
                return tuple(asked)
        else:
            return ()
        finally:
            fanout.reading.difference_update(asked)
        # A defect of one topic (a key of the wrong type) must not hold up the others: it is found by halves.
        halves = _batches(tuple(asked), (len(asked) + 1) // 2)
        return [name for half in halves for name in await self._read(half, reconcile=reconcile)]

    # --- housekeeping ------------------------------------------------------------------------------------

    def _note_late(self, topic: Topic, position: Position) -> None:
        """Give the feed a moment to bring what the log has shown; then hold it to be dead."""
        if topic.late is None:
            topic.late = position
            asyncio.get_running_loop().call_later(LATE_S, self._suspect_if_late, topic, position)

    def _suspect_if_late(self, topic: Topic, position: Position) -> None:
        if topic.late == position:
            topic.late = None
            if self._fanout.topics.get(topic.name) is topic:
                self.counters.suspected_feeds += 1
                logger.warning("the live feed was silent about an event: opening it anew")
                self._live.suspect(topic.name)

    def _forget_deserted(self, *, linger_s: float) -> None:
        now = self._clock()
        for topic in list(self._fanout.topics.values()):
            if topic.empty_since is not None and now - topic.empty_since >= linger_s:
                self._fanout.forget(topic)
                self._live.unfollow(topic.name)


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
