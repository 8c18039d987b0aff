"""One stream: what it has sent, what it may say next, and when it ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Protocol

from functions.stream.buffer import Item
from functions.stream.order import ACKED, Order
from functions.stream.outgoing import Outgoing
from shared import sse
from shared.counts import Counts
from shared.errors import LogUnavailableError
from shared.hub import Hub
from shared.keys import digest
from shared.log import EARLIEST, From, Log, Revocation
from shared.position import Position

HEARTBEAT_S = 15
#: A client that takes nothing for so long, while something waits for it, is too slow.
STALLED_S = 30.0
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 5.0
#: How often a stream looks whether a client that does not make room takes anything at all, s.
LOOK_S = 5.0


class Body(Protocol):
    """Where a stream's bytes go; see `functions.stream.outlet.Outlet`."""

    @property
    def paused(self) -> bool:
        """Whether the client has to read before more is written."""
        ...

    @property
    def unsent(self) -> int:
        """How many bytes wait for the client here."""
        ...

    def on_room(self, callback: Callable[[], None]) -> None:
        """Have a function called when it is not paused any more."""
        ...

    def let_through(self) -> None:
        """Let the last word through, whether there is room for it or not."""
        ...

    async def write(self, data: bytes) -> None:
        """Send a part of the body."""
        ...


