"""The transport over TLS, as it speaks to Upstash."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import pytest

from infra.local.loopback import HOST
from shared.http_pool import PooledTransport
from tests.support import tls
from tests.support.scripted_server import Connection, ScriptedServer


async def echo(connection: Connection) -> None:
    """Answer each request with its body."""
    while True:
        _, body = await connection.request()
        await connection.respond(body)


def echoing() -> AbstractAsyncContextManager[ScriptedServer]:
    return ScriptedServer.running(echo, tls=tls.serving())


@asynccontextmanager
async def client_of(url: str, *, most: int = 5) -> AsyncIterator[tuple[httpx.AsyncClient, PooledTransport]]:
    transport = PooledTransport(url, max_connections=most)
    async with httpx.AsyncClient(transport=transport, timeout=10) as client:
        yield client, transport


async def test_a_server_that_nobody_vouches_for_is_not_spoken_to() -> None:
    """What it would get is the database's token."""
    async with (
        echoing() as server,
        client_of(server.url) as (client, transport),
    ):
        with pytest.raises(httpx.ConnectError) as caught:
            await client.post(server.url, content=b"secret")
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        assert transport.open_connections == 0


async def test_a_certificate_for_another_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust in the certificate is not enough."""
    monkeypatch.setattr("shared.http_pool.tls_context", tls.trusting)
    async with echoing() as server:
        other = server.url.replace(HOST, "localhost")
        async with client_of(other) as (client, _):
            with pytest.raises(httpx.ConnectError) as caught:
                await client.post(other, content=b"secret")
            assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


async def test_requests_follow_each_other_on_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handshake takes longer than a request; also bodies of many TLS records come whole, and pauses do no harm."""
    monkeypatch.setattr("shared.http_pool.tls_context", tls.trusting)
    async with (
        echoing() as server,
        client_of(server.url) as (client, transport),
    ):
        for size in (0, 1, 16_384, 16_385, 1_000_000, 3):
            body = b"x" * size
            assert (await client.post(server.url, content=body)).content == body
            await asyncio.sleep(0.01)
        assert (server.connections, transport.open_connections) == (1, 1)


async def test_many_at_once_share_the_places_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each gets its own answer."""
    monkeypatch.setattr("shared.http_pool.tls_context", tls.trusting)
    async with (
        echoing() as server,
        client_of(server.url, most=4) as (client, transport),
    ):
        bodies = [b"%d" % number * 100 for number in range(60)]
        answers = await asyncio.gather(*(client.post(server.url, content=body) for body in bodies))
        assert [answer.content for answer in answers] == bodies
        assert server.connections == transport.open_connections == 4
