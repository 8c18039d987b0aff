"""The connection to Redis that many callers share."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import cast

import hiredis

from infra.local.resp.connection import (
    CONNECT_TIMEOUT_S,
    RedisAddress,
    RespConnectionError,
    RespConnectionLostError,
    open_connection,
)
from infra.local.resp.wire import Argument, Reply, ReplyParser, packed


class _Waiter:
    """One caller's batch: how many replies it awaits, and those that came."""

    __slots__ = ("future", "replies", "wanted")

    def __init__(self, future: asyncio.Future[list[Reply]], wanted: int) -> None:
        self.future = future
        self.wanted = wanted
        self.replies: list[Reply] = []


class _CommandProtocol(asyncio.Protocol):
    """The wire of a shared connection: replies go to the waiters in the order of their commands."""

    def __init__(self) -> None:
        self._parser = ReplyParser()
        self._transport: asyncio.WriteTransport | None = None
        self._waiters: deque[_Waiter] = deque()
        self._awaited = 0
        self._loop = asyncio.get_running_loop()
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
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


class RespClient:
    """One connection to Redis, opened with the first command, shared by all callers, reopened after a break.

    A command is never sent twice: what was under way when the connection broke raises
    RespConnectionLostError.
    """

    def __init__(self, url: str, *, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        self.address = RedisAddress.from_url(url)
        self._connect_timeout_s = connect_timeout_s
        self._protocol: _CommandProtocol | None = None
        self._connecting: asyncio.Task[_CommandProtocol] | None = None

    async def execute(self, *command: Argument) -> Reply:
        """Run one command. An error of Redis is returned (hiredis.ReplyError), not raised."""
        return (await self.execute_many((command,)))[0]

    async def execute_many(self, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        """Run commands in order, in one write with nothing between them; one reply each.

        Raises RespConnectionError when none was sent, RespConnectionLostError when nobody knows which ran.
        """
        if not commands:
            return []
        sent = b"".join([packed(command) for command in commands])
        protocol = self._protocol
        if protocol is None or protocol.lost:
            protocol = await self._connected()
        return await protocol.send(sent, len(commands))

    async def close(self) -> None:
        """Close the connection; a later command would open it again."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._protocol is not None:
            self._protocol.close()
            self._protocol = None

    async def _connected(self) -> _CommandProtocol:
        # All callers that find no connection await the same attempt; the shield keeps one that is cancelled
        # from taking the attempt away from the others.
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._attempt_over)
        return await asyncio.shield(self._connecting)

    def _attempt_over(self, attempt: asyncio.Task[_CommandProtocol]) -> None:
        self._connecting = None
        if not attempt.cancelled():
            attempt.exception()  # seen: every caller that waited may be gone

    async def _connect(self) -> _CommandProtocol:
        protocol = await open_connection(self.address, _CommandProtocol, self._connect_timeout_s)
        greeting = self.address.greeting()
        if greeting:
            sent = b"".join([packed(command) for command in greeting])
            for reply in await protocol.send(sent, len(greeting)):
                if isinstance(reply, hiredis.ReplyError):
                    protocol.close()
                    raise RespConnectionError(f"Redis at {self.address} refused us: {reply}")
        self._protocol = protocol
        return protocol
