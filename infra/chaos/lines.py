"""Answers that do not end, and what may befall them on the way: the stream function's feed, a client's stream."""

from __future__ import annotations

import asyncio

from infra.chaos.http_messages import Head, chunk, parts
from infra.chaos.link import Fault, Link
from infra.chaos.topology import Kind

_READ_BYTES = 65_536
#: A stream is cut within so many bytes, so that it ends inside a frame as often as between two.
_CUT_WITHIN_BYTES = 700
_BLOCK_END = b"\n\n"


class Feed:
    """A subscription at the gateway: blocks of server-sent events, each one message."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._silent = False
        self._cut = asyncio.Event()

    def strike(self, fault: Fault) -> None:
        """Fall silent for good, or end."""
        if fault.kind is Kind.FEED_CUT and self._link.hits(fault):
            self._link.fire(fault.kind)
            self._cut.set()
        elif fault.kind is Kind.FEED_SILENT and self._link.hits(fault):
            self._silent = True

    def relieve(self, fault: Fault) -> None:
        """Stay as it is: a feed that is half open does not come to life again."""

    async def flow(self, source: asyncio.StreamReader, head: Head, writer: asyncio.StreamWriter) -> bool:
        """Pass messages on until one side ends. Returns whether it came to its proper end."""
        flowing = asyncio.ensure_future(self._flow(source, head, writer))
        cut = asyncio.ensure_future(self._cut.wait())
        try:
            await asyncio.wait([flowing, cut], return_when=asyncio.FIRST_COMPLETED)
            if flowing.done():
                flowing.result()
                return True
            return False
        finally:
            for task in (flowing, cut):
                task.cancel()
            await asyncio.gather(flowing, cut, return_exceptions=True)

    async def _flow(self, source: asyncio.StreamReader, head: Head, writer: asyncio.StreamWriter) -> None:
        rest = b""
        async for data in parts(source, head):
            *blocks, rest = (rest + data).split(_BLOCK_END)
            passed = b"".join(self._faulty(block + _BLOCK_END) for block in blocks)
            if passed:
                await self._link.delay()
                writer.write(chunk(passed) if head.is_chunked else passed)
                await writer.drain()
        if head.is_chunked:
            writer.write(chunk(b""))

    def _faulty(self, block: bytes) -> bytes:
        if not block.startswith((b"data: message,", b"data: pmessage,")):
            return block
        if self._silent:
            self._link.fire(Kind.FEED_SILENT)
            return b""
        fault = self._link.draw(Kind.FEED_LOSES, Kind.FEED_DOUBLES)
        if fault is None:
            return block
        self._link.fire(fault.kind)
        return b"" if fault.kind is Kind.FEED_LOSES else block + block


class ClientStream:
    """A client's stream, as it stands on the wire. ``named`` is how the client calls the connection."""

    def __init__(self, link: Link, named: str | None) -> None:
        self._link = link
        self._named = named
        self._cut_by: Fault | None = None
        self._left_bytes = 0
        self._cut = asyncio.Event()
        self._stalled_by: Fault | None = None

    def strike(self, fault: Fault) -> None:
        """Be cut within the next bytes, or stop for a while."""
        if fault.kind is Kind.CUT and self._link.hits(fault):
            self._cut_by = fault
            self._left_bytes = self._link.rng.randrange(_CUT_WITHIN_BYTES)
            # Counted now, and hurt from now on: it is cut even if no more bytes come.
            self._link.fire(fault.kind, self._named)
        elif fault.kind is Kind.STALL and self._link.hits(fault):
            self._stalled_by = fault

    def relieve(self, fault: Fault) -> None:
        """Be cut at the latest when that is over."""
        if fault is self._cut_by:
            self._cut.set()

    async def flow(self, source: asyncio.StreamReader, _head: Head, writer: asyncio.StreamWriter) -> bool:
        """Pass bytes on until one side ends. Returns whether it came to its proper end."""
        cut = asyncio.ensure_future(self._cut.wait())
        try:
            while True:
                reading = asyncio.ensure_future(source.read(_READ_BYTES))
                await asyncio.wait([reading, cut], return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    reading.cancel()
                    return False
                data = reading.result()
                if self._stalled_by is not None and not self._stalled_by.over.is_set():
                    self._link.fire(Kind.STALL)
                    await self._stalled_by.over.wait()
                if self._cut_by is not None and len(data) >= self._left_bytes:
                    writer.write(data[: self._left_bytes])
                    await writer.drain()
                    return False
                self._left_bytes -= len(data)
                if not data:
                    return True
                writer.write(data)
                await writer.drain()
        finally:
            cut.cancel()
