"""A subscription to Redis, on a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, cast

import hiredis

from infra.local.resp.connection import RedisAddress, RespConnectionError, open_connection
from infra.local.resp.upstream import OneRedis, Upstream
from infra.local.resp.wire import Argument, Reply, packed

# A subscriber with more than this unread stops reading its socket: what a slow reader leaves behind then waits in
# Redis, whose own output limit ends the subscription.
HIGH_WATER_BYTES: Final = 1024 * 1024


class _SubscriberProtocol(asyncio.Protocol):
    """The wire of one subscription: everything that arrives is queued for one reader."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Future[None] | None = None
        self._paused = False
        self._unread_bytes = 0
        self.pushes: list[Reply] = []
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (push := self._reader.gets()) is not False:
                self.pushes.append(push)
        except hiredis.ProtocolError:
            self.close()
        self._unread_bytes += len(data)
        if self._unread_bytes > HIGH_WATER_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.lost = True
        self._wake()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    async def take(self, limit: int | None = None) -> list[Reply]:
        """Wait for pushes and give all, or the first `limit`; an empty list is the end of the connection."""
        while not self.pushes:
            if self.lost:
                return []
            self._waiting = self._loop.create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        if limit is not None and len(self.pushes) > limit:
            taken, self.pushes = self.pushes[:limit], self.pushes[limit:]
            return taken
        taken, self.pushes = self.pushes, []
        self._unread_bytes = 0
        if self._paused and self._transport is not None:
            self._paused = False
            if not self.lost:
                self._transport.resume_reading()
        return taken

    def close(self) -> None:
        self.lost = True
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class Subscriber:
    """A connection of its own that listens to channels or to patterns; made by `Subscriber.open`."""

    def __init__(self, protocol: _SubscriberProtocol, acknowledged: list[list[Any]], address: RedisAddress) -> None:
        self._protocol = protocol
        self.address = address
        self.acknowledged = acknowledged
        """Redis's acknowledgements, in order: [b"subscribe", channel, number of subscriptions]."""

    @classmethod
    async def open(
        cls,
        redis: str | Upstream,
        names: Sequence[Argument],
        *,
        pattern: bool = False,
        timeout_s: float | None = None,
    ) -> Subscriber:
        """Subscribe to channels (to patterns, with `pattern`) and return once Redis acknowledged every one.

        Raises RespConnectionError when Redis is not there, does not answer in time or refuses.
        """
        upstream = OneRedis.at(redis) if isinstance(redis, str) else redis
        timeout_s = upstream.connect_timeout_s if timeout_s is None else timeout_s
        address = await upstream.address()
        greeting = address.greeting()
        commands = [*greeting, ("PSUBSCRIBE" if pattern else "SUBSCRIBE", *names)]
        protocol = await open_connection(address, _SubscriberProtocol, timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                protocol.write(b"".join([packed(command) for command in commands]))
                for _ in greeting:
                    address.check_greeting(await _granted(protocol, address))
                acknowledged = [await _granted(protocol, address) for _ in names]
        except TimeoutError:
            protocol.close()
            raise RespConnectionError(f"Redis at {address} did not answer within {timeout_s} s") from None
        except BaseException:  # cancellation included: no connection may be left behind
            protocol.close()
            raise
        return cls(protocol, cast("list[list[Any]]", acknowledged), address)

    async def batch(self) -> list[list[Any]]:
        """Wait for messages and give all that are ready; an empty list means that the connection is gone.

        A message is [b"message", channel, payload] or [b"pmessage", pattern, channel, payload]. One reader
        only.
        """
        return cast("list[list[Any]]", await self._protocol.take())

    def close(self) -> None:
        """Give the connection back to Redis at once; a waiting `batch` returns an empty list."""
        self._protocol.close()


async def _granted(protocol: _SubscriberProtocol, address: RedisAddress) -> Reply:
    """Take one reply, and only one: a message may be right behind it. Raises RespConnectionError."""
    replies = await protocol.take(1)
    if not replies:
        raise RespConnectionError(f"Redis at {address} closed the connection")
    if isinstance(replies[0], hiredis.ReplyError):
        raise RespConnectionError(f"Redis at {address} refused us: {replies[0]}")
    return replies[0]
