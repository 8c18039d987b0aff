"""Rate limits: counted in Redis, remembered here, open when they fail; and what users see of them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from infra.local.mail import push_body
from shared.counts import Counts
from shared.errors import RateLimitedError
from shared.keys import Keys
from shared.limiter import Limiter
from shared.quota import Quota
from shared.tokens import mint
from shared.upstash import Upstash
from tests.support.faulty_gateway import Answer as GatewayAnswer
from tests.support.faulty_gateway import FaultyGateway, plain_upstash
from tests.support.gateway import Gateway, GatewayProcess
from tests.support.lambda_events import (
    KID,
    TOKEN_KEY,
    Answer,
    LambdaFunction,
    check_problem,
    deployed,
    environment,
    redis_command,
)
from tests.support.limits import WINDOW_S, LimitClock, check_limited
from tests.support.log_rig import Rig, own_stage

BYPASS = "b" * 32
BOX = "ann@example.com"
REAL_TIME = time.time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> LimitClock:
    return LimitClock(monkeypatch)


def limiter(
    upstash: Upstash,
    keys: Keys,
    clock: LimitClock,
    *,
    limit: int = 3,
    sliding: bool = False,
    counts: Counts | None = None,
) -> Limiter:
    quota = Quota("test", limit, WINDOW_S, "requests")
    return Limiter(quota, upstash, keys, counts or Counts(), sliding=sliding, now=clock)


async def admitted(limit: Limiter, subject: str, times: int) -> int:
    """Ask so many times, one after the other; return how often the answer was yes."""
    yes = 0
    for _ in range(times):
        try:
            await limit.admit(subject, within_s=10)
        except RateLimitedError:
            continue
        yes += 1
    return yes


# -- one limiter


@pytest.mark.parametrize("sliding", [False, True])
async def test_so_many_pass_in_a_window_and_the_rest_is_refused_without_asking(
    mine: Rig, gateway: GatewayProcess, clock: LimitClock, *, sliding: bool
) -> None:
    """One request to Redis for each that passes, and one to learn that it is enough."""
    counts = Counts()
    limit = limiter(mine.upstash, mine.keys, clock, sliding=sliding, counts=counts)
    before = gateway.stats()["requests"]["command"]
    assert await admitted(limit, "a", 20) == 3
    assert gateway.stats()["requests"]["command"] - before == 4
    assert counts.snapshot() == {"test_over": 1, "test_denied": 16}
    assert await admitted(limit, "b", 2) == 2


async def test_a_fixed_window_is_over_when_it_is_over(mine: Rig, clock: LimitClock) -> None:
    """What was refused may come back then, and not before."""
    limit = limiter(mine.upstash, mine.keys, clock)
    assert await admitted(limit, "a", 5) == 3
    clock.now_s += WINDOW_S - 2
    assert await admitted(limit, "a", 5) == 0
    clock.now_s += 1.5
    assert await admitted(limit, "a", 5) == 3


async def test_a_sliding_window_remembers_the_one_before(mine: Rig, clock: LimitClock) -> None:
    """A flood that goes on gets its quota once, not once a minute."""
    limit = limiter(mine.upstash, mine.keys, clock, sliding=True)
    assert await admitted(limit, "a", 5) == 3
    # Of the window before, 59 of 60 parts count still: 2.95 requests.
    clock.now_s += WINDOW_S
    assert await admitted(limit, "a", 5) == 1
    clock.now_s += 2 * WINDOW_S
    assert await admitted(limit, "a", 5) == 3


async def test_processes_share_what_they_count(mine: Rig, clock: LimitClock) -> None:
    """Each learns of it when it asks."""
    limits = [limiter(mine.upstash, mine.keys, clock, limit=10) for _ in range(4)]
    assert sum([await admitted(limit, "a", 5) for limit in limits]) == 10


async def test_checks_that_pile_up_go_out_together(mine: Rig, gateway: GatewayProcess, clock: LimitClock) -> None:
    """A thousand tabs come back at once; each is counted."""
    limit = limiter(mine.upstash, mine.keys, clock, limit=150)
    before = gateway.stats()["requests"]
    verdicts = await asyncio.gather(*(limit.spend("a", within_s=10) for _ in range(200)))
    after = gateway.stats()["requests"]
    assert sum(verdict is not None and verdict.allowed for verdict in verdicts) == 150
    asked = sum(after[kind] - before[kind] for kind in ("command", "pipeline"))
    assert asked <= 20


@pytest.mark.parametrize(
    "fault",
    [
        GatewayAnswer.error("LOADING"),
        GatewayAnswer.error("WRONGTYPE Operation against a key"),
        GatewayAnswer.error("ERR max requests limit exceeded"),
    ],
    ids=["loading", "wrong type", "quota"],
)
async def test_a_limiter_that_fails_lets_pass_and_is_counted(
    faulty: FaultyGateway, clock: LimitClock, fault: GatewayAnswer
) -> None:
    """It protects what it stands before, and must not take it down."""
    counts = Counts()
    upstash = plain_upstash(faulty.url, faulty.token)
    try:
        limit = limiter(upstash, Keys(own_stage()), clock, counts=counts)
        faulty.refuse = lambda _name: fault
        assert await admitted(limit, "a", 5) == 5
        assert counts.snapshot() == {"limiter_failed_open": 5}
        faulty.refuse = lambda _name: None
        assert await admitted(limit, "a", 5) == 3
    finally:
        await upstash.close()


async def test_a_limiter_that_is_slow_lets_pass_in_time(faulty: FaultyGateway, clock: LimitClock) -> None:
    """The request waits a quarter of a second for it at most; nothing is left running."""
    counts = Counts()
    upstash = plain_upstash(faulty.url, faulty.token)
    try:
        limit = limiter(upstash, Keys(own_stage()), clock, counts=counts)
        with faulty.holding("EVAL", before=True):
            began = time.monotonic()
            await limit.admit("a")
            assert time.monotonic() - began < 5
            assert counts.snapshot() == {"limiter_failed_open": 1}
    finally:
        await upstash.close()


# -- the functions


@pytest.fixture
def stage() -> str:
    return own_stage()


def push(webhook: LambdaFunction, number: int, *, subscription: str = "s", **headers: str) -> Answer:
    body = json.dumps(push_body(BOX, number, f"m-{number}", subscription=f"projects/p/subscriptions/{subscription}"))
    return webhook.invoke("POST", "/push", body=body.encode(), headers=headers)


def stored(gateway: Gateway, stage: str) -> int:
    count: int = redis_command(gateway, "XLEN", Keys(stage).log(f"gmail:{BOX}"))
    return count


@pytest.mark.usefixtures("clock")
def test_an_overrun_of_a_subscription_stops_the_next_ones(gateway: Gateway, stage: str) -> None:
    """The push that overran is stored and acknowledged; those after it are not looked at, others' are."""
    with deployed("functions.webhook.handler", environment(gateway, stage, TIDEMARK_VERIFIED_LIMIT="3")) as webhook:
        assert [push(webhook, number).status for number in range(4)] == [200] * 4
        before = gateway.stats()["requests"]["command"]
        check_limited(push(webhook, 4), "subscription", 3)
        assert gateway.stats()["requests"]["command"] == before
        assert stored(gateway, stage) == 4
        assert push(webhook, 5, subscription="other").status == 200


