"""A small HTTP/1.1 transport for httpx: a bounded pool of warm connections to one server.

httpx's own transport (httpcore, h11, anyio) takes two thirds of the CPU of a push, and httpcore 1.0 loses a place of
its pool with some cancelled requests (its issue 1093). Here giving a place back never waits: no cancellation can come
in between.

It speaks to one origin, without proxies and redirects. Request bodies are sent whole, answers can be streamed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

import httpx

from shared.http_connection import Connection, SocketOption
from shared.tls import tls_context

Headers = list[tuple[bytes, bytes]]


class PooledTransport(httpx.AsyncBaseTransport):
    """Sends the requests of one event loop to the server of ``url``, one at a time on each connection.

    Who finds ``max_connections`` of them busy waits in line. Of the time-outs that httpx passes along, ``write``
    has no meaning: writing does not wait. Raises what httpx's own transport raises.
    """

    def __init__(self, url: str, *, max_connections: int, socket_options: Iterable[SocketOption] = ()) -> None:
        origin = httpx.URL(url)
        if origin.scheme not in ("http", "https") or not origin.host:
            raise httpx.UnsupportedProtocol(f"this is no address of a server: {url}")
        self._origin = (origin.scheme, origin.host, origin.port)
        self._port = origin.port or (443 if origin.scheme == "https" else 80)
        self._tls = tls_context() if origin.scheme == "https" else None
        self._socket_options = tuple(socket_options)
        # A request has a place from before it has a connection until its answer is closed. New connections are
        # opened only while none is idle, so that there are never more connections than places.
        self._places = asyncio.Semaphore(max_connections)
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []
        self._closed = False

    @property
    def open_connections(self) -> int:
        """How many connections the pool holds now, those that are being opened included."""
        return len(self._connections)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return its answer, whose body is still to be read, or closed."""
        url = request.url
        if (url.scheme, url.host, url.port) != self._origin:
            raise httpx.UnsupportedProtocol(f"this transport does not speak to {url.scheme}://{url.host}")
        timeouts = request.extensions.get("timeout", {})
        read_timeout_s = timeouts.get("read")
        connection, status, headers = await self._begin(
            _encode(request),
            bodiless=request.method == "HEAD",
            pool_s=timeouts.get("pool"),
            connect_s=timeouts.get("connect"),
            read_s=read_timeout_s,
        )
        return httpx.Response(status, headers=headers, stream=_Body(connection, read_timeout_s, self._give_back))

    async def exchange(self, data: bytes, *, connect_s: float) -> tuple[int, Headers, bytes]:
        """Send a request as it goes on the wire; return the answer's status, headers and whole body.

        Who calls bounds the whole of it in time.
        """
        connection, status, headers = await self._begin(data, connect_s=connect_s)
        try:
            parts = []
            while part := await connection.part(None):
                parts.append(part)
        finally:
            self._give_back(connection)
        return status, headers, b"".join(parts)

    async def _begin(
        self,
        data: bytes,
        *,
        bodiless: bool = False,
        pool_s: float | None = None,
        connect_s: float | None = None,
        read_s: float | None = None,
    ) -> tuple[Connection, int, Headers]:
        """Send a request and wait for the head of its answer. Whoever gets the connection gives it back."""
        try:
            async with asyncio.timeout(pool_s):
                await self._places.acquire()
        except TimeoutError:
            raise httpx.PoolTimeout("every connection is busy") from None
        connection = None
        try:
            connection = self._take_idle() or await self._connect(connect_s)
            connection.send(data, bodiless=bodiless)
            status, headers = await connection.head(read_s)
        except BaseException:  # cancellation included: the place must be given back
            self._give_back(connection)
            raise
        return connection, status, headers

    async def aclose(self) -> None:
        """Close every connection. Requests under way fail with an httpx error, and so do those in line."""
        self._closed = True
        for connection in list(self._connections):
            connection.close()
        await asyncio.sleep(0)  # The event loop closes the sockets in its next turn.

    async def _connect(self, timeout_s: float | None) -> Connection:
        if self._closed:
            raise httpx.ConnectError("the pool is closed")
        connection = Connection(self._socket_options, self._forget)
        self._connections.add(connection)
        try:
            async with asyncio.timeout(timeout_s):
                tls = None
                if self._tls is not None:
                    tls = await asyncio.wrap_future(self._tls)
                await asyncio.get_running_loop().create_connection(
                    lambda: connection, self._origin[1], self._port, ssl=tls
                )
        except BaseException as error:  # cancellation included: no connection may be left behind
            connection.close()
            if isinstance(error, TimeoutError):
                raise httpx.ConnectTimeout("the server did not accept a connection in time") from error
            if isinstance(error, OSError):
                raise httpx.ConnectError(str(error)) from error
            raise
        return connection

    def _take_idle(self) -> Connection | None:
        """Return the connection that was used last: the one least likely to be closed by the server."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_quiet():
                return connection
            connection.close()
        return None

    def _give_back(self, connection: Connection | None) -> None:
        """Take a place back, and the connection if another request may follow on it."""
        if connection is not None:
            if connection.reusable and not self._closed:
                self._idle.append(connection)
            else:
                connection.close()
        self._places.release()

    def _forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)


class _Body(httpx.AsyncByteStream):
    """The body of an answer. Its end or its closing, whichever httpx calls first, gives the place back."""

    def __init__(
        self, connection: Connection, timeout_s: float | None, give_back: Callable[[Connection], None]
    ) -> None:
        self._connection: Connection | None = connection
        self._timeout_s = timeout_s
        self._give_back = give_back

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._connection is not None and (part := await self._connection.part(self._timeout_s)):
            yield part

    async def aclose(self) -> None:
        """Give the place back; it never waits."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._give_back(connection)


def _encode(request: httpx.Request) -> bytes:
    """Return a request as it goes on the wire. Raises LocalProtocolError rather than let a header end early."""
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%b: %b" % header for header in request.headers.raw]
    return joined(lines, request.content)


def joined(lines: Sequence[bytes], content: bytes) -> bytes:
    """Return the lines of a head and a body as one. Raises LocalProtocolError if a line holds a line end or NUL."""
    head = b"\r\n".join(lines)
    if not head.count(b"\r") == head.count(b"\n") == len(lines) - 1 or b"\0" in head:
        raise httpx.LocalProtocolError("a header must not contain line ends or NUL")
    return b"%b\r\n\r\n%b" % (head, content)
