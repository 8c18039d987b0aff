"""What is measured: something that takes pushes on one side and gives events on the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Protocol, TypeVar

from bench.ledger import Ledger
from bench.raw_http import Done, EventStream, Pool

#: Keep-alive connections for pushes. At 200 a second they are all busy only if nothing moves for 300 ms.
PUSH_CONNECTIONS = 64
_OPENING_AT_ONCE = 32

_T = TypeVar("_T")


class Subject(Protocol):
    """One way from a push to a client. `open` and `close` surround each pair of rounds."""

    name: str

    async def open(self, streams: int) -> None:
        """Open the push connections and the streams."""

    def listen(self, ledger: Ledger) -> None:
        """Say where events are noted from now on."""

    def request(self, stream: int, message_id: int) -> bytes:
        """Build the request of one push; made before it is due."""

    def send(self, data: bytes, done: Done) -> None:
        """Send one push."""

    def fault(self, status: int, body: bytes) -> str | None:
        """Return what is wrong with the answer to a push, if anything."""

    def ended(self) -> list[str]:
        """Return why streams ended before they were closed."""

    async def close(self) -> None:
        """Close everything that `open` opened."""


class Sockets:
    """The connections of a subject."""

    def __init__(self) -> None:
        self.broken: list[str] = []
        self.pool = Pool(self.broken.append)
        self.streams: list[EventStream] = []

    @property
    def faults(self) -> list[str]:
        """What ended before it was closed."""
        return self.broken + [stream.ended for stream in self.streams if stream.ended]

    def close(self) -> None:
        """Close all."""
        self.pool.close()
        for stream in self.streams:
            stream.close()


async def all_of(openings: Sequence[Awaitable[_T]]) -> list[_T]:
    """Await all, a few at a time, and return their results in order."""
    room = asyncio.Semaphore(_OPENING_AT_ONCE)

    async def one(opening: Awaitable[_T]) -> _T:
        async with room:
            return await opening

    return await asyncio.gather(*(one(opening) for opening in openings))
