"""A TCP proxy between the stream process and the gateway: it delays each connection, and can fall silent or cut.

    async with DelayingProxy.running(delay) as proxy, Stack.running(directory, upstream=proxy):
        proxy.freeze("/subscribe/")

What a connection is for stands in the first request line that it carries: ``POST /subscribe/<channel>`` for a feed,
``POST /`` for commands.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import unquote

from infra.local.loopback import HOST, shut

_READ_BYTES = 65_536


class Delay(NamedTuple):
    """How long a connection's bytes are held back, in each direction, in seconds."""

    request_s: float = 0.0
    answer_s: float = 0.0


def no_delay(_request_line: str) -> Delay:
    """Delay nothing."""
    return Delay()


class _Connection:
    def __init__(self, request_line: str) -> None:
        self.request_line = request_line
        self.flows = asyncio.Event()
        self.flows.set()
        self.cut = asyncio.Event()
        self.asks = True
        """Whether the last bytes that passed were the client's."""

    def passes(self, *, client: bool) -> None:
        self.asks = client


class DelayingProxy:
    """Forwards connections to ``target_port``, each with the delay that ``delay`` gives for its request line."""

    def __init__(self, delay: Callable[[str], Delay]) -> None:
        self.port = 0
        self.target_port = 0
        self.request_lines: list[str] = []
        """The first line of every connection that ever was, percent-decoded."""
        self._delay = delay
        self._open: set[_Connection] = set()
        self._frozen_from_start: tuple[str, ...] = ()
        self._serving: set[asyncio.Task[None]] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, delay: Callable[[str], Delay] = no_delay) -> AsyncIterator[DelayingProxy]:
        """Listen on any port; at the end every connection is closed."""
        proxy = cls(delay)
        server = await asyncio.start_server(proxy._accept, HOST, 0)
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            server.close()
            for task in proxy._serving:
                task.cancel()
            await asyncio.gather(*proxy._serving, return_exceptions=True)
            await server.wait_closed()

    def opened(self, path: str) -> int:
        """Count the connections there have been whose first request was for this path, or one that begins so."""
        return sum(_path(line).startswith(path) for line in self.request_lines)

    def freeze(self, *paths: str, new: bool = False) -> int:
        """Stop forwarding for open connections whose path begins so, without closing them; returns how many.

        With ``new`` the same befalls every connection that is opened before `thaw`.
        """
        frozen = [c for c in self._open if _path(c.request_line).startswith(paths)]
        for connection in frozen:
            connection.flows.clear()
        if new:
            self._frozen_from_start = paths
        return len(frozen)

    def cut(self, *paths: str) -> int:
        """Close open connections whose path begins so, on both sides; returns how many."""
        cut = [c for c in self._open if _path(c.request_line).startswith(paths)]
        for connection in cut:
            connection.cut.set()
        return len(cut)

    @property
    def waiting(self) -> int:
        """How many connections wait for an answer to what they have asked."""
        return sum(connection.asks for connection in self._open)

    def thaw(self) -> None:
        """Let everything flow again, what was held back first."""
        self._frozen_from_start = ()
        for connection in self._open:
            connection.flows.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # one of the two sides has gone, or the proxy ends
        finally:
            await shut(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readline()
        if not first:
            return
        line = unquote(first.decode("latin-1").strip())
        connection = _Connection(line)
        if self._frozen_from_start and _path(line).startswith(self._frozen_from_start):
            connection.flows.clear()
        self.request_lines.append(line)
        delay = self._delay(line)
        answers, requests = await asyncio.open_connection(HOST, self.target_port)
        self._open.add(connection)
        pipes: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(
                _pipe(
                    reader,
                    requests,
                    delay.request_s,
                    connection.flows,
                    partial(connection.passes, client=True),
                    first,
                )
            ),
            asyncio.ensure_future(
                _pipe(answers, writer, delay.answer_s, connection.flows, partial(connection.passes, client=False))
            ),
            asyncio.ensure_future(connection.cut.wait()),
        ]
        try:
            await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
        finally:
            requests.close()
            self._open.discard(connection)
            for pipe in pipes:
                pipe.cancel()
            await asyncio.gather(*pipes, return_exceptions=True)
            await shut(requests)


async def _pipe(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    delay_s: float,
    flows: asyncio.Event,
    passes: Callable[[], None],
    first: bytes = b"",
) -> None:
    """Forward until the reader ends. Order is kept; an end is passed on at once when nothing is before it."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def take() -> None:
        try:
            if first:
                waiting.put_nowait((loop.time() + delay_s, first))
            while data := await reader.read(_READ_BYTES):
                waiting.put_nowait((loop.time() + delay_s, data))
        except OSError:
            pass  # a reset ends it as well
        finally:
            waiting.put_nowait((loop.time() + delay_s, b""))

    taking = asyncio.ensure_future(take())
    try:
        while True:
            due, data = await waiting.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                return
            await flows.wait()
            passes()
            writer.write(data)
            await writer.drain()
    finally:
        taking.cancel()


def _path(request_line: str) -> str:
    return request_line.partition(" ")[2]
