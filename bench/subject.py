"""What is measured: something that takes pushes on one side and gives events on the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

from bench.ledger import Ledger
from bench.raw_http import Done, EventStream, Pool

#: Keep-alive connections for pushes. At 200 a second they are all busy only if nothing moves for 300 ms.
PUSH_CONNECTIONS = 64
_OPENING_AT_ONCE = 32
_OPENED_S = 10.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Audience:
    """Who follows what: ``streams`` streams, of which stream n follows mailbox n modulo ``mailboxes``."""

    streams: int
    mailboxes: int

    @classmethod
    def each_its_own(cls, streams: int) -> Audience:
        """Every stream has a mailbox of its own."""
        return cls(streams, streams)

    @classmethod
    def one_for_all(cls, streams: int) -> Audience:
        """All streams follow the same mailbox."""
        return cls(streams, 1)

    def mailbox(self, stream: int) -> int:
        """Return what a stream follows."""
        return stream % self.mailboxes

    def followers(self, mailbox: int) -> int:
        """Return how many streams follow a mailbox."""
        return len(range(mailbox, self.streams, self.mailboxes))


class Subject(Protocol):
    """One way from a push to a client. `open` and `close` surround each round."""

    #: How tables call it.
    name: ClassVar[str]
    #: The process that holds the streams, if there is one.
    server: ClassVar[str | None]
    #: Whether a lost event makes the measurement worthless. What others lose is counted and told.
    strict: ClassVar[bool]

    async def open(self, audience: Audience) -> None:
        """Open the push connections and the streams."""

    def listen(self, ledger: Ledger) -> None:
        """Say where events are noted from now on."""

    def request(self, mailbox: int, message_id: int) -> bytes:
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


class Server:
    """A subject that is one or two HTTP servers: a port for pushes, and one that a stream is opened at by a GET."""

    name: ClassVar[str]
    server: ClassVar[str | None]
    strict: ClassVar[bool]

    def __init__(self, push_port: int, stream_port: int) -> None:
        self._push_port = push_port
        self.stream_port = stream_port
        self._sockets = Sockets()
        self._ledger: Ledger | None = None

    def request(self, mailbox: int, message_id: int) -> bytes:
        """Build the request of one push."""
        raise NotImplementedError

    def fault(self, status: int, body: bytes) -> str | None:
        """Return what is wrong with the answer to a push, if anything."""
        raise NotImplementedError

    def stream_request(self, stream: int, mailbox: int) -> bytes:
        """Build the request that opens a stream."""
        raise NotImplementedError

    def take(self, number: int, stream: EventStream, frame: bytes) -> None:
        """Take a frame of stream ``number``."""
        raise NotImplementedError

    async def open(self, audience: Audience) -> None:
        """Open the push connections and the streams, a few at a time."""
        await self.open_pushes()
        await all_of([self.join(number, audience) for number in range(audience.streams)])

    async def open_pushes(self) -> None:
        """Open the push connections alone."""
        self._sockets = Sockets()
        self._ledger = None
        await self._sockets.pool.open(self._push_port, PUSH_CONNECTIONS)

    async def join(self, number: int, audience: Audience, *, timeout_s: float = _OPENED_S) -> None:
        """Open one stream more; returns when it is greeted. Raises BrokenConnectionError and OSError."""
        data = self.stream_request(number, audience.mailbox(number))

        def take(stream: EventStream, frame: bytes) -> None:
            self.take(number, stream, frame)

        self._sockets.streams.append(await EventStream.open(self.stream_port, data, take, timeout_s=timeout_s))

    def listen(self, ledger: Ledger) -> None:
        """Say where events are noted from now on."""
        self._ledger = ledger

    def send(self, data: bytes, done: Done) -> None:
        """Send one push."""
        self._sockets.pool.send(data, done)

    async def push(self, mailbox: int, message_id: int) -> None:
        """Send one push and wait for its answer."""
        status, body = await self._sockets.pool.fetch(self.request(mailbox, message_id))
        assert self.fault(status, body) is None, body

    def ended(self) -> list[str]:
        """Return why streams ended before they were closed."""
        return self._sockets.faults

    async def close(self) -> None:
        """Close everything."""
        self._sockets.close()

    def _arrived(self, frame: bytes, number: int) -> None:
        if self._ledger is not None:
            self._ledger.arrive(frame, number)

    def _greeted(self, stream: EventStream) -> None:
        if not stream.opened.done():
            stream.opened.set_result(None)


async def all_of(openings: Sequence[Awaitable[_T]]) -> list[_T]:
    """Await all, a few at a time, and return their results in order. Raises the first error when all are over."""
    room = asyncio.Semaphore(_OPENING_AT_ONCE)

    async def one(opening: Awaitable[_T]) -> _T:
        async with room:
            return await opening

    results = await asyncio.gather(*(one(opening) for opening in openings), return_exceptions=True)
    done: list[_T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done
