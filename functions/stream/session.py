"""One stream: what it has sent, what it may say next, and when it ends."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from shared import sse
from shared.entry import Gap, Page, merge, starting_cursor
from shared.errors import LogUnavailableError
from shared.follower import Event, Proven
from shared.hub import Hub
from shared.keys import digest
from shared.log import EARLIEST, From, Log, Revocation
from shared.position import ZERO, Position
from shared.tokens import Grant

HEARTBEAT_S = 15
#: What a stream holds for a client that reads slowly; beyond it the log is the buffer.
MAX_BUFFERED = 256
_PAGE_LIMIT = 500
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 5.0

#: Start at the cursor that this client has acknowledged, at the earliest when there is none.
ACKED = "acked"

Write = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Order:
    """What a client asked for.

    ``grant`` is what the client's token allows. ``start`` is a cursor, `EARLIEST`, `NOW` or `ACKED`; ``ends_at``, in
    seconds of the stream's clock, is when the stream ends for ``end_reason``.
    """

    connection: str
    grant: Grant
    client: str
    topics: tuple[str, ...]
    start: Position | str
    ends_at: float
    end_reason: str


class Stream:
    """Sends the events of some topics after a cursor: first what the log holds, then what happens.

    ``clock`` is monotonic seconds.
    """

    def __init__(self, order: Order, hub: Hub, log: Log, *, clock: Callable[[], float]) -> None:
        self._order = order
        self._user = digest(order.grant.user)
        self._hub = hub
        self._log = log
        self._clock = clock
        self._queue: deque[Event | Gap | Proven] = deque()
        # While the log is being read, what the hub says of proven positions has to wait in the queue.
        self._reading = True
        # What the hub offers is not kept: the log must be read before the next event is sent.
        self._behind = False
        self._retry_at = 0.0
        self._pause_s = _FIRST_PAUSE_S
        self._sent: dict[str, Position] = {}
        # Per topic, the beginning of the log's memory that the client was told of, or that lies below its cursor.
        self._born_told = dict.fromkeys(order.topics, ZERO)
        self._told = ZERO
        self._acked = ZERO
        #: Until it hears that it was taken away.
        self.has_slot = True
        self._end: tuple[str, bool] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._wrote_at = 0.0
        self._single = len(order.topics) == 1

    @property
    def user(self) -> str:
        """Whose it is, hashed."""
        return self._user

    @property
    def client(self) -> str:
        """The client's name."""
        return self._order.client

    @property
    def connection(self) -> str:
        """What tells it from every other stream anywhere."""
        return self._order.connection

    @property
    def wants_acks(self) -> bool:
        """Whether it must hear of its client's acks."""
        return False

    @property
    def waits_for_ack(self) -> bool:
        """Whether it stands still until it hears of one."""
        return False

    # --- what the hub and the server say -----------------------------------------------------------------

    def offer(self, item: Event | Gap | Proven) -> None:
        """Take an item from the hub."""
        if self._behind:
            return
        if isinstance(item, Proven):
            if not self._queue and not self._reading:
                self._sent[item.topic] = max(self._sent[item.topic], item.position)
                return
            self._push(item)
            return
        self._push(item)
        self._wake()

    def revoked(self, revocation: Revocation) -> None:
        """End the stream if its token is one of those that were revoked."""
        grant = self._order.grant
        if revocation.user == self._user and grant.issued_at * 1000 <= revocation.at_ms:
            self.end("revoked", reconnect=False)

    def acked(self, position: Position) -> None:
        """Note up to where the client has everything."""
        self._acked = max(self._acked, position)

    def slot_lost(self, reason: str) -> None:
        """End the stream: its user has another in its place."""
        self.has_slot = False
        self.end(reason, reconnect=False)

    def end(self, reason: str, *, reconnect: bool = True) -> None:
        """End the stream with a `bye`."""
        if self._end is None:
            self._end = (reason, reconnect)
            self._wake()

    def _push(self, item: Event | Gap | Proven) -> None:
        if len(self._queue) < MAX_BUFFERED:
            self._queue.append(item)
        else:
            self._fall_behind()

    def _fall_behind(self) -> None:
        """Forget what the hub has offered: it does not follow directly on what was sent."""
        self._queue.clear()
        self._behind = True

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- sending -----------------------------------------------------------------------------------------

    async def open(self) -> bytes:
        """Join the hub, read a first page, and return the first bytes of the body.

        Raises LogUnavailableError, LogDefectError or TokenRevokedError; `close` must be called all the same.
        """
        await self._hub.join(self, self._order.topics)
        start = self._order.start
        if start == ACKED:
            start = await self._log.acked(self._order.grant.user, self._order.client) or EARLIEST
        grant = self._order.grant
        reading = await self._log.read(
            dict.fromkeys(self._order.topics, From(start)), limit=_PAGE_LIMIT, user=grant.user
        )
        grant.check_revoked(reading.revoked_at)
        seamless = self._hub.seed(reading)
        self._told = starting_cursor(reading.topics)
        self._sent = {topic.topic: topic.start for topic in reading.topics}
        greeting = sse.retry(sse.RETRY_MS) + sse.hello(
            connection=self._order.connection,
            client=self._order.client,
            topics=self._order.topics,
            cursor=self._told,
            expires_in_s=max(0, int(self._order.ends_at - self._clock())),
            heartbeat_s=HEARTBEAT_S,
        )
        page = self._take_page(merge(reading, _PAGE_LIMIT), reading.born)
        if not seamless:
            self._fall_behind()
        return greeting + page

    async def run(self, write: Write) -> None:
        """Send until the stream ends, beginning after `open`. Returns after the `bye`."""
        self._wrote_at = self._clock()
        while True:
            if self._end is None and self._clock() >= self._order.ends_at:
                self._end = (self._order.end_reason, self._order.end_reason == "rotate")
            if self._end is not None:
                reason, reconnect = self._end
                await write(sse.bye(reason, reconnect=reconnect))
                return
            chunk = await self._read_on() if self._behind and self._clock() >= self._retry_at else b""
            # Also after a read: what was offered meanwhile has rung no bell that is still heard.
            chunk += self._take_queue()
            if not chunk and self._clock() - self._wrote_at >= HEARTBEAT_S:
                chunk = sse.heartbeat(self._advance_told())
            if chunk:
                await write(chunk)
                self._wrote_at = self._clock()
            elif not self._behind or self._clock() < self._retry_at:
                await self._sleep()

    def close(self) -> None:
        """Leave the hub."""
        self._hub.leave(self, self._order.topics)

    async def _sleep(self) -> None:
        """Wait for the hub, the next heartbeat, the end of the stream, or the next try to read."""
        until = min(self._wrote_at + HEARTBEAT_S, self._order.ends_at)
        if self._behind:
            until = min(until, self._retry_at)
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        alarm = loop.call_later(max(0.0, until - self._clock()), self._wake)
        try:
            await self._waiter
        finally:
            alarm.cancel()
            self._waiter = None

    async def _read_on(self) -> bytes:
        """Read the next page of the log. What the hub offers meanwhile is kept."""
        self._queue.clear()
        self._behind, self._reading = False, True
        asked = {topic: From(sent, self._born_told[topic]) for topic, sent in self._sent.items()}
        try:
            reading = await self._log.read(asked, limit=_PAGE_LIMIT)
        except LogUnavailableError:
            # The client keeps its stream: nothing was said that is not so, and the log will be back.
            self._fall_behind()
            self._retry_at = self._clock() + self._pause_s * random.uniform(0.5, 1.5)  # noqa: S311 - jitter
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
            return b""
        self._pause_s = _FIRST_PAUSE_S
        return self._take_page(merge(reading, _PAGE_LIMIT), reading.born)

    def _take_page(self, page: Page, born: Position) -> bytes:
        """Turn a page into frames, and note what is thereby sent."""
        frames = [sse.gap(gap, None) for gap in page.gaps]
        for entry in page.entries:
            # All entries of all topics up to this one precede it, so its position is a safe cursor.
            frames.append(sse.id_line(entry.position) + sse.event_data(entry))
            self._told = max(self._told, entry.position)
        for topic, sent in self._sent.items():
            self._sent[topic] = max(sent, page.cursor)
        for gap in page.gaps:
            self._born_told[gap.topic] = gap.born
        if page.gaps and not page.entries:
            frames[-1] = sse.gap(page.gaps[-1], self._advance_told())
        if page.more:
            self._fall_behind()
        else:
            self._born_told = dict.fromkeys(self._born_told, born)
            self._reading = False
        return b"".join(frames)

    def _take_queue(self) -> bytes:
        """Turn what the hub has offered into frames, dropping what was sent before."""
        frames: list[bytes] = []
        while self._queue:
            item = self._queue.popleft()
            sent = self._sent[item.topic]
            if isinstance(item, Gap):
                if item.born > self._born_told[item.topic] or item.resume > sent:
                    frames.append(sse.gap(item, None))
                    self._born_told[item.topic] = max(self._born_told[item.topic], item.born)
            elif item.position > sent:
                self._sent[item.topic] = item.position
                if isinstance(item, Event):
                    if self._single:
                        self._told = item.position
                        frames.append(item.framed)
                    else:
                        cursor = self._advance_told()
                        frames.append(item.data if cursor is None else sse.id_line(cursor) + item.data)
        return b"".join(frames)

    def _advance_told(self) -> Position | None:
        """Return the cursor if it is above the one that the client was last told, and note that it is told."""
        cursor = min(self._sent.values())
        if cursor <= self._told:
            return None
        self._told = cursor
        return cursor
