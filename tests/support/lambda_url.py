"""A function's own URL, as AWS gives it: an origin that leads to the emulator's path for the function.

On AWS a client that leaves is invisible: its function is told nothing and goes on. The emulator breaks the function's
answer off instead. So what comes for a client that has left is read here to its end, unless a test wants otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from infra.chaos.http_messages import Head, chunk, parts, read_body, read_head
from infra.local.loopback import HOST, shut

_LIMIT_BYTES = 1 << 20


class LambdaUrl:
    """Listens on `port`; each request is one invocation of the function."""

    def __init__(self, function: str, emulator_port: int) -> None:
        self.port = 0
        self.unseen = True
        """Whether the function goes on for a client that has left, as on AWS."""
        self.left = 0
        """How many clients left before their answer had ended."""
        self._prefix = f"/lambda-url/{function}"
        self._emulator_port = emulator_port
        self._serving: set[asyncio.Task[None]] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, function: str, emulator_port: int) -> AsyncIterator[LambdaUrl]:
        """Listen on any port; at the end every connection is closed."""
        url = cls(function, emulator_port)
        server = await asyncio.start_server(url._accept, HOST, 0, limit=_LIMIT_BYTES)
        url.port = server.sockets[0].getsockname()[1]
        try:
            yield url
        finally:
            server.close()
            for task in list(url._serving):
                task.cancel()
            await asyncio.gather(*url._serving, return_exceptions=True)
            await server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            # One side has gone, or the test ends.
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                while await self._serve(reader, writer):
                    pass
        finally:
            await shut(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Pass one request on, and its answer back. Returns whether another one may follow."""
        head = await read_head(reader)
        body = await read_body(reader, head, is_answer=False)
        answers, requests = await asyncio.open_connection(HOST, self._emulator_port, limit=_LIMIT_BYTES)
        try:
            method, target, version = head.first.split(" ")
            first, _, rest = head.raw.partition(b"\r\n")
            assert first.decode() == head.first
            requests.write(f"{method} {self._prefix}{target} {version}\r\n".encode() + rest + body)
            answered = await read_head(answers)
            writer.write(answered.raw)
            if answered.is_chunked:
                await self._stream(answers, answered, reader, writer)
                return False
            writer.write(await read_body(answers, answered, is_answer=True))
            await writer.drain()
            return answered.keeps_alive and head.keeps_alive
        finally:
            requests.close()

    async def _stream(
        self,
        answers: asyncio.StreamReader,
        answered: Head,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        forwarding = asyncio.ensure_future(_forward(answers, answered, writer))
        leaving = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait([forwarding, leaving], return_when=asyncio.FIRST_COMPLETED)
            if not forwarding.done():
                self.left += 1
                if self.unseen:
                    await forwarding
        finally:
            for task in (forwarding, leaving):
                task.cancel()
            await asyncio.gather(forwarding, leaving, return_exceptions=True)


async def _forward(answers: asyncio.StreamReader, answered: Head, writer: asyncio.StreamWriter) -> None:
    """Pass a body on, and read it to its end in any case."""
    async for data in parts(answers, answered):
        with contextlib.suppress(OSError):
            writer.write(chunk(data))
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.write(chunk(b""))
        await writer.drain()
