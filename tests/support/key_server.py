"""A key server: serves a JWK set over HTTP, well or badly, counts who asks, and can be away for a while."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from infra.local.loopback import HOST, shut
from tests.support.scripted_server import Connection


class KeyServer:
    """One URL. What it answers is set by its attributes, at any time."""

    def __init__(self, *keys: Mapping[str, Any]) -> None:
        self.requests = 0
        """How many there ever were."""
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b""
        self.drip_s: float | None = None
        """Send the body a byte at a time, with so long a pause between."""
        self.open = asyncio.Event()
        """While it is not set, requests are read and not answered."""
        self.open.set()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.publish(*keys)

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, *keys: Mapping[str, Any]) -> AsyncIterator[KeyServer]:
        """Serve these keys on any port."""
        server = cls(*keys)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()

    @property
    def url(self) -> str:
        """Where the set is."""
        return f"http://{HOST}:{self.port}/certs"

    def publish(self, *keys: Any) -> None:
        """Serve these keys from now on."""
        self.body = json.dumps({"keys": keys}).encode()

    async def start(self) -> None:
        """Listen; a second time on the same port."""
        self._server = await asyncio.start_server(self._accept, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse and cut connections."""
        if self._server is None:
            return
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await self._answer(Connection(0, reader, writer))
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has gone, or the server ends
        finally:
            await shut(writer)

    async def _answer(self, connection: Connection) -> None:
        await connection.request()
        self.requests += 1
        await self.open.wait()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(self.body)), **self.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        await connection.send(f"HTTP/1.1 {self.status} X\r\nConnection: close\r\n{lines}\r\n".encode())
        if self.drip_s is None:
            await connection.send(self.body)
            return
        for byte in self.body:
            await connection.send(bytes([byte]))
            await asyncio.sleep(self.drip_s)
