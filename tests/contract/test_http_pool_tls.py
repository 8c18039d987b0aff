"""The transport over TLS, as it speaks to Upstash."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from shared.http_pool import PooledTransport
from tests.support import tls
from tests.support.loopback import HOST, shut


class Echo:
    """Answers each request with its body, over TLS; counts connections."""

    def __init__(self) -> None:
        self.connections = 0
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator[Echo]:
        """Serve on any port."""
        echo = cls()
        server = await asyncio.start_server(echo._accept, HOST, 0, ssl=tls.serving())
        echo.url = f"https://{HOST}:{server.sockets[0].getsockname()[1]}"
        try:
            yield echo
        finally:
            server.close()
            for task in echo._tasks:
                task.cancel()
            await asyncio.gather(*echo._tasks, return_exceptions=True)
            await server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                body = await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                await writer.drain()
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the client has gone, or the server ends
        finally:
            self._tasks.discard(task)
            await shut(writer)


@asynccontextmanager
async def client_of(url: str, *, most: int = 5) -> AsyncIterator[tuple[httpx.AsyncClient, PooledTransport]]:
    transport = PooledTransport(url, max_connections=most)
    async with httpx.AsyncClient(transport=transport, timeout=10) as client:
        yield client, transport


async def test_a_server_that_nobody_vouches_for_is_not_spoken_to() -> None:
    """What it would get is the database's token."""
    async with Echo.running() as echo, client_of(echo.url) as (client, transport):
        with pytest.raises(httpx.ConnectError) as caught:
            await client.post(echo.url, content=b"secret")
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        assert transport.open_connections == 0


async def test_a_certificate_for_another_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust in the certificate is not enough."""
    monkeypatch.setattr("shared.http_pool._tls_context", tls.trusting)
    async with Echo.running() as echo:
        other = echo.url.replace(HOST, "localhost")
        async with client_of(other) as (client, _):
            with pytest.raises(httpx.ConnectError) as caught:
                await client.post(other, content=b"secret")
            assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


async def test_requests_follow_each_other_on_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handshake takes longer than a request; also bodies of many TLS records come whole, and pauses do no harm."""
    monkeypatch.setattr("shared.http_pool._tls_context", tls.trusting)
    async with Echo.running() as echo, client_of(echo.url) as (client, transport):
        for size in (0, 1, 16_384, 16_385, 1_000_000, 3):
            body = b"x" * size
            assert (await client.post(echo.url, content=body)).content == body
            await asyncio.sleep(0.01)
        assert (echo.connections, transport.open_connections) == (1, 1)


async def test_many_at_once_share_the_places_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each gets its own answer."""
    monkeypatch.setattr("shared.http_pool._tls_context", tls.trusting)
    async with Echo.running() as echo, client_of(echo.url, most=4) as (client, transport):
        bodies = [b"%d" % number * 100 for number in range(60)]
        answers = await asyncio.gather(*(client.post(echo.url, content=body) for body in bodies))
        assert [answer.content for answer in answers] == bodies
        assert echo.connections == transport.open_connections == 4
