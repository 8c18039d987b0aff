"""`tidemark cost` against a bill reckoned by hand: plain numbers here, none of them from the code.

1,000 streams, 24 hours a day, 100 pushes a user and day, a stream a user, everything else as the command assumes.
"""

from __future__ import annotations

import pytest

from infra.cost.assumptions import Assumptions
from infra.cost.estimate import Estimate, Option, estimate

# A month is 730 hours: 2,628,000 s, 30.416666… days.
DAYS = 730 / 24
PUSHES = 1000 * 100 * DAYS  # 3,041,666.67
RECEIVED = PUSHES * 1.01  # one in a hundred comes again
STREAM_S = 1000 * 2_628_000
LIFE_S = 840 * 0.95  # 798
VANISHED = 1000 * 1 * DAYS  # once a day each
OPENS = STREAM_S / LIFE_S + VANISHED  # 3,323,649.75
UNSEEN_S = VANISHED * 399  # half a life, on average
HEARTBEATS = STREAM_S / 15  # 175,200,000
ACKS = 1000 * 10 * DAYS
REPLAYS = 1000 * 1 * DAYS

# To clients: an event is 500 bytes, a heartbeat 40, 80 more each on the wire; opening takes 5,000.
STREAM_GB = (PUSHES * 580 + HEARTBEATS * 120 + OPENS * 5000) / 1e9
REPLAY_GB = (ACKS + REPLAYS) * 5000 / 1e9

# Requests to Redis: two a push, an ack and a replay, four a stream, and the reconciles; 1,200 bytes there, 600 back.
ASKED = 2 * (RECEIVED + ACKS + REPLAYS) + 4 * OPENS
LAMBDA_RECONCILES = (STREAM_S + UNSEEN_S) / 20  # each stream is a process of its own
LAMBDA_OUT_GB = ((ASKED + LAMBDA_RECONCILES) * 600 + PUSHES * 500) / 1e9


def processes_out_gb(number: int) -> float:
    """Each process reconciles all month, and reads every push."""
    return ((ASKED + number * 131_400) * 600 + number * PUSHES * 500) / 1e9


def processes_redis_gb(number: int) -> float:
    """There and back."""
    return processes_out_gb(number) + (ASKED + number * 131_400) * 1200 / 1e9


def cents(*amounts: float) -> list[float]:
    """Round each line of a bill."""
    return [round(amount, 2) for amount in amounts]


# The functions around it, at 256 MB: 60 ms a push, replay or ack; 150 ms a delivery, one push in a thousand; and a
# call by schedule every five minutes, 1.3 s.
QUEUED = PUSHES * 0.001
ANSWERED = ACKS + REPLAYS
SCHEDULED = 12 * 730
INVOCATIONS = RECEIVED + ANSWERED + QUEUED + SCHEDULED
BUSY_S = (RECEIVED + ANSWERED) * 0.060 + QUEUED * 0.150 + SCHEDULED * 1.3
LOG_GB = (INVOCATIONS + OPENS) * 800 / 1e9
AROUND = cents(
    BUSY_S * 0.25 * 0.0000133334,
    INVOCATIONS * 0.20 / 1e6,
    (QUEUED * 3 + 5 * 2_628_000 / 20) * 0.50 / 1e6,  # five polls of 20 s, always
    0,  # nothing is confirmed
    LOG_GB * 0.50,
    LOG_GB * 30 / DAYS * 0.03,
    8 * 0.30,
    20 * 0.10,
    1 * 3.00,
    0 * 0.00,
    1 * 0.40,
)

LAMBDA = cents(
    (STREAM_S + UNSEEN_S) * 0.125 * 0.0000133334,
    OPENS * 0.20 / 1e6,
    0,  # no stream sends 6 MB
    (STREAM_GB + REPLAY_GB) * 0.09,
    (LAMBDA_OUT_GB + (ASKED + LAMBDA_RECONCILES) * 1200 / 1e9) * 0.01,
)
# One process bears 1,000, one is spare, and Lambda begins with three.
MANAGED = cents(
    3 * 730 * 0.07976 * 1.15,
    OPENS * 0.20 / 1e6,
    0,
    730 * 0.045,
    processes_redis_gb(3) * 0.045,
    (STREAM_GB + REPLAY_GB) * 0.09,
    processes_redis_gb(3) * 0.01,
)
# One and a spare one. Of the balancer's units, open connections need most: 1,000 of 3,000, all month.
FARGATE = cents(
    2 * 0.25 * 730 * 0.03238,
    2 * 0.5 * 730 * 0.00356,
    730 * 0.0225,
    1000 * 730 / 3000 * 0.008,
    (2 + 2) * 730 * 0.005,
    (STREAM_GB + REPLAY_GB) * 0.09,
    processes_redis_gb(2) * 0.01,
)
CLOUD_RUN = cents(
    2 * 2_628_000 * 0.000018,
    2 * 0.5 * 2_628_000 * 0.000002,
    (STREAM_GB + (ASKED + 2 * 131_400) * 1200 / 1e9) * 0.12,
    REPLAY_GB * 0.09,
)


