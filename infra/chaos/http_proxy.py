"""A proxy on an HTTP link that passes everything on, but for the faults that the link has at the time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from infra.chaos.canned import garbage, refusal
from infra.chaos.http_messages import Head, read_body, read_head
from infra.chaos.lines import ClientStream, Feed
from infra.chaos.link import Link
from infra.chaos.origin import Origin, Streams
from infra.chaos.topology import Dialect, Kind
from infra.local.loopback import HOST, reset, shut

#: How a client names its connection to the proxy, which passes that on like any other field.
CONNECTION = "x-chaos-connection"
_LIMIT_BYTES = 1 << 20
#: Instead of what a server answers.
_INSTEAD = (Kind.HANG, Kind.RESET_BEFORE, Kind.RESET_AFTER, Kind.HALF)
_REFUSALS = (Kind.ERROR_500, Kind.TOO_MANY, Kind.READONLY)
#: Faults of which half are carried out all the same.
_MAYBE_DONE = (Kind.HANG, Kind.ERROR_500)


class _Reader(asyncio.StreamReader):
    """A reader whose end ends the task that serves it: nobody is there any more to be answered."""

    serving: asyncio.Task[None] | None = None

    def feed_eof(self) -> None:
        super().feed_eof()
        self._end()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self._end()

    def _end(self) -> None:
        if self.serving is not None:
            self.serving.cancel()


class HttpProxy:
    """Listens on `port` and passes requests on to ``upstream``, one connection there for each one here."""

    def __init__(self, link: Link, upstream: Origin, *, renamed: bool = False) -> None:
        """With ``renamed`` the Host header is made to say where the request goes: servers elsewhere look at it."""
        self.port = 0
        self._link = link
        self._upstream = upstream
        self._renamed = renamed
        self._serving: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[HttpProxy]:
        """Listen on any port; at the end every connection is closed."""
        loop = asyncio.get_running_loop()

        def protocol() -> asyncio.StreamReaderProtocol:
            reader = _Reader(_LIMIT_BYTES, loop=loop)
            return asyncio.StreamReaderProtocol(reader, self._accept, loop=loop)

        server = await loop.create_server(protocol, HOST, 0)
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
        assert isinstance(reader, _Reader)  # noqa: S101 - made above
        reader.serving = task
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self._link, self._upstream, reader, writer, renamed=self._renamed)
        # One of the two sides has gone, or has said what is no HTTP, or the proxy ends.
        with contextlib.suppress(OSError, EOFError, ValueError, asyncio.LimitOverrunError, asyncio.CancelledError):
            await connection.serve()
        await connection.close()


class _Connection:
    """One connection of a client, and the one to the server that belongs to it."""

    def __init__(
        self,
        link: Link,
        upstream: Origin,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        renamed: bool,
    ) -> None:
        self._link = link
        self._upstream = upstream
        self._reader = reader
        self._writer = writer
        self._renamed = renamed
        self._there: Streams | None = None
        self._named: str | None = None

    async def serve(self) -> None:
        """Pass on one request after the other."""
        while True:
            head = await read_head(self._reader)
            body = await read_body(self._reader, head, is_answer=False)
            self._named = head.fields.get(CONNECTION)
            await self._link.delay()
            fault = self._link.draw(*_INSTEAD, *_REFUSALS, Kind.GARBAGE)
            if fault is None:
                answered, rest = await self._pass_on(head, body)
                if answered.is_event_stream:
                    await self._stream(answered)
                    return
                self._writer.write(answered.raw + rest)
                await self._writer.drain()
                if not (answered.keeps_alive and head.keeps_alive):
                    return
            else:
                self._link.fire(fault.kind, self._named)
                if fault.kind in _INSTEAD:
                    await self._break(fault.kind, fault.over, head, body)
                    return
                await self._lie(fault.kind, head, body)

    async def close(self) -> None:
        """Close both sides."""
        try:
            if self._there is not None:
                await shut(self._there[1])
        finally:
            await shut(self._writer)

    async def _pass_on(self, head: Head, body: bytes) -> tuple[Head, bytes]:
        """Send a request to the server; return its answer, without the body if that goes on and on."""
        if self._there is None or self._there[0].at_eof():
            # The first request, or the server was tired of waiting for the next one.
            await self._forget_server()
            self._there = await self._upstream.connect()
        reader, writer = self._there
        writer.write(_renamed(head, self._upstream) if self._renamed else head.raw)
        writer.write(body)
        answered = await read_head(reader)
        if answered.is_event_stream:
            return answered, b""
        rest = await read_body(reader, answered, is_answer=True)
        if not answered.keeps_alive:
            await shut(writer)
            self._there = None
        return answered, rest

    async def _pass_on_until(self, over: asyncio.Event, head: Head, body: bytes) -> tuple[Head, bytes] | None:
        """Do the same, but wait for an answer no longer than the fault lasts: a long poll outlasts it."""
        passing = asyncio.ensure_future(self._pass_on(head, body))
        ending = asyncio.ensure_future(over.wait())
        try:
            await asyncio.wait([passing, ending], return_when=asyncio.FIRST_COMPLETED)
            return passing.result() if passing.done() else None
        finally:
            for task in (passing, ending):
                task.cancel()
            await asyncio.gather(passing, ending, return_exceptions=True)

    async def _break(self, kind: Kind, over: asyncio.Event, head: Head, body: bytes) -> None:
        """Give no whole answer, and end the connection."""
        done = kind in (Kind.RESET_AFTER, Kind.HALF) or (kind in _MAYBE_DONE and self._link.rng.random() < 0.5)  # noqa: PLR2004
        answered = await self._pass_on_until(over, head, body) if done else None
        if kind is Kind.HANG:
            await over.wait()
        if kind is Kind.HALF and answered is not None:
            whole = answered[0].raw + answered[1]
            self._writer.write(whole[: self._link.rng.randrange(1, len(whole))])
            await self._writer.drain()
            if self._link.rng.random() < 0.5:  # noqa: PLR2004
                return
            await asyncio.sleep(0)  # what was written is on its way before the reset
        reset(self._writer)

    async def _lie(self, kind: Kind, head: Head, body: bytes) -> None:
        """Answer in the server's place."""
        rng, dialect = self._link.rng, self._link.spec.dialect
        # A function's status is believed, so what it says must be so: only its words are lost.
        truthful = kind is Kind.GARBAGE and dialect is Dialect.FUNCTION
        status = 200
        if truthful or (kind in (Kind.ERROR_500, Kind.GARBAGE) and rng.random() < 0.5):  # noqa: PLR2004
            answered, _ = await self._pass_on(head, body)
            status = answered.status if truthful else 200
            if answered.is_event_stream:
                # Its feed is open there; it is not passed on.
                await self._forget_server()
        self._writer.write(
            garbage(dialect, rng, status=status) if kind is Kind.GARBAGE else refusal(kind, dialect, rng)
        )
        await self._writer.drain()

    async def _stream(self, answered: Head) -> None:
        """Pass on an answer that does not end."""
        assert self._there is not None  # noqa: S101 - it has just answered
        if self._link.spec.from_client:
            line: ClientStream | Feed = ClientStream(self._link, self._named)
        else:
            line = Feed(self._link)
        self._link.add(line)
        try:
            self._writer.write(answered.raw)
            whole = await line.flow(self._there[0], answered, self._writer)
        finally:
            self._link.lines.discard(line)
        if not whole and self._link.rng.random() < 0.5:  # noqa: PLR2004
            reset(self._writer)

    async def _forget_server(self) -> None:
        if self._there is not None:
            await shut(self._there[1])
            self._there = None


def _renamed(head: Head, upstream: Origin) -> bytes:
    host = f"host: {head.fields.get('host', '')}".lower().encode()
    lines = head.raw.split(b"\r\n")
    there = f"Host: {upstream.authority}".encode()
    return b"\r\n".join(there if line.lower() == host else line for line in lines)
