"""What stands at both ends of a link whose faults are tested: a server that counts, and faults by hand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import NamedTuple

from infra.chaos.http_messages import Head, answer, chunk, read_body, read_head
from infra.chaos.http_proxy import HttpProxy
from infra.chaos.link import Link
from infra.chaos.origin import Origin, Streams
from infra.chaos.schedule import Episode
from infra.chaos.topology import CLIENT, Dialect, Kind, LinkSpec
from infra.local.loopback import HOST, shut

SEED = 7
_FEED_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
)


class CountingServer:
    """Answers every request with ``answer``; a GET of /events or a POST of /subscribe/… is a feed that stays open."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[tuple[Head, bytes]] = []
        self.answer = answer(200, b'{"result":"OK"}')
        self.feeds: list[asyncio.StreamWriter] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls) -> AsyncIterator[CountingServer]:
        """Serve on any port."""
        counting = cls()
        server = await asyncio.start_server(counting._serve, HOST, 0)
        counting.port = server.sockets[0].getsockname()[1]
        try:
            yield counting
        finally:
            server.close()
            for feed in counting.feeds:
                await shut(feed)

    def say(self, *blocks: bytes) -> None:
        """Say something on every feed."""
        for feed in self.feeds:
            for block in blocks:
                feed.write(chunk(block))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                head = await read_head(reader)
                self.requests.append((head, await read_body(reader, head, is_answer=False)))
                if head.target.startswith(("/events", "/subscribe/")):
                    writer.write(_FEED_HEAD)
                    self.feeds.append(writer)
                    return
                writer.write(self.answer)
        await shut(writer)


class Site(NamedTuple):
    """A link with its proxy, and the server behind it."""

    link: Link
    proxy: HttpProxy
    server: CountingServer

    @property
    def origin(self) -> Origin:
        """Where a client of the link goes."""
        return Origin.local(self.proxy.port)


@contextlib.asynccontextmanager
async def site(dialect: Dialect, *, source: str = "webhook", renamed: bool = False) -> AsyncIterator[Site]:
    """Run a proxy on a link before a counting server."""
    link = Link(LinkSpec(source, "gateway", dialect, tuple(Kind)), SEED)
    async with (
        CountingServer.running() as server,
        HttpProxy(link, Origin.local(server.port), renamed=renamed).running() as proxy,
    ):
        yield Site(link, proxy, server)


@contextlib.asynccontextmanager
async def client_site() -> AsyncIterator[Site]:
    """Run a proxy before streams of clients."""
    async with site(Dialect.FUNCTION, source=CLIENT) as found:
        yield found


@contextlib.asynccontextmanager
async def suffering(link: Link, kind: Kind, *, share: float = 1.0, delay_s: float = 0.0) -> AsyncIterator[None]:
    """Let a link have a fault inside of this."""
    fault = asyncio.ensure_future(link.suffer(Episode(0, 60, link.spec.name, kind, share, delay_s)))
    await asyncio.sleep(0)
    try:
        yield
    finally:
        fault.cancel()
        await asyncio.gather(fault, return_exceptions=True)


async def request(streams: Streams, path: str, *fields: str) -> None:
    """Send a request for a feed."""
    lines = [f"GET {path} HTTP/1.1", "Host: x", *fields]
    streams[1].write("\r\n".join([*lines, "", ""]).encode())
    await streams[1].drain()
