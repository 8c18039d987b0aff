"""HTTP/1.1 on raw sockets: what a load generator can afford, 1 object and 1 C parser a connection.

Nothing here waits or retries: callers are called back as soon as the bytes are complete.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import cast

import httptools

Done = Callable[[int, bytes], None]


class BrokenConnectionError(Exception):
    """A connection ended, or did not speak HTTP, while something was expected of it."""


def request(method: str, path: str, port: int, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """Build the bytes of a request to 127.0.0.1. A body is JSON."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if method == "POST":
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body


class Connection(asyncio.Protocol):
    """A keep-alive connection that carries one request at a time."""

    def __init__(self, free: Callable[[Connection], None], broken: Callable[[str], None]) -> None:
        self._free = free
        self._broken = broken
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.WriteTransport | None = None
        self._done: Done | None = None
        self._body: list[bytes] = []
        self._closing = False

    @classmethod
    async def open(cls, port: int, free: Callable[[Connection], None], broken: Callable[[str], None]) -> Connection:
        """Connect to 127.0.0.1. ``free`` is called after each answer, ``broken`` if it ends unasked."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: cls(free, broken), "127.0.0.1", port)
        return connection

    def send(self, data: bytes, done: Done) -> None:
        """Send a request; ``done`` gets the status and the body of its answer."""
        assert self._transport is not None
        self._done = done
        self._transport.write(data)

    def close(self) -> None:
        """Close the connection."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport (asyncio)."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Take bytes (asyncio)."""
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end (asyncio)."""
        if not self._closing:
            self._broken(f"a connection was closed: {exc or 'end of stream'}")

    def on_body(self, body: bytes) -> None:
        """Take a part of the body (httptools)."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Hand over the answer (httptools)."""
        done, self._done = self._done, None
        body, self._body = b"".join(self._body), []
        assert done is not None
        self._free(self)
        done(self._parser.get_status_code(), body)


class Pool:
    """Keep-alive connections to one port; the one used last is used first.

    A request that finds all of them busy waits for the next free one.
    """

    def __init__(self, broken: Callable[[str], None]) -> None:
        self._broken = broken
        self._connections: list[Connection] = []
        self._idle: list[Connection] = []
        self._waiting: deque[tuple[bytes, Done]] = deque()

    async def open(self, port: int, size: int) -> None:
        """Connect to 127.0.0.1."""
        self._connections = [await Connection.open(port, self._free, self._broken) for _ in range(size)]
        self._idle = list(self._connections)

    def send(self, data: bytes, done: Done) -> None:
        """Send a request; ``done`` gets the status and the body of its answer."""
        if self._idle:
            self._idle.pop().send(data, done)
        else:
            self._waiting.append((data, done))

    async def fetch(self, data: bytes) -> tuple[int, bytes]:
        """Send a request and wait for the status and the body of its answer."""
        answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self.send(data, lambda status, body: answer.set_result((status, body)))
        return await answer

    def close(self) -> None:
        """Close every connection."""
        for connection in self._connections:
            connection.close()

    def _free(self, connection: Connection) -> None:
        if self._waiting:
            # Not from within the parser's callback: it has an answer to finish first.
            asyncio.get_running_loop().call_soon(connection.send, *self._waiting.popleft())
        else:
            self._idle.append(connection)


class EventStream(asyncio.Protocol):
    """One stream of server-sent events: calls ``on_frame`` with each frame, its blank line left off.

    `opened` is a future for whoever knows the frame that means it.
    """

    def __init__(self, data: bytes, on_frame: Callable[[EventStream, bytes], None]) -> None:
        self._request = data
        self._on_frame = on_frame
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.WriteTransport | None = None
        self._rest = b""
        self._closing = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended: str | None = None

    def read(self, *, on: bool) -> None:
        """Read what comes, or leave it where it is."""
        transport = cast("asyncio.ReadTransport", self._transport)
        if on:
            transport.resume_reading()
        else:
            transport.pause_reading()

    @classmethod
    async def open(
        cls, port: int, data: bytes, on_frame: Callable[[EventStream, bytes], None], *, timeout_s: float = 10.0
    ) -> EventStream:
        """Connect to 127.0.0.1, send the request and wait for `opened`. Raises BrokenConnectionError."""
        loop = asyncio.get_running_loop()
        _, stream = await loop.create_connection(lambda: cls(data, on_frame), "127.0.0.1", port)
        try:
            async with asyncio.timeout(timeout_s):
                await stream.opened
        except TimeoutError:
            raise BrokenConnectionError(f"a stream did not open within {timeout_s:g} s") from None
        return stream

    def close(self) -> None:
        """Close the connection."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request (asyncio)."""
        self._transport = cast("asyncio.WriteTransport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Take bytes (asyncio)."""
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end (asyncio)."""
        if not self._closing:
            self._end(f"a stream was closed: {exc or 'end of stream'}")

    def on_headers_complete(self) -> None:
        """Check the status (httptools)."""
        status = self._parser.get_status_code()
        if status != 200:
            self._end(f"a stream was answered with {status}")

    def on_body(self, body: bytes) -> None:
        """Cut the body into frames (httptools). Both servers here end lines with LF only."""
        *frames, self._rest = (self._rest + body).split(b"\n\n")
        for frame in frames:
            self._on_frame(self, frame)

    def _end(self, why: str) -> None:
        self.ended = self.ended or why
        if not self.opened.done():
            self.opened.set_exception(BrokenConnectionError(why))
