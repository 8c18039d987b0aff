"""Holds the gateway to Upstash through `upstash-ratelimit`, whose scripts carry a flag that stock Redis refuses."""

from __future__ import annotations

import time

import pytest
from upstash_ratelimit import FixedWindow, Ratelimit, SlidingWindow, TokenBucket
from upstash_ratelimit.asyncio import Ratelimit as AsyncRatelimit
from upstash_ratelimit.limiter import Limiter
from upstash_redis import Redis
from upstash_redis.asyncio import Redis as AsyncRedis

from tests.support.gateway import Gateway

# Three centuries: no window turns while a test runs.
WINDOW_S = 10**10
LIMITERS: dict[str, Limiter] = {
    "fixed window": FixedWindow(max_requests=3, window=WINDOW_S),
    "sliding window": SlidingWindow(max_requests=3, window=WINDOW_S),
    "token bucket": TokenBucket(max_tokens=3, refill_rate=1, interval=WINDOW_S),
}


@pytest.fixture(params=LIMITERS)
def limiter(request: pytest.FixtureRequest) -> Limiter:
    return LIMITERS[request.param]


@pytest.mark.parametrize("encoding", ["base64", None])
def test_three_requests_are_allowed_and_the_fourth_is_not(
    gateway: Gateway, key_prefix: str, limiter: Limiter, encoding: str | None
) -> None:
    with Redis(gateway.url, gateway.token, rest_encoding=encoding, rest_retries=0) as redis:  # type: ignore[arg-type]
        ratelimit = Ratelimit(redis=redis, limiter=limiter, prefix=key_prefix)
        responses = [ratelimit.limit("user") for _ in range(4)]
        assert [response.allowed for response in responses] == [True, True, True, False]
        assert [response.remaining for response in responses] == [2, 1, 0, 0]
        assert all(response.limit == 3 for response in responses)
        assert all(response.reset > time.time() for response in responses)
        assert ratelimit.limit("another").allowed
        assert ratelimit.get_remaining("user") == 0


async def test_the_async_limiter_counts_the_same_and_costs_one_request(
    gateway: Gateway, key_prefix: str, limiter: Limiter
) -> None:
    async with AsyncRedis(gateway.url, gateway.token, rest_retries=0) as redis:
        ratelimit = AsyncRatelimit(redis=redis, limiter=limiter, prefix=key_prefix)
        before = gateway.stats()
        allowed = [(await ratelimit.limit("user")).allowed for _ in range(4)]
        after = gateway.stats()
    assert allowed == [True, True, True, False]
    assert after["requests"]["command"] - before["requests"]["command"] == 4
    assert after["requests"]["by_command"]["EVAL"] - before["requests"]["by_command"].get("EVAL", 0) == 4


def test_a_token_comes_back_after_its_interval(gateway: Gateway, key_prefix: str) -> None:
    with Redis(gateway.url, gateway.token, rest_retries=0) as redis:
        bucket = TokenBucket(max_tokens=1, refill_rate=1, interval=50, unit="ms")
        ratelimit = Ratelimit(redis=redis, limiter=bucket, prefix=key_prefix)
        assert ratelimit.limit("user").allowed
        assert ratelimit.block_until_ready("user", timeout=5).allowed
