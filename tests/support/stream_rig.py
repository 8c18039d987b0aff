"""One process of the stream function, and tabs that are open on it: everything real but the HTTP server in front.

async with FaultyGateway.running(redis.url) as gateway, Process.running(gateway, keys) as process:
    tab = await process.open_tab("gmail:a@b.c", start=NOW)
    await tab.until_positions([...])
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from functions.stream.order import Order
from functions.stream.session import Stream
from shared.counts import Counts
from shared.entry import Gap
from shared.follower import Event, Proven
from shared.hub import Hub
from shared.keys import Keys, digest
from shared.live import MAX_CHANNEL_FEEDS, LiveFeed
from shared.log import NOW, From, Log, Revocation
from shared.position import Position
from shared.retention import Retention
from shared.tokens import Grant
from tests.support.faulty_gateway import FaultyGateway, cheap_tls, plain_upstash
from tests.support.log_rig import KEEP

_POLL_S = 0.004
NEVER_S = 3600.0
_FROM_NOW = From(NOW)
_numbers = itertools.count(1)


async def eventually(condition: Callable[[], bool], what: str, *, timeout_s: float = 10.0) -> None:
    """Return as soon as the condition holds; fail with ``what`` when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        await asyncio.sleep(_POLL_S)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a stream, and when it was written (monotonic seconds)."""

    event: str
    id: Position | None
    data: dict[str, Any]
    retry_ms: int | None
    at: float


class Recorder:
    """A follower of the hub that keeps what it is offered, and what it hears of its client's acks and of its slot."""

    def __init__(self, *, user: str = "", client: str = "client", wants_acks: bool = False) -> None:
        self.user = digest(user)
        self.client = client
        self.connection = f"c_{next(_numbers)}"
        self.wants_acks = self.waits_for_ack = wants_acks
        self.items: list[Event | Gap | Proven] = []
        self.acks: list[Position] = []
        self.losses: list[str] = []

    def offer(self, item: Event | Gap | Proven) -> None:
        """Take an item."""
        self.items.append(item)

    def revoked(self, revocation: Revocation) -> None:
        """Take no notice: it has no token."""

    def acked(self, position: Position) -> None:
        """Hear of an ack."""
        self.acks.append(position)

    def slot_lost(self, reason: str) -> None:
        """Hear that its slot was taken away."""
        self.losses.append(reason)

    @property
    def positions(self) -> list[Position]:
        """The positions of the events, in the order in which they came."""
        return [item.position for item in self.items if isinstance(item, Event)]

    @property
    def gaps(self) -> list[Gap]:
        """The gaps."""
        return [item for item in self.items if isinstance(item, Gap)]


class Tab:
    """A client of one stream: reads its body and remembers every frame. It is the body that the stream writes to."""

    def __init__(self, stream: Stream, clock: Callable[[], float]) -> None:
        self.stream = stream
        self.frames: list[Frame] = []
        self.writes = 0
        self._clock = clock
        self._rest = b""
        self._reads = True
        self._forced = False
        self._unsent = b""
        self._on_room: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> Tab:
        """Open the stream; raises what it raises."""
        try:
            self._feed(await self.stream.open())
        except BaseException:  # cancellation included, as the response does it
            self.stream.close()
            raise
        self._task = asyncio.ensure_future(self._run())
        return self

    async def close(self) -> None:
        """Leave without a word, as a client does."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def stop_reading(self) -> None:
        """Read nothing more: the server takes one more write, and then has no room."""
        self._reads = False

    def read_on(self) -> None:
        """Read what waits, and all that comes."""
        self._reads = True
        self.read_some(len(self._unsent))

    def read_some(self, size: int) -> None:
        """Read so many bytes of what waits."""
        taken, self._unsent = self._unsent[:size], self._unsent[size:]
        self._feed(taken)
        if not self.paused and self._on_room is not None:
            self._on_room()

    @property
    def ended(self) -> bool:
        """Whether the body has ended; raises what ended it."""
        if self._task is None or not self._task.done():
            return False
        self._task.result()
        return True

    def events(self, topic: str | None = None) -> list[Frame]:
        """Return the data events, of one topic or of all."""
        return [f for f in self.frames if f.event == "message" and topic in (None, f.data["topic"])]

    def positions(self, topic: str | None = None) -> list[Position]:
        """Return the positions of the data events, in the order in which they came."""
        return [Position.parse(frame.data["position"]) for frame in self.events(topic)]

    def named(self, event: str) -> list[dict[str, Any]]:
        """Return the data of the frames ``tidemark.<event>``."""
        return [frame.data for frame in self.frames if frame.event == f"tidemark.{event}"]

    @property
    def gaps(self) -> list[tuple[str, Position, Position]]:
        """The gaps: topic, after, resume."""
        return [(g["topic"], Position.parse(g["after"]), Position.parse(g["resume"])) for g in self.named("gap")]

    @property
    def ids(self) -> list[Position]:
        """Every id that was written, in order."""
        return [frame.id for frame in self.frames if frame.id is not None]

    @property
    def last_id(self) -> Position:
        """What a browser would send as Last-Event-ID."""
        return self.ids[-1]

    async def until(self, condition: Callable[[Tab], bool], what: str, *, timeout_s: float = 10.0) -> None:
        """Wait for a condition of this tab; a stream that broke fails at once."""
        await eventually(lambda: self.ended or condition(self), what, timeout_s=timeout_s)
        assert condition(self), f"the stream ended before: {what}"

    async def until_positions(self, wanted: list[Position], topic: str | None = None) -> None:
        """Wait until these events, in this order, are all that has come."""
        await self.until(lambda tab: len(tab.positions(topic)) >= len(wanted), f"{len(wanted)} events")
        assert self.positions(topic) == wanted

    # --- the body, as the stream sees it -----------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """Whether the client has to read before more is written."""
        return bool(self._unsent) and not self._forced

    @property
    def unsent(self) -> int:
        """How many bytes wait for the client."""
        return len(self._unsent)

    def on_room(self, callback: Callable[[], None]) -> None:
        """Have a function called when it is not paused any more."""
        self._on_room = callback

    def let_through(self) -> None:
        """Let the last word through if it would wait."""
        self._forced = self._forced or self.paused

    async def write(self, data: bytes) -> None:
        """Take a part of the body."""
        assert not self.paused, "a write that would wait"
        assert data.endswith(b"\n\n"), "a chunk ends inside a frame"
        self.writes += 1
        if self._reads:
            self._feed(data)
        else:
            self._unsent += data

    async def _run(self) -> None:
        try:
            await self.stream.run(self)
        finally:
            self.stream.close()

    def _feed(self, chunk: bytes) -> None:
        *blocks, self._rest = (self._rest + chunk).split(b"\n\n")
        for block in blocks:
            fields = dict(line.split(": ", 1) for line in block.decode().split("\n"))
            data = json.loads(fields.get("data", "{}"))
            self.frames.append(
                Frame(
                    event=fields.get("event", "message" if "data" in fields else "retry"),
                    id=Position.parse(fields["id"]) if "id" in fields else None,
                    data=data,
                    retry_ms=int(fields["retry"]) if "retry" in fields else None,
                    at=self._clock(),
                )
            )


class Clock:
    """Monotonic seconds that only a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float, *tabs: Tab) -> None:
        """Let time pass; the streams look at it as they would when their alarm rings."""
        self.now_s += seconds
        for tab in tabs:
            tab.stream._wake()


