"""Quotas: how many requests somebody may send in a while, and what a refusal says of it.

Header fields are those of draft-ietf-httpapi-ratelimit-headers-10 ("RateLimit header fields for HTTP").
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from shared.errors import RateLimitedError

#: How many of those who are over their quota are remembered; the one refused longest ago makes room.
MOST_DENIED = 10_000


class Quota(NamedTuple):
    """``limit`` requests in ``window_s`` seconds. ``name`` is told to clients, ``what`` says in words what counts."""

    name: str
    limit: int
    window_s: int
    what: str


class Verdict(NamedTuple):
    """What a limiter says of one request. ``reset_at`` is Unix seconds: when the quota is whole again."""

    quota: Quota
    allowed: bool
    reset_at: float

    def refusal(self, now: float) -> RateLimitedError:
        """Return the error that refuses the request; ``now`` is Unix seconds."""
        quota = self.quota
        wait_s = max(1, math.ceil(self.reset_at - now))
        headers: Mapping[str, str] = {
            "Retry-After": str(wait_s),
            "RateLimit-Policy": f'"{quota.name}";q={quota.limit};w={quota.window_s}',
            "RateLimit": f'"{quota.name}";r=0;t={wait_s}',
        }
        return RateLimitedError(f"Over {quota.limit} {quota.what} in {quota.window_s} s.", headers)


class DenyCache:
    """Who is over a quota, and until when: asking Redis again would tell nothing new."""

    def __init__(self, most: int = MOST_DENIED) -> None:
        self._most = most
        self._denied: dict[str, Verdict] = {}

    def add(self, subject: str, verdict: Verdict) -> None:
        """Remember a refusal."""
        self._denied.pop(subject, None)
        if len(self._denied) >= self._most:
            del self._denied[next(iter(self._denied))]
        self._denied[subject] = verdict

    def get(self, subject: str, now: float) -> Verdict | None:
        """Return the refusal that still holds at ``now``, in Unix seconds."""
        verdict = self._denied.get(subject)
        if verdict is not None and now >= verdict.reset_at:
            del self._denied[subject]
            return None
        return verdict
