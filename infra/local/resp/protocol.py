"""One connection that carries commands: replies go to those who asked, in order."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import cast

import hiredis

from infra.local.resp.connection import (
    RedisAddress,
    RespConnectionError,
    RespConnectionLostError,
    open_connection,
)
from infra.local.resp.wire import Reply, ReplyParser, packed


class _Waiter:
    """One caller's batch: how many replies it awaits, and those that came."""

    __slots__ = ("future", "replies", "wanted")

    def __init__(self, future: asyncio.Future[list[Reply]], wanted: int) -> None:
        self.future = future
        self.wanted = wanted
        self.replies: list[Reply] = []


class CommandProtocol(asyncio.Protocol):
    """The wire of a shared connection: replies go to the waiters in the order of their commands."""

    def __init__(self) -> None:
        self._parser = ReplyParser()
        self._transport: asyncio.WriteTransport | None = None
        self._waiters: deque[_Waiter] = deque()
        self._awaited = 0
        self._loop = asyncio.get_running_loop()
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what to write to."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand out the replies that are complete."""
        try:
            replies = self._parser.feed(data, self._awaited)
        except hiredis.ProtocolError as error:
            self._break(f"not RESP: {error}")
            return
        for reply in replies:
            if not self._waiters:
                self._break("a reply that nobody asked for")
                return
            self._awaited -= 1
            waiter = self._waiters[0]
            waiter.replies.append(reply)
            if len(waiter.replies) == waiter.wanted:
                self._waiters.popleft()
                # A caller may have given up; its replies had to be taken off the wire all the same.
                if not waiter.future.done():
                    waiter.future.set_result(waiter.replies)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell all who still wait."""
        self._break(str(exc) if exc is not None else "closed by Redis")

    def send(self, data: bytes, replies: int) -> asyncio.Future[list[Reply]]:
        """Write one or more commands at once; the future gets as many replies as were said."""
        future: asyncio.Future[list[Reply]] = self._loop.create_future()
        if self.lost or self._transport is None:
            future.set_exception(RespConnectionLostError("the connection to Redis is closed"))
            return future
        self._waiters.append(_Waiter(future, replies))
        self._awaited += replies
        self._transport.write(data)
        return future

    def close(self) -> None:
        """Close the connection at once; who still waits for a reply gets RespConnectionLostError."""
        self._break("closed")

    def _break(self, reason: str) -> None:
        self.lost = True
        if self._transport is not None:
            self._transport.abort()
        waiters, self._waiters = self._waiters, deque()
        self._awaited = 0
        for waiter in waiters:
            if not waiter.future.done():
                waiter.future.set_exception(
                    RespConnectionLostError(f"the connection to Redis broke before the reply ({reason})")
                )


async def opened(address: RedisAddress, timeout_s: float) -> CommandProtocol:
    """Open a connection, log in and see that it leads where it should. Raises RespConnectionError."""
    protocol = await open_connection(address, CommandProtocol, timeout_s)
    greeting = address.greeting()
    if not greeting:
        return protocol
    try:
        async with asyncio.timeout(timeout_s):
            replies = await protocol.send(b"".join([packed(command) for command in greeting]), len(greeting))
        for reply in replies:
            address.check_greeting(reply)
    except TimeoutError:
        protocol.close()
        raise RespConnectionError(f"Redis at {address} did not answer within {timeout_s} s") from None
    except BaseException:  # cancellation included: no connection may be left behind
        protocol.close()
        raise
    return protocol
