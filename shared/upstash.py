"""Redis at Upstash over HTTP: one warm client per process, and the one place where its faults are translated.

``upstash-redis`` brings the commands, the encoding and the sync token (read your writes). What it lacks is put
around it here: time-outs, a bounded pool, retries that know what may be repeated, and errors with a meaning.
Its own retry is off: it repeats any failure after 3 s.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx
from upstash_redis.errors import UpstashError

from shared.errors import LogDefectError, LogUnavailableError, Trouble
from shared.http_pool import PooledTransport
from shared.rest_client import RestClient
from shared.rest_redis import RestRedis

logger = logging.getLogger("tidemark.upstash")

CONNECT_TIMEOUT_S = 1.0
#: After so long without a request a connection may be dead without a word: it is tried before it is used.
PROBE_AFTER_S = 30.0
PROBE_TIMEOUT_S = 0.5
_PAUSE_S = 0.05

# Redis error texts that only a defect of ours explains. Everything else (READONLY, LOADING, quotas, texts never
# seen before) is the log's trouble, and passes.
_DEFECTS = (
    "WRONGTYPE",
    "ERR wrong number of arguments",
    "ERR unknown command",
    "ERR syntax error",
    "ERR value is not an integer",
    "ERR Error compiling script",
    "ERR Command is not available",
    'ERR Command "',  # not allowed over REST
)
_OWN_CODE = "TIDEMARK "
# What Lua says of a script that does something senseless.
_RUNTIME = re.compile(r"user_script.*attempt to (index|call|compare|concatenate|perform|get|yield)")
# What the rest says of itself, for whoever has to mend it. The words stand anywhere: an error inside a script comes
# wrapped in Redis's words for that.
_TROUBLES = (
    (re.compile(r"\b(limit|quota|connections) exceeded\b|\bOOM\b"), Trouble.QUOTA),
    (re.compile(r"\b(WRONGPASS|NOAUTH|NOPERM)\b"), Trouble.CREDENTIALS),
    (re.compile(r"\b(LOADING|BUSY)\b"), Trouble.LOADING),
    (re.compile(r"\b(READONLY|MASTERDOWN|NOREPLICAS|MISCONF)\b"), Trouble.READ_ONLY),
)


def translate(error: UpstashError) -> LogDefectError | LogUnavailableError:
    """Return our error for a Redis error text."""
    text = str(error)
    if text.startswith(_DEFECTS) or _OWN_CODE in text or "WRONGTYPE" in text or _RUNTIME.search(text):
        return LogDefectError(text)
    return LogUnavailableError(text, next((kind for words, kind in _TROUBLES if words.search(text)), Trouble.OTHER))


def _late(timeout_s: float) -> LogUnavailableError:
    return LogUnavailableError(f"Redis did not answer within {timeout_s:g} s", Trouble.NO_ANSWER)


class Upstash:
    """A warm Upstash client. Build one per process and keep it; it belongs to one event loop.

    ``max_connections`` bounds the pool. ``clock`` is monotonic seconds, injected by tests.
    """

    def __init__(
        self, url: str, token: str, *, max_connections: int = 50, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url.rstrip("/")
        self._max_connections = max_connections
        self._clock = clock
        self._used_at: float | None = None
        self._probing: asyncio.Task[None] | None = None
        self._redis = RestRedis(self._url, token)
        self._transport = self._connect()
        logger.info("upstash client ready", extra={"max_connections": max_connections})

    def _connect(self) -> PooledTransport:
        """Give the library a client with a pool of our own. What it knows beside (the sync token) stays."""
        transport = PooledTransport(self._url, max_connections=self._max_connections)
        self._redis.use(RestClient(self._url, transport, connect_timeout_s=CONNECT_TIMEOUT_S))
        return transport

    @property
    def open_connections(self) -> int:
        """How many connections the pool holds now."""
        return self._transport.open_connections

    async def execute(self, command: Sequence[str | int], *, timeout_s: float, idempotent: bool = True) -> Any:
        """Run one command and return its result as decoded JSON.

        ``timeout_s`` bounds the whole call. An idempotent command that fails temporarily is tried once more
        within it. Raises LogUnavailableError or LogDefectError.
        """
        deadline = self._clock() + timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await self._probe_if_idle()
                try:
                    return await self._once(command)
                except LogUnavailableError:
                    pause_s = _PAUSE_S * (1 + random.random())  # noqa: S311 - jitter, not a secret
                    if not idempotent or self._clock() + pause_s >= deadline:
                        raise
                    await asyncio.sleep(pause_s)
                    return await self._once(command)
        except TimeoutError:
            raise _late(timeout_s) from None

    async def execute_all(self, commands: Sequence[Sequence[str | int]], *, timeout_s: float) -> Sequence[Any]:
        """Run several commands in one request, not as one transaction, and return their results in order.

        Not tried again. Raises LogUnavailableError or LogDefectError, also when only one of them has failed.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._probe_if_idle()
                results: Sequence[Any] = await self._translated(self._send_all(commands))
        except TimeoutError:
            raise _late(timeout_s) from None
        if len(results) != len(commands):
            raise LogUnavailableError(
                f"Redis answered {len(commands)} commands with {len(results)} results", Trouble.UNREADABLE
            )
        return results

    async def _send_all(self, commands: Sequence[Sequence[str | int]]) -> Sequence[Any]:
        pipeline = self._redis.pipeline()
        for command in commands:
            pipeline.execute(list(command))
        results: list[Any] = await pipeline.exec()
        return results

    async def ping(self, *, timeout_s: float) -> None:
        """Raise LogUnavailableError unless Redis answers."""
        await self.execute(["PING"], timeout_s=timeout_s, idempotent=False)

    async def settle(self) -> None:
        """Wait until no probe is under way: whoever asked for it may have given up since."""
        if self._probing is not None:
            await asyncio.shield(self._probing)

    async def close(self) -> None:
        """Close every connection."""
        await self._redis.close()
        logger.info("upstash client closed")

    async def _once(self, command: Sequence[str | int]) -> Any:
        return await self._translated(self._redis.execute(list(command)))

    async def _translated(self, sending: Awaitable[Any]) -> Any:
        """Wait for an answer; the one place where the library's errors become ours."""
        self._used_at = self._clock()
        try:
            return await sending
        except UpstashError as error:
            raise translate(error) from error
        except httpx.HTTPError as error:
            raise LogUnavailableError(f"{type(error).__name__}: {error}", Trouble.NO_ANSWER) from error
        except (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError) as error:
            # The library reads any body as an answer, whatever its status: a proxy's page, half a body.
            raise LogUnavailableError(
                f"Redis answered with something unreadable ({type(error).__name__})", Trouble.UNREADABLE
            ) from error

    async def _probe_if_idle(self) -> None:
        if self._probing is None:
            if self._used_at is None or self._clock() - self._used_at < PROBE_AFTER_S:
                return
            self._probing = asyncio.ensure_future(self._probe())
        # Requests that arrive together wait for one probe; a cancelled one leaves it to the others.
        await asyncio.shield(self._probing)

    async def _probe(self) -> None:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await self._once(["PING"])
        except (TimeoutError, LogUnavailableError) as error:
            stale = self._transport
            self._transport = self._connect()
            logger.info("stale connections evicted", extra={"reason": str(error) or type(error).__name__})
            await stale.aclose()
        finally:
            self._probing = None
