"""One HTTP/1.1 connection: asyncio brings its bytes, a C parser (httptools) reads the answers.

Faults are the ones of httpx, so that its callers see no difference.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable, Iterable
from typing import cast

import httptools
import httpx

SocketOption = tuple[int, int, int]

#: An answer's head may take so many bytes, informational answers before it included (h11 has 100 KiB).
MAX_HEAD_BYTES = 65_536
#: So much of a body may lie here unread before the server is made to wait.
MAX_UNREAD_BYTES = 262_144


class Connection(asyncio.Protocol):
    """One connection, which carries one exchange at a time. ``forget`` is called once, when it has ended."""

    def __init__(self, options: Iterable[SocketOption], forget: Callable[[Connection], None]) -> None:
        self._options = options
        self._forget = forget
        self._transport: asyncio.Transport | None = None
        self._poll = select.poll()
        self._waiter: asyncio.Future[None] | None = None
        self._error: httpx.TransportError | None = None
        """Why nothing more is to come from this connection."""
        self._parser: httptools.HttpResponseParser | None = None
        self._reset(bodiless=False)

    def _reset(self, *, bodiless: bool) -> None:
        self._bodiless = bodiless
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._parts: list[bytes] = []
        self._unread_bytes = 0
        self._complete = False
        self._keep_alive = False

    @property
    def reusable(self) -> bool:
        """Whether the answer was read to its end and the server waits for another request."""
        return self._complete and self._keep_alive and self._error is None and not self._parts

    def is_quiet(self) -> bool:
        """Whether an idle connection is still good: what a server says unasked is that it has closed it.

        The event loop may not have looked since: in AWS Lambda it stands still between two requests.
        """
        return self._error is None and not self._poll.poll(0)

    def send(self, data: bytes, *, bodiless: bool) -> None:
        """Begin a new exchange. Never waits: what the socket does not take at once is kept, and sent later."""
        self._reset(bodiless=bodiless)
        self._parser = httptools.HttpResponseParser(self)
        if self._transport is not None and self._error is None:
            self._transport.write(data)

    async def head(self, timeout_s: float | None) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Wait for the status and the headers."""
        while not self._status:
            await self._news(timeout_s)
        return self._status, self._headers

    async def part(self, timeout_s: float | None) -> bytes:
        """Wait for more of the body; empty at its end."""
        while not self._parts:
            if self._complete:
                return b""
            await self._news(timeout_s)
        part = b"".join(self._parts)
        self._parts.clear()
        if self._unread_bytes > MAX_UNREAD_BYTES and self._transport is not None and self._error is None:
            self._transport.resume_reading()
        self._unread_bytes = 0
        return part

    async def _news(self, timeout_s: float | None) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await self._waiter
        except TimeoutError:
            raise httpx.ReadTimeout("the server did not answer in time") from None
        finally:
            self._waiter = None

    def close(self) -> None:
        """Close the connection at once; who waits for it gets an error."""
        self._end(httpx.ReadError("the connection was closed on this side"))

    def _end(self, error: httpx.TransportError) -> None:
        if self._error is not None:
            return
        self._error = error
        self._forget(self)
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, unless nobody wants it any more."""
        self._transport = cast("asyncio.Transport", transport)
        if self._error is not None:
            self._transport.abort()
            return
        sock = transport.get_extra_info("socket")
        for option in self._options:
            sock.setsockopt(*option)
        self._poll.register(sock.fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        if self._error is not None:
            return
        if self._parser is None or self._complete:
            self._end(httpx.RemoteProtocolError("the server said something unasked"))
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            # An answer that was complete before stays good; the connection does not.
            self._end(httpx.RemoteProtocolError(f"the server did not answer in HTTP/1.1 ({type(error).__name__})"))
            return
        if not self._status:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._end(httpx.RemoteProtocolError("the head of the answer is too long"))
                return
        elif self._unread_bytes > MAX_UNREAD_BYTES and self._transport is not None:
            self._transport.pause_reading()
        if self._status:
            self._wake()

    def eof_received(self) -> None:
        """Take the server's end of the connection as that of the whole."""
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end. Without a length, it is the end of the body as well (RFC 9112, section 6.3)."""
        if exc is None:
            if self._status and not self._is_framed():
                self._complete = True
            self._end(httpx.RemoteProtocolError("the server closed the connection before the end of its answer"))
        elif isinstance(exc, BrokenPipeError):
            self._end(httpx.WriteError(str(exc)))
        else:
            self._end(httpx.ReadError(str(exc)))

    def _is_framed(self) -> bool:
        return any(
            name.lower() == b"content-length"
            or (name.lower() == b"transfer-encoding" and b"chunked" in value.lower())
            for name, value in self._headers
        )

    # -- called by httptools

    def on_message_begin(self) -> None:
        """Refuse a second answer: it belongs to no request."""
        if self._complete:
            raise httpx.RemoteProtocolError("more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; those after the body say nothing that anybody here asks for."""
        if not self._status:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Take the status, unless this is an informational answer before the real one (RFC 9110, section 15.2)."""
        status = cast("httptools.HttpResponseParser", self._parser).get_status_code()
        if status < httpx.codes.OK:
            self._headers = []
            return
        self._status = status
        self._complete = self._bodiless  # The parser waits for a body all the same: not kept alive.

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if not self._complete:
            self._parts.append(body)
            self._unread_bytes += len(body)

    def on_message_complete(self) -> None:
        """Take the end of the answer."""
        if self._status and not self._complete:
            self._complete = True
            self._keep_alive = cast("httptools.HttpResponseParser", self._parser).should_keep_alive()
