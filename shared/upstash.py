"""Redis at Upstash over HTTP: one warm client per process, and the one place where its faults are translated.

``upstash-redis`` brings the commands, the encoding and the sync token (read your writes). What it lacks is put
around it here: time-outs, a bounded pool, retries that know what may be repeated, and errors with a meaning.
Its own retry is off: it repeats any failure after 3 s.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import httpx
from upstash_redis.asyncio import Redis
from upstash_redis.errors import UpstashError

from shared.errors import LogDefectError, LogUnavailableError

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


def translate(error: UpstashError) -> LogDefectError | LogUnavailableError:
    """Return our error for a Redis error text."""
    text = str(error)
    if text.startswith(_DEFECTS) or _OWN_CODE in text or "WRONGTYPE" in text:
        return LogDefectError(text)
    return LogUnavailableError(text)


class PooledTransport(httpx.AsyncHTTPTransport):
    """An HTTP transport whose open connections can be counted, and that loses no place for one.

    httpcore 1.0 forgets a connection whose request is cancelled before it has begun (its issue 1093) or while its
    answer is being closed: neither free nor closed, it takes a place of the pool for good. A time-out is such a
    cancellation.
    """

    # httpx has no public way to its pool; tests hold these lines to the pinned version.

    @property
    def open_connections(self) -> int:
        """How many connections the pool holds now."""
        return len(self._pool.connections)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, as the base class does."""
        try:
            response = await super().handle_async_request(request)
        except BaseException:  # cancellation above all: that is what the pool forgets
            await self._close_forgotten()
            raise
        taken = getattr(getattr(response.stream, "_httpcore_stream", None), "_pool_request", None)
        if taken is not None:
            response.stream = _Body(response.stream, partial(self._give_back, taken))
        return response

    async def _give_back(self, taken: Any) -> None:
        """End a request of the pool that is over and still counted."""
        requests: list[Any] = self._pool._requests  # noqa: SLF001
        if taken in requests:
            requests.remove(taken)
            await self._close_forgotten()

    async def _close_forgotten(self) -> None:
        pool = self._pool
        used = {id(request.connection) for request in pool._requests}  # noqa: SLF001
        forgotten = [
            connection
            for connection in pool.connections
            if id(connection) not in used and not connection.is_idle() and not connection.is_closed()
        ]
        for connection in forgotten:
            pool._connections.remove(connection)  # noqa: SLF001
        # Those who wait for a place are given it.
        closing = [*forgotten, *pool._assign_requests_to_connections()]  # noqa: SLF001
        await pool._close_connections(closing)  # noqa: SLF001


class _Body(httpx.AsyncByteStream):
    """The body of an answer; it gives its place back even if its closing is cancelled."""

    def __init__(self, body: Any, give_back: Callable[[], Awaitable[None]]) -> None:
        self._body = body
        self._give_back = give_back

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._body:
            yield part

    async def aclose(self) -> None:
        """Close it, whatever happens meanwhile."""
        try:
            await self._body.aclose()
        finally:
            await self._give_back()


class Upstash:
    """A warm Upstash client. Build one per process and keep it; it belongs to one event loop.

    ``max_connections`` bounds the pool. ``clock`` is monotonic seconds, injected by tests.
    """

    def __init__(
        self, url: str, token: str, *, max_connections: int = 50, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._max_connections = max_connections
        self._clock = clock
        self._used_at: float | None = None
        self._probing: asyncio.Task[None] | None = None
        # No encoding: all that the log holds is ASCII. Telemetry off: it names the platform on each request.
        self._redis = Redis(self._url, self._token, rest_encoding=None, rest_retries=0, allow_telemetry=False)
        self._transport = self._connect()
        logger.info("upstash client ready", extra={"max_connections": max_connections})

    def _connect(self) -> PooledTransport:
        """Give the library a client with a pool of our own. What it knows beside (the sync token) stays."""
        limits = httpx.Limits(
            max_connections=self._max_connections,
            max_keepalive_connections=self._max_connections,
            # The probe, not the age, decides whether an idle connection is still good.
            keepalive_expiry=None,
        )
        transport = PooledTransport(limits=limits)
        # The library builds its client without time-outs and takes no other: this is the only way in.
        self._redis._http._client = httpx.AsyncClient(  # noqa: SLF001
            transport=transport, timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S)
        )
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
            raise LogUnavailableError(f"Redis did not answer within {timeout_s:g} s") from None

    async def execute_all(self, commands: Sequence[Sequence[str | int]], *, timeout_s: float) -> Sequence[Any]:
        """Run several commands in one request, not as one transaction, and return their results in order.

        Not tried again. Raises LogUnavailableError or LogDefectError, also when only one of them has failed.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._probe_if_idle()
                results: Sequence[Any] = await self._translated(self._send_all(commands))
                return results
        except TimeoutError:
            raise LogUnavailableError(f"Redis did not answer within {timeout_s:g} s") from None

    async def _send_all(self, commands: Sequence[Sequence[str | int]]) -> Sequence[Any]:
        pipeline = self._redis.pipeline()
        for command in commands:
            pipeline.execute(list(command))
        results: list[Any] = await pipeline.exec()
        return results

    async def ping(self, *, timeout_s: float) -> None:
        """Raise LogUnavailableError unless Redis answers."""
        await self.execute(["PING"], timeout_s=timeout_s, idempotent=False)

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
            raise LogUnavailableError(f"{type(error).__name__}: {error}") from error
        except (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError) as error:
            # The library reads any body as an answer, whatever its status: a proxy's page, half a body.
            raise LogUnavailableError(f"Redis answered with something unreadable ({type(error).__name__})") from error

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
