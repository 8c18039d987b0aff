"""The connection to Redis that many callers share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import hiredis

from infra.local.resp.connection import RedisAddress, RespConnectionError
from infra.local.resp.protocol import CommandProtocol, opened
from infra.local.resp.upstream import OneRedis, Upstream
from infra.local.resp.wire import Argument, Reply, packed


class RespClient:
    """One connection to Redis, opened with the first command, shared by all callers, reopened after a break.

    A command is never sent twice: what was under way when the connection broke raises
    RespConnectionLostError.
    """

    def __init__(self, redis: str | Upstream) -> None:
        self._upstream = OneRedis.at(redis) if isinstance(redis, str) else redis
        self._protocol: CommandProtocol | None = None
        self._address = RedisAddress()
        self._connecting: asyncio.Task[CommandProtocol] | None = None

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
        replies = await protocol.send(sent, len(commands))
        if self._upstream.moves and any(map(_says_readonly, replies)):
            # It was the primary when this connection was opened. Whoever asks next is led to the new one.
            protocol.close()
        return replies

    def leave_old(self) -> None:
        """Close the connection if it leads to a Redis that is no longer the right one."""
        if self._protocol is not None and not self._upstream.is_current(self._address):
            self._protocol.close()

    async def close(self) -> None:
        """Close the connection; a later command would open it again."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._protocol is not None:
            self._protocol.close()
            self._protocol = None

    async def _connected(self) -> CommandProtocol:
        # All callers that find no connection await the same attempt; the shield keeps one that is cancelled
        # from taking the attempt away from the others.
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._attempt_over)
        return await asyncio.shield(self._connecting)

    def _attempt_over(self, attempt: asyncio.Task[CommandProtocol]) -> None:
        self._connecting = None
        if not attempt.cancelled():
            attempt.exception()  # seen: every caller that waited may be gone

    async def _connect(self) -> CommandProtocol:
        address = await self._upstream.address()
        protocol = await opened(address, self._upstream.connect_timeout_s)
        if not self._upstream.is_current(address):
            protocol.close()
            raise RespConnectionError(f"Redis at {address} is no longer the primary")
        self._protocol, self._address = protocol, address
        return protocol


def _says_readonly(reply: Reply) -> bool:
    """Tell whether a reply, or one inside it, is the refusal of a demoted primary; scripts wrap it in more words."""
    if isinstance(reply, hiredis.ReplyError):
        return "READONLY" in str(reply)
    return isinstance(reply, list) and any(map(_says_readonly, reply))