@pytest.mark.usefixtures("clock")
def test_what_does_not_verify_is_limited_by_address(gateway: Gateway, stage: str) -> None:
    """Whatever it says of where it comes from; Redis is asked until it is enough, and not for the rest."""
    settings = environment(
        gateway,
        stage,
        TIDEMARK_PUSH_AUTH="on",
        TIDEMARK_PUSH_AUDIENCE="a",
        TIDEMARK_PUSH_SERVICE_ACCOUNT="a@b.c",
        TIDEMARK_PUSH_LIMIT="5",
        TIDEMARK_BYPASS_SECRET=BYPASS,
    )
    with deployed("functions.webhook.handler", settings) as webhook:
        before = gateway.stats()["requests"]["command"]
        for number in range(5):
            spoofed = {"x-forwarded-for": f"198.51.100.{number}", "x-tidemark-bypass": "wrong"}
            check_problem(push(webhook, number, **spoofed), 401, "token_missing")
        for number in range(20):
            check_limited(push(webhook, number), "unverified", 5)
        assert gateway.stats()["requests"]["command"] - before == 6
        check_problem(push(webhook, 1, **{"x-tidemark-bypass": BYPASS}), 401, "token_missing")
    assert stored(gateway, stage) == 0


@pytest.fixture
def replay(gateway: Gateway, stage: str) -> Iterator[LambdaFunction]:
    settings = environment(gateway, stage, TIDEMARK_CLIENT_LIMIT="3", TIDEMARK_BYPASS_SECRET=BYPASS)
    with deployed("functions.replay.handler", settings) as started:
        yield started


def ask(replay: LambdaFunction, user: str, kind: str, **headers: Any) -> Answer:
    token = mint(user, [f"gmail:{BOX}"], kid=KID, key=TOKEN_KEY, ttl_s=600, now=REAL_TIME())
    headers["authorization"] = f"Bearer {token}"
    if kind == "replays":
        return replay.invoke("GET", "/replay", query="after=earliest", headers=headers)
    body = json.dumps({"cursor": "0-0", "client": "tab"}).encode()
    return replay.invoke("POST", "/ack", headers=headers, body=body)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("kind", "other"), [("replays", "acks"), ("acks", "replays")])
def test_a_user_is_limited_and_no_other_is(replay: LambdaFunction, kind: str, other: str) -> None:
    """Each kind of request counts by itself; the bypass skips both."""
    assert [ask(replay, "ann", kind).status < 300 for _ in range(3)] == [True] * 3
    for _ in range(3):
        check_limited(ask(replay, "ann", kind), kind, 3)
    assert ask(replay, "ann", other).status < 300
    assert ask(replay, "ben", kind).status < 300
    assert ask(replay, "ann", kind, **{"x-tidemark-bypass": BYPASS}).status < 300