@pytest.fixture(scope="module")
def told() -> Estimate:
    return estimate(Assumptions(streams=1000, hours=24, pushes_per_user_day=100))


def option(told: Estimate, name: str) -> Option:
    return next(one for one in told.options if one.shape.name == name)


@pytest.mark.parametrize(
    ("name", "by_hand", "redis"),
    [
        # 120 MB are kept. Each environment reconciles for itself, so 93 GB go out: of 100 that is too much.
        ("lambda", LAMBDA, 100.00),
        ("managed", MANAGED, 10.00),
        ("fargate", FARGATE, 10.00),
        ("cloudrun", CLOUD_RUN, 10.00),
    ],
)
def test_the_bill_agrees_to_the_cent(told: Estimate, name: str, by_hand: list[float], redis: float) -> None:
    """Line by line, and in all."""
    one = option(told, name)
    assert [line.usd for line in one.shape.lines] == by_hand
    assert [line.usd for line in one.around] == AROUND
    assert one.plan is not None
    assert one.plan.usd == redis
    assert one.usd == round(sum(by_hand) + sum(AROUND) + redis, 2)


@pytest.mark.parametrize(
    ("name", "usd"), [("lambda", 4519.75), ("managed", 262.76), ("fargate", 73.89), ("cloudrun", 130.07)]
)
def test_totals_are_what_was_written_down(told: Estimate, name: str, usd: float) -> None:
    """So a change of a price, or of what is assumed, is seen."""
    assert option(told, name).usd == usd


def test_a_command_is_paid_for_as_one_goes(told: Estimate) -> None:
    """12 commands a push, 14 a stream, 5 a reconcile, 8 an ack or a replay; two dollars a million; nothing else."""
    commands = RECEIVED * 12 + OPENS * 14 + (ACKS + REPLAYS) * 8
    paid = {
        name: {plan.plan.name: plan for plan in option(told, name).plans}["pay as you go"]
        for name in ("lambda", "fargate")
    }
    assert paid["fargate"].usd == round((commands + 2 * 131_400 * 5) * 2 / 1e6, 2) == 174.77
    assert paid["lambda"].usd == round((commands + LAMBDA_RECONCILES * 5) * 2 / 1e6, 2) == 1492.21


def test_what_is_paid_for_as_one_goes_has_a_free_beginning() -> None:
    """Beyond the first GB kept, and the first 200 GB out: here 6 GB and 464 GB."""
    told = estimate(Assumptions(streams=1000, pushes_per_user_day=5000))
    pushes = 1000 * 5000 * DAYS
    asked = 2 * (pushes * 1.01 + ACKS + REPLAYS) + 4 * OPENS + 2 * 131_400
    out_gb = (asked * 600 + 2 * pushes * 500) / 1e9
    commands = pushes * 1.01 * 12 + OPENS * 14 + (ACKS + REPLAYS) * 8 + 2 * 131_400 * 5
    assert out_gb > 200
    paid = next(plan for plan in option(told, "fargate").plans if plan.plan.per_command)
    assert [line.usd for line in paid.lines] == cents(
        commands * 2 / 1e6, (5_000_000 * 1200 / 1e9 - 1) * 0.25, (out_gb - 200) * 0.03, 0
    )


def test_eight_hours_a_day_and_confirmation() -> None:
    """A third of the stream hours at one per environment; a second queue, and a delivery for each push."""
    told = estimate(Assumptions(streams=1000, hours=8, confirm=1))
    one = option(told, "lambda")
    stream_s = 1000 * 8 * 3600 * DAYS
    assert one.shape.lines[0].usd == round((stream_s + UNSEEN_S) * 0.125 * 0.0000133334, 2)
    assert one.around[3].usd == round((PUSHES * 3 + 657_000) * 0.40 / 1e6, 2)
    assert one.around[1].usd == round((INVOCATIONS + PUSHES) * 0.20 / 1e6, 2)


def test_a_thousand_streams_at_one_an_environment_are_far_above_500_and_the_rest_is_below(told: Estimate) -> None:
    """And the first does not even fit into an account's concurrency as it comes."""
    assert option(told, "lambda").usd > 4400
    assert not option(told, "lambda").fits
    assert all(option(told, name).usd < 500 for name in ("managed", "fargate", "cloudrun"))
    assert told.recommended is not None
    assert told.recommended.shape.name == "fargate"
    assert told.recommended.plan is not None
    assert told.recommended.plan.plan.name == "fixed 250 MB"
