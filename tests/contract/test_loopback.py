"""How connections of this machine are closed: for sure, in bounded time, and without hiding a cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple, cast

import pytest

from infra.local import loopback
from infra.local.loopback import HOST, shut

#: More than the kernel takes while nobody reads.
MUCH = b"x" * 20_000_000


class Ends(NamedTuple):
    """Both ends of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    there: asyncio.StreamWriter
    received: asyncio.StreamReader

    @property
    def flow(self) -> asyncio.ReadTransport:
        """What the other end reads by."""
        return cast("asyncio.ReadTransport", self.there.transport)


@asynccontextmanager
async def connection() -> AsyncIterator[Ends]:
    """Open one whose other end reads nothing."""
    accepted: asyncio.Queue[tuple[asyncio.StreamWriter, asyncio.StreamReader]] = asyncio.Queue()

    async def accept(received: asyncio.StreamReader, there: asyncio.StreamWriter) -> None:
        await accepted.put((there, received))

    server = await asyncio.start_server(accept, HOST, 0)
    try:
        reader, writer = await asyncio.open_connection(HOST, server.sockets[0].getsockname()[1])
        ends = Ends(reader, writer, *await accepted.get())
        ends.flow.pause_reading()
        try:
            yield ends
        finally:
            loopback.reset(ends.there)
            await shut(ends.writer)
    finally:
        server.close()


async def cancelled_in(work: Callable[[], Awaitable[None]], *, turns: int) -> bool:
    """Cancel some work after so many turns of the loop; tell whether the cancellation came through."""
    task = asyncio.ensure_future(work())
    for _ in range(turns):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    await asyncio.wait([task], timeout=5)
    return task.cancelled()


async def test_whoever_is_cancelled_while_a_connection_closes_is_cancelled() -> None:
    """Or a client that reconnects for ever would go on although nobody wants it any more."""
    async with connection() as ends:
        assert await cancelled_in(lambda: shut(ends.writer), turns=1)
        assert ends.writer.is_closing()


async def test_whoever_is_cancelled_while_bytes_wait_to_go_out_is_cancelled_and_the_connection_is_closed() -> None:
    async with connection() as ends:
        ends.writer.write(MUCH)
        assert await cancelled_in(lambda: shut(ends.writer), turns=5)
        await asyncio.wait_for(shut(ends.writer), 1)
        assert ends.reader.at_eof()


async def test_what_somebody_else_was_cancelled_for_is_no_cancellation_of_the_next() -> None:
    """Two tasks may close the same connection, one of them while it is being cancelled."""
    async with connection() as ends:
        ends.writer.write(MUCH)
        second = asyncio.ensure_future(shut(ends.writer))
        assert await cancelled_in(lambda: shut(ends.writer), turns=5)
        await asyncio.wait_for(second, 1)


async def test_a_connection_whose_other_end_takes_nothing_is_given_up_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loopback, "_FLUSHED_WITHIN_S", 0.05)
    async with connection() as ends:
        ends.writer.write(MUCH)
        await asyncio.wait_for(shut(ends.writer), 2)
        await asyncio.sleep(0)
        assert ends.reader.at_eof()


async def test_what_was_written_still_goes_out() -> None:
    async with connection() as ends:
        ends.writer.write(MUCH)
        shutting = asyncio.ensure_future(shut(ends.writer))
        await asyncio.sleep(0)
        ends.flow.resume_reading()
        assert len(await ends.received.read()) == len(MUCH)
        await shutting


async def test_one_that_broke_is_closed() -> None:
    async with connection() as ends:
        loopback.reset(ends.there)
        with pytest.raises(ConnectionResetError):
            await ends.reader.read()
        await shut(ends.writer)
        assert ends.writer.is_closing()
