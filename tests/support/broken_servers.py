"""Servers that are there and do not serve, each in another way: for what must bear any of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from tests.support.gateway import free_port
from tests.support.scripted_server import Connection, ScriptedServer


async def _hangs(connection: Connection) -> None:
    """Read requests, and answer none."""
    await connection.left()


async def _answers_by_halves(connection: Connection) -> None:
    """Begin an answer, and never end it."""
    await connection.request()
    await connection.send(b'HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{"res')
    await connection.left()


async def _drips(connection: Connection) -> None:
    """Send an answer byte by byte."""
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n")
    while True:
        await connection.send(b" ")
        await asyncio.sleep(0.2)


async def _says_garbage(connection: Connection) -> None:
    """Answer with a page of a proxy."""
    while True:
        await connection.request()
        await connection.respond(b"<html>Bad Gateway</html>", status="502 Bad Gateway", kind="text/html")


async def _says_yes_to_everything(connection: Connection) -> None:
    """Answer 200 without having done anything."""
    while True:
        await connection.request()
        await connection.respond(b'{"ok":true}')


FAULTS: dict[str, Callable[[Connection], Awaitable[None]]] = {
    "hangs": _hangs,
    "halves": _answers_by_halves,
    "drips": _drips,
    "garbage": _says_garbage,
    "yes": _says_yes_to_everything,
}


@contextlib.asynccontextmanager
async def broken(how: str) -> AsyncIterator[str]:
    """Give the URL of a server that is broken in some way; ``refuses`` is none at all."""
    if how == "refuses":
        yield f"http://127.0.0.1:{free_port()}"
        return
    async with ScriptedServer.running(FAULTS[how]) as server:
        yield server.url
