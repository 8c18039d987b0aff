"""The Redis that Sentinels call the primary, followed through failovers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

from infra.local.resp.connection import RedisAddress, RespConnectionError
from infra.local.resp.sentinel import SCHEME, Primary, SentinelUrl, ask
from infra.local.resp.subscriber import Subscriber
from infra.local.resp.upstream import OneRedis, Upstream

#: Pause before a lost subscription to a Sentinel is opened again.
_PAUSE_S: Final = 0.5
_SWITCHED: Final = b"+switch-master"
_DOWN: Final = b"+odown"


class SentinelPrimary:
    """Asks the Sentinels for each new connection, and listens to them for what no connection can tell.

    A primary that has died breaks its connections. One that is frozen, or was cut off, does not: it is the Sentinels
    who say that most of them take it for dead (`+odown`), and that another is the primary now (`+switch-master`).
    """

    moves: Final = True
    #: Short: a frozen Redis takes connections, and callers wait for the answer.
    connect_timeout_s: Final[float] = 1.0

    def __init__(self, url: SentinelUrl) -> None:
        self._url = url
        self._primary: Primary | None = None
        self._epoch = 0
        self._asking: asyncio.Task[Primary] | None = None
        self._watching: list[asyncio.Task[None]] = []
        self.on_move: Callable[[], None] = lambda: None
        """Called when `is_current` may have changed its answer."""

    async def address(self) -> RedisAddress:
        """Ask where it is now. Raises RespConnectionError. Callers at the same time share the answer."""
        if not self._watching:
            sentinels = self._url.sentinels
            self._watching = [asyncio.create_task(self._watch(sentinel)) for sentinel in sentinels]
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(self._asked)
        # Shielded: one caller that is cancelled does not take the answer away from the others.
        return (await asyncio.shield(self._asking)).address

    def is_current(self, address: RedisAddress) -> bool:
        """Tell whether that is the primary, and not known to be down."""
        return self._primary is not None and self._primary.address == address

    async def close(self) -> None:
        """Stop listening to the Sentinels."""
        tasks = [*self._watching, *([self._asking] if self._asking is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._watching = []

    async def _ask(self) -> Primary:
        primary = await ask(self._url)
        if primary.epoch < self._epoch:
            # Those who know better are away, and this one missed a failover.
            raise RespConnectionError(
                f"the Sentinels of {self._url.name!r} that answer do not know of the last failover"
            )
        moved = self._primary is not None and self._primary.address != primary.address
        self._primary, self._epoch = primary, primary.epoch
        if moved:
            self.on_move()
        return primary

    def _asked(self, asking: asyncio.Task[Primary]) -> None:
        self._asking = None
        if not asking.cancelled():
            asking.exception()  # seen: every caller that waited may be gone

    async def _watch(self, sentinel: RedisAddress) -> None:
        while True:
            with contextlib.suppress(RespConnectionError):
                feed = await Subscriber.open(OneRedis(sentinel), [_SWITCHED, _DOWN], timeout_s=self.connect_timeout_s)
                try:
                    await self._ask_anew()  # it may have happened before somebody listened
                    while messages := await feed.batch():
                        for message in messages:
                            await self._hear(message)
                finally:
                    feed.close()
            await asyncio.sleep(_PAUSE_S)

    async def _hear(self, message: Any) -> None:
        match message:
            case [b"message", channel, bytes(text)] if channel == _SWITCHED and text.split()[:1] == [self._name]:
                await self._ask_anew()
            case [b"message", channel, bytes(text)] if channel == _DOWN and self._primary is not None:
                # "master <name> <host> <port> #quorum 2/2"; replicas have messages of the same kind.
                where = self._primary.address
                if text.split()[:4] == [b"master", self._name, where.host.encode(), b"%d" % where.port]:
                    self._primary = None
                    self.on_move()
            case _:
                pass

    @property
    def _name(self) -> bytes:
        return self._url.name.encode()

    async def _ask_anew(self) -> None:
        with contextlib.suppress(RespConnectionError):
            await self.address()


def upstream_of(url: str) -> Upstream:
    """Give what a Redis URL leads to: `redis://…`, `unix:///…` or `redis+sentinel://…`. Raises ValueError."""
    if url.startswith(f"{SCHEME}:"):
        return SentinelPrimary(SentinelUrl.parse(url))
    return OneRedis.at(url)
