"""Rate limits in tests: a clock that the counting library obeys as well, and what a refusal must say."""

from __future__ import annotations

import time

import pytest
import upstash_ratelimit.limiter

from tests.support.lambda_events import Answer, check_problem

WINDOW_S = 60


class LimitClock:
    """Unix seconds, the library's included; a minute begins at 0."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # The library's windows begin on the clock: a test must not straddle two of them.
        self.now_s = (time.time() // WINDOW_S + 10) * WINDOW_S + 1.0
        monkeypatch.setattr(upstash_ratelimit.limiter, "now_ms", lambda: int(self.now_s * 1000))
        monkeypatch.setattr(time, "time", lambda: self.now_s)

    def __call__(self) -> float:
        return self.now_s


def check_limited(answer: Answer, name: str, limit: int) -> None:
    """Hold a refusal to the contract, and to the draft that defines its header fields."""
    check_problem(answer, 429, "rate_limited")
    wait = answer.headers["retry-after"]
    assert 1 <= int(wait) <= 10 * WINDOW_S + 60
    assert answer.headers["ratelimit-policy"] == f'"{name}";q={limit};w={WINDOW_S}'
    assert answer.headers["ratelimit"] == f'"{name}";r=0;t={wait}'
