r"""A TCP server that says exactly what a test tells it to: for answers that no sound server gives.

    async def answer(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\n…")

    async with ScriptedServer.running(answer) as server:
        client.get(server.url)

The script runs once for each connection; when it returns, the connection is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

from infra.local.loopback import HOST, shut


class Connection:
    """One client's connection. ``number`` counts from 1."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.headers: dict[str, str] = {}
        """Those of the last request, names in lower case."""
        self._reader = reader
        self._writer = writer

    async def request(self) -> tuple[str, bytes]:
        """Read one HTTP request: its first line and its body. Raises IncompleteReadError when the client has left."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        self.headers = {name.lower(): value.strip() for name, _, value in pairs}
        return first, await self._reader.readexactly(int(self.headers.get("content-length", 0)))

    async def send(self, data: bytes) -> None:
        """Write bytes as they are."""
        self._writer.write(data)
        await self._writer.drain()

    async def respond(self, body: bytes, *, status: str = "200 OK", kind: str = "application/json") -> None:
        """Write a whole answer."""
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        await self.send(head.encode() + body)

    async def start_feed(self) -> None:
        """Write the head of an answer without an end."""
        await self.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")

    async def chunk(self, data: bytes) -> None:
        """Write a part of it."""
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def left(self) -> None:
        """Return when the client has closed the connection."""
        while await self._reader.read(65_536):
            pass


Script = Callable[[Connection], Awaitable[None]]


class ScriptedServer:
    """Runs a script for each connection."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.connections = 0
        """How many connections there ever were."""
        self.open = 0
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedServer]:
        """Listen on any port; at the end every connection is closed."""
        scripted = cls(script)
        server = await asyncio.start_server(scripted._accept, HOST, 0, ssl=tls)
        scripted.url = f"http{'s' if tls else ''}://{HOST}:{server.sockets[0].getsockname()[1]}"
        try:
            yield scripted
        finally:
            server.close()
            for task in scripted._tasks:
                task.cancel()
            await asyncio.gather(*scripted._tasks, return_exceptions=True)
            await server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        self.open += 1
        try:
            await self.script(Connection(self.connections, reader, writer))
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has gone, or the server ends
        finally:
            self.open -= 1
            await shut(writer)
