"""A proxy between the gateway and Redis. It knows nothing of their protocol: what it breaks are TCP connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from infra.chaos.link import Fault, Link
from infra.chaos.origin import Origin
from infra.chaos.topology import Kind
from infra.local.loopback import HOST, reset, shut

_READ_BYTES = 65_536


class RespProxy:
    """Listens on `port` and passes every connection on to ``upstream``."""

    def __init__(self, link: Link, upstream: Origin) -> None:
        self.port = 0
        self._link = link
        self._upstream = upstream
        self._serving: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[RespProxy]:
        """Listen on any port; at the end every connection is closed."""
        server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(self._serving):
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # One of the two sides has gone, or the proxy ends.
        with contextlib.suppress(OSError, asyncio.CancelledError):
            replies, commands = await self._upstream.connect()
            connection = _Connection(self._link)
            self._link.add(connection)
            pipes = [
                asyncio.ensure_future(connection.commands(reader, commands)),
                asyncio.ensure_future(connection.replies(replies, writer)),
            ]
            try:
                await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._link.lines.discard(connection)
                for pipe in pipes:
                    pipe.cancel()
                await asyncio.gather(*pipes, return_exceptions=True)
                if connection.broken:
                    reset(writer)
                await shut(commands)
        await shut(writer)


class _Connection:
    """One connection. A pipe that returns ends it."""

    def __init__(self, link: Link) -> None:
        self.broken = False
        """Whether it ends with a RST instead of a FIN."""
        self._link = link
        self._hung_by: Fault | None = None

    def strike(self, fault: Fault) -> None:
        """Hang from now on."""
        if fault.kind is Kind.HANG and self._link.hits(fault):
            self._hung_by = fault

    def relieve(self, fault: Fault) -> None:
        """Go on, or break: see `_hang`."""

    async def commands(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(_READ_BYTES):
            await self._link.delay()
            if not await self._hang():
                return
            if self._draw(Kind.RESET_BEFORE):
                return
            target.write(data)
            await target.drain()

    async def replies(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(_READ_BYTES):
            if not await self._hang():
                return
            if self._draw(Kind.RESET_AFTER):
                return
            if self._draw(Kind.HALF):
                target.write(data[: self._link.rng.randrange(len(data))])
                await target.drain()
                self.broken = self._link.rng.random() < 0.5  # noqa: PLR2004
                return
            target.write(data)
            await target.drain()

    def _draw(self, kind: Kind) -> bool:
        fault = self._link.draw(kind)
        if fault is None:
            return False
        self._link.fire(kind)
        self.broken = True
        return True

    async def _hang(self) -> bool:
        """Wait while the connection hangs. Returns whether it goes on afterwards: half of them do, as if late."""
        fault = self._hung_by
        if fault is None or fault.over.is_set():
            return True
        self._link.fire(Kind.HANG)
        await fault.over.wait()
        self.broken = self._link.rng.random() < 0.5  # noqa: PLR2004
        return not self.broken
