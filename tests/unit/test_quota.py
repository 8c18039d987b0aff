"""Quotas: what a refusal says, and who is remembered."""

from __future__ import annotations

import pytest

from shared.errors import RateLimitedError
from shared.quota import DenyCache, Quota, Verdict

QUOTA = Quota("unverified", 100, 60, "requests")
NOW = 1_795_000_000.0


@pytest.mark.parametrize(("reset_in_s", "wait"), [(59.01, "60"), (60, "60"), (0.2, "1"), (0, "1"), (-5, "1")])
def test_a_refusal_says_when_to_come_back_and_what_the_quota_is(reset_in_s: float, wait: str) -> None:
    """In the fields of the IETF's draft; never less than a second."""
    error = Verdict(QUOTA, allowed=False, reset_at=NOW + reset_in_s).refusal(NOW)
    assert isinstance(error, RateLimitedError)
    assert (error.status, error.code, str(error)) == (429, "rate_limited", "Over 100 requests in 60 s.")
    assert error.headers() == {
        "Retry-After": wait,
        "RateLimit-Policy": '"unverified";q=100;w=60',
        "RateLimit": f'"unverified";r=0;t={wait}',
    }


def test_who_is_denied_is_remembered_until_the_quota_is_whole_again() -> None:
    """And not a moment longer; others are not concerned."""
    cache = DenyCache()
    verdict = Verdict(QUOTA, allowed=False, reset_at=NOW + 10)
    cache.add("a", verdict)
    assert cache.get("a", NOW) is verdict
    assert cache.get("a", NOW + 9.9) is verdict
    assert cache.get("b", NOW) is None
    assert cache.get("a", NOW + 10) is None
    assert cache.get("a", NOW) is None


def test_the_one_denied_longest_ago_makes_room() -> None:
    """Addresses cost nothing: memory for them is bounded."""
    cache = DenyCache(most=3)
    verdict = Verdict(QUOTA, allowed=False, reset_at=NOW + 10)
    for name in ("a", "b", "c", "a", "d", "e"):
        cache.add(name, verdict)
    assert [name for name in "abcde" if cache.get(name, NOW)] == ["a", "d", "e"]