class Stream:
    """Sends the events of some topics after a cursor: first what the log holds, then what happens.

    ``clock`` is monotonic seconds. Counts ``events_coalesced`` and ``slow_consumers``, and keeps the gauges of
    `functions.stream.buffer`.
    """

    def __init__(self, order: Order, hub: Hub, log: Log, *, clock: Callable[[], float], counts: Counts) -> None:
        self.user = digest(order.grant.user)
        self.client = order.client
        self.connection = order.connection
        self._order = order
        self._hub = hub
        self._log = log
        self._clock = clock
        self._counts = counts
        self._out = Outgoing(order, clock=clock, counts=counts)
        self._retry_at = 0.0
        self._pause_s = _FIRST_PAUSE_S
        #: Until it hears that it was taken away.
        self.has_slot = True
        self._end: tuple[str, bool] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        self._wrote_at = 0.0

    # --- what the hub and the server say -----------------------------------------------------------------

    def offer(self, item: Item) -> None:
        """Take an item from the hub."""
        if self._out.offer(item):
            self._wake()

    def revoked(self, revocation: Revocation) -> None:
        """End the stream if its token is one of those that were revoked."""
        if revocation.user == self.user and self._order.grant.issued_at * 1000 <= revocation.at_ms:
            self.end("revoked", reconnect=False)

    def slot_lost(self, reason: str) -> None:
        """End the stream: its slot was given to another of this user, as ``reason`` says."""
        self.has_slot = False
        self.end(reason, reconnect=False)

    @property
    def wants_acks(self) -> bool:
        """Whether it has to hear what its client acknowledges."""
        return self._out.window is not None

    @property
    def waits_for_ack(self) -> bool:
        """Whether nothing more is sent until the client acknowledges something."""
        return self._out.waits_for_ack

    def acked(self, position: Position) -> None:
        """Hear what the client has acknowledged."""
        if self._out.window is not None:
            self._out.window.ack(position)
            self._wake()

    def end(self, reason: str, *, reconnect: bool = True) -> None:
        """End the stream with a `bye`."""
        if self._end is None:
            self._end = (reason, reconnect)
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- sending -----------------------------------------------------------------------------------------

    async def open(self, *, joined: Callable[[], None] = lambda: None) -> bytes:
        """Join the hub, read a first page, and return the first bytes of the body. Calls ``joined`` in between.

        Raises LogUnavailableError, LogDefectError or TokenRevokedError; `close` must be called all the same.
        """
        await self._hub.join(self, self._order.topics)
        joined()
        start = self._order.start
        if start == ACKED:
            start = await self._log.acked(self._order.grant.user, self._order.client) or EARLIEST
        grant = self._order.grant
        limit = self._out.page_limit()
        reading = await self._log.read(dict.fromkeys(self._order.topics, From(start)), limit=limit, user=grant.user)
        grant.check_revoked(reading.revoked_at)
        seamless = self._hub.seed(reading)
        self._out.begin(reading, limit)
        greeting = sse.retry(sse.RETRY_MS) + sse.hello(
            connection=self._order.connection,
            client=self._order.client,
            topics=self._order.topics,
            cursor=self._out.told,
            expires_in_s=max(0, int(self._order.ends_at - self._clock())),
            heartbeat_s=HEARTBEAT_S,
        )
        if not seamless:
            self._out.fall_behind()
        return greeting + self._out.chunk()

    async def until_writable(self, body: Body) -> None:
        """Wait until the client has read what was answered before on its connection, or the stream ends."""
        if body.paused:
            await self._until_room(body)
            body.let_through()

    async def run(self, body: Body) -> None:
        """Send until the stream ends, beginning after `open` and `until_writable`. Returns after the `bye`."""
        self._wrote_at = self._clock()
        while True:
            if self._end is None and self._clock() >= self._order.ends_at:
                self._end = (self._order.end_reason, self._order.end_reason == "rotate")
            if self._end is not None:
                reason, reconnect = self._end
                body.let_through()
                await body.write(sse.bye(reason, reconnect=reconnect))
                # It may be what has used up the room: then the end of the body would wait for the client, for ever.
                body.let_through()
                return
            if body.paused:
                await self._until_room(body)
                continue
            if self._must_read():
                await self._read_on()
            # Also after a read: what was offered meanwhile has rung no bell that is still heard.
            chunk = self._out.chunk()
            if not chunk and self._clock() - self._wrote_at >= HEARTBEAT_S:
                chunk = self._out.heartbeat()
            if chunk:
                await body.write(chunk)
                self._wrote_at = self._clock()
            if (self._out.has_said_all if chunk else not self._must_read()) and self._end is None:
                await self._sleep(self._next_at())

    def close(self) -> None:
        """Leave the hub."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._hub.leave(self, self._order.topics)

    # --- waiting -----------------------------------------------------------------------------------------

    def _next_at(self) -> float:
        """When there is something to do, if nothing happens before."""
        until = min(self._wrote_at + HEARTBEAT_S, self._order.ends_at)
        if self._out.behind and self._retry_at > self._clock():
            return min(until, self._retry_at)
        paced = self._out.next_at()
        return until if paced is None else min(until, paced)

    async def _until_room(self, body: Body) -> None:
        """Wait until the client makes room, has taken nothing for too long, or the stream ends."""
        body.on_room(self._wake)
        began = heard_at = self._clock()
        before = unsent = body.unsent
        while body.paused and self._end is None and self._clock() < self._order.ends_at:
            if self._clock() - heard_at >= STALLED_S:
                self._counts.count("slow_consumers")
                self.end("slow_consumer")
                return
            await self._sleep(min(self._clock() + LOOK_S, self._order.ends_at))
            if body.unsent < unsent:
                heard_at = self._clock()
            unsent = body.unsent
        self._out.drained(before - unsent, self._clock() - began)

    async def _sleep(self, until: float) -> None:
        """Wait for a bell, until some time at most."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        # One that rings too early does no harm, and a new one for each event would cost more than the event.
        if self._alarm is None or until < self._alarm_at:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm = loop.call_later(max(0.0, until - self._clock()), self._ring)
            self._alarm_at = until
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _ring(self) -> None:
        self._alarm = None
        self._wake()

    # --- reading the log ---------------------------------------------------------------------------------

    def _must_read(self) -> bool:
        """Whether the log has to be read now."""
        return self._out.wants_page and self._clock() >= self._retry_at

    async def _read_on(self) -> None:
        """Read the next page of the log."""
        asked, limit = self._out.ask(), self._out.page_limit()
        try:
            reading = await self._log.read(asked, limit=limit)
        except LogUnavailableError:
            # The client keeps its stream: nothing was said that is not so, and the log will be back.
            self._out.fall_behind()
            self._retry_at = self._clock() + self._pause_s * random.uniform(0.5, 1.5)  # noqa: S311 - jitter
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
            return
        self._pause_s = _FIRST_PAUSE_S
        self._out.take(reading, limit)