class Process:
    """A log, a live feed and a hub over them, as one process of the stream function has."""

    def __init__(
        self,
        gateway: FaultyGateway,
        keys: Keys,
        *,
        retention: Retention = KEEP,
        reconcile_s: float = NEVER_S,
        max_channel_feeds: int = MAX_CHANNEL_FEEDS,
        clock: Callable[[], float] = time.monotonic,
        now_ms: str = "",
    ) -> None:
        self.clock = clock
        self.counts = Counts()
        self.upstash = plain_upstash(gateway.url, gateway.token, max_connections=14)
        self.log = Log(self.upstash, keys, retention, now_ms=now_ms)
        with cheap_tls():
            self.live = LiveFeed(gateway.url, gateway.token, keys, max_channel_feeds=max_channel_feeds)
        self.hub = Hub(self.log, self.live, reconcile_s=reconcile_s, clock=clock)
        self._tabs: list[Tab] = []

    @classmethod
    @asynccontextmanager
    async def running(cls, gateway: FaultyGateway, keys: Keys, **more: Any) -> AsyncIterator[Process]:
        """Start it, and stop it with every tab."""
        process = cls(gateway, keys, **more)
        process.hub.start()
        try:
            yield process
        finally:
            for tab in process._tabs:
                await tab.close()
            await process.hub.close()
            await process.upstash.close()

    def tab(
        self,
        *topics: str,
        start: Position | str = NOW,
        user: str = "user",
        issued_at: float = math.inf,
        client: str = "client",
        life_s: float = 840.0,
        end_reason: str = "rotate",
        max_rate: float | None = None,
        window: int | None = None,
    ) -> Tab:
        """Make a tab that is not open yet."""
        order = Order(
            connection=f"c_{next(_numbers)}",
            grant=Grant(user, topics, (), issued_at=issued_at, expires_at=math.inf),
            client=client,
            topics=topics,
            start=start,
            ends_at=self.clock() + life_s,
            end_reason=end_reason,
            max_rate=max_rate,
            window=window,
        )
        tab = Tab(Stream(order, self.hub, self.log, clock=self.clock, counts=self.counts), self.clock)
        self._tabs.append(tab)
        return tab

    async def open_tab(self, *topics: str, start: Position | str = NOW, **more: Any) -> Tab:
        """Open a tab."""
        return await self.tab(*topics, start=start, **more).open()

    async def follow(self, *topics: str, recorder: Recorder | None = None) -> Recorder:
        """Join a follower that keeps what the hub offers, as a stream that begins now does."""
        recorder = recorder or Recorder()
        await self.hub.join(recorder, topics)
        from_now = await self.log.read(dict.fromkeys(topics, _FROM_NOW), limit=1)
        self.hub.seed(from_now)
        return recorder

    async def reconcile(self) -> None:
        """Reconcile now."""
        await self.hub.reconcile()
