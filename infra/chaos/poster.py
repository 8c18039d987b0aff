"""JSON requests over kept connections, for senders that must leave the machine's processors to what is tested."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from infra.chaos.http_messages import content, read_body, read_head
from infra.chaos.origin import Origin, Streams
from infra.local.loopback import shut

#: The header of an answer that the server never gave: a fault of ours did.
INJECTED = "x-chaos"


class Reply(NamedTuple):
    """What was answered: ``said`` is None for a body that is no JSON."""

    status: int
    said: Any
    injected: bool


class Poster:
    """Sends requests to one origin. A connection that failed is not used again."""

    def __init__(self, origin: Origin, headers: Mapping[str, str]) -> None:
        self._origin = origin
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._idle: list[Streams] = []

    async def post(self, path: str, body: Any, *, timeout_s: float) -> Reply:
        """Post once. Raises OSError (TimeoutError included), EOFError or ValueError for what is no HTTP."""
        return await self._request("POST", path, json.dumps(body).encode(), timeout_s)

    async def get(self, path: str, *, timeout_s: float) -> Reply:
        """Get once. Raises the same."""
        return await self._request("GET", path, b"", timeout_s)

    async def aclose(self) -> None:
        """Close what is open."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(shut(writer) for _, writer in idle))

    async def _request(self, method: str, path: str, body: bytes, timeout_s: float) -> Reply:
        async with asyncio.timeout(timeout_s):
            connection = self._take_idle() or await self._origin.connect()
            try:
                reply, kept = await self._exchange(connection, method, path, body)
            except BaseException:  # cancellation included: an answer may still be under way on it
                connection[1].transport.abort()
                raise
        if kept:
            self._idle.append(connection)
        else:
            await shut(connection[1])
        return reply

    def _take_idle(self) -> Streams | None:
        """Return a kept connection that its server has not closed, as far as is known."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.transport.abort()
        return None

    async def _exchange(self, connection: Streams, method: str, path: str, body: bytes) -> tuple[Reply, bool]:
        reader, writer = connection
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self._origin.authority}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{self._headers}\r\n"
        )
        writer.write(head.encode() + body)
        answered = await read_head(reader)
        text = content(answered, await read_body(reader, answered, is_answer=True))
        try:
            said = json.loads(text)
        except ValueError:
            said = None
        return Reply(answered.status, said, INJECTED in answered.fields), answered.keeps_alive
