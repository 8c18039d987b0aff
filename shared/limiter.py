"""Rate limits, counted in Redis by ``upstash-ratelimit``, with what it lacks.

That is a time-out after which a request may pass, a local memory of who is over the limit, and one request for many
checks. A limiter protects what it stands before and must not take it down: whatever goes wrong with it lets requests
pass.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from upstash_ratelimit import FixedWindow, SlidingWindow
from upstash_ratelimit.asyncio import Ratelimit
from upstash_redis.asyncio import Redis

from shared.breaker import Breaker, State
from shared.coalesce import Coalescer
from shared.counts import Counts
from shared.errors import LogDefectError, LogUnavailableError
from shared.keys import Keys, digest
from shared.quota import DenyCache, Quota, Verdict
from shared.upstash import Upstash

logger = logging.getLogger("tidemark.limiter")

#: A request waits so long for its limiter, counted from its own start.
PATIENCE_S = 0.25
_PARALLEL = 4
_MOST_TOGETHER = 100


class _Together:
    """What ``upstash-ratelimit`` needs of a Redis: checks that pile up go out as one request."""

    def __init__(self, upstash: Upstash) -> None:
        self._upstash = upstash
        self._checks: Coalescer[Sequence[str | int], Any] = Coalescer(
            self._run, parallel=_PARALLEL, weight=lambda _command: 1, most=_MOST_TOGETHER
        )

    async def eval(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Run a script. Raises LogUnavailableError or LogDefectError."""
        return await self._checks.call(["EVAL", script, len(keys), *keys, *args])

    async def settle(self) -> None:
        """Wait until no check is under way."""
        await self._checks.settle()

    async def _run(self, commands: Sequence[Sequence[str | int]]) -> Sequence[Any]:
        if len(commands) == 1:
            return [await self._upstash.execute(commands[0], timeout_s=PATIENCE_S, idempotent=False)]
        return await self._upstash.execute_all(commands, timeout_s=PATIENCE_S)


class Limiter:
    """One quota, for each of many subjects. ``now`` gives Unix seconds.

    ``sliding`` counts by a window that moves; it holds better against a steady flood, while one that has started at
    the wrong moment is refused for up to twice the window. Otherwise windows begin on the clock.

    Counts ``<quota>_over`` (Redis said so), ``<quota>_denied`` (refused without asking) and ``limiter_failed_open``.
    """

    def __init__(
        self,
        quota: Quota,
        upstash: Upstash,
        keys: Keys,
        counts: Counts,
        *,
        sliding: bool = False,
        breaker: Breaker | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._quota = quota
        self._counts = counts
        self._breaker = breaker
        self._now = now
        self._denied = DenyCache()
        algorithm = SlidingWindow if sliding else FixedWindow
        self._together = _Together(upstash)
        self._ratelimit = Ratelimit(
            cast("Redis", self._together), algorithm(quota.limit, quota.window_s), prefix=keys.limit(quota.name)
        )

    async def settle(self) -> None:
        """Wait until no check is under way: whoever asked for it may have given up since."""
        await self._together.settle()

    def refuse_known(self, subject: str) -> None:
        """Raise RateLimitedError if it is known here that the subject is over its quota; asks nobody."""
        verdict = self._denied.get(subject, self._now())
        if verdict is not None:
            self._counts.count(f"{self._quota.name}_denied")
            raise verdict.refusal(self._now())

    async def spend(self, subject: str, *, within_s: float = PATIENCE_S) -> Verdict | None:
        """Count one request of a subject; return what Redis says, or None if that is not known in time.

        Never raises. A subject that is over its quota is remembered for `refuse_known`. While the log's ``breaker``
        is not closed nobody is asked: whether Redis is back is not found out at the cost of a limit.
        """
        if self._breaker is not None and self._breaker.state is not State.CLOSED:
            self._counts.count("limiter_failed_open")
            return None
        try:
            async with asyncio.timeout(within_s):
                answer = await self._ratelimit.limit(digest(subject))
            verdict = Verdict(self._quota, bool(answer.allowed), float(answer.reset))
        except (LogUnavailableError, LogDefectError, TimeoutError, TypeError, ValueError) as error:
            self._counts.count("limiter_failed_open")
            logger.warning(
                "a rate limit was not checked",
                extra={"quota": self._quota.name, "reason": str(error) or type(error).__name__},
            )
            return None
        if not verdict.allowed:
            self._counts.count(f"{self._quota.name}_over")
            self._denied.add(subject, verdict)
        return verdict

    async def admit(self, subject: str, *, within_s: float = PATIENCE_S) -> None:
        """Count one request of a subject before it is served. Raises RateLimitedError if it is over its quota."""
        self.refuse_known(subject)
        verdict = await self.spend(subject, within_s=within_s)
        if verdict is not None and not verdict.allowed:
            raise verdict.refusal(self._now())
