"""JSON posts over kept connections, for senders that must leave the machine's processors to what is tested."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from infra.local.loopback import HOST, shut

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Poster:
    """Posts to one port. A connection that failed is not used again."""

    def __init__(self, port: int, headers: dict[str, str]) -> None:
        self._port = port
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._idle: list[_Connection] = []

    async def post(self, path: str, body: Any, *, timeout_s: float) -> tuple[int, Any]:
        """Post once; give the status and the JSON of the answer. Raises OSError, EOFError or TimeoutError."""
        async with asyncio.timeout(timeout_s):
            connection = self._idle.pop() if self._idle else await asyncio.open_connection(HOST, self._port)
            try:
                answer = await self._exchange(connection, path, json.dumps(body).encode())
            except BaseException:  # cancellation included: an answer may still be under way on it
                connection[1].transport.abort()
                raise
        self._idle.append(connection)
        return answer

    async def close(self) -> None:
        """Close what is open."""
        while self._idle:
            await shut(self._idle.pop()[1])

    async def _exchange(self, connection: _Connection, path: str, body: bytes) -> tuple[int, Any]:
        reader, writer = connection
        head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(body)}\r\n{self._headers}\r\n"
        writer.write(head.encode() + body)
        status_line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines if line)
        answer = await reader.readexactly(int(headers["content-length"]))
        return int(status_line.split()[1]), json.loads(answer)
