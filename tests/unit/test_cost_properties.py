"""What holds of every estimate, whatever is assumed."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.cost.around import around
from infra.cost.assumptions import Assumptions, BadAssumptionError
from infra.cost.estimate import Estimate, enough_for, estimate
from infra.cost.load import Load
from infra.cost.prices import known_prices
from infra.cost.process import capacity, processes

loads = st.builds(
    Assumptions,
    streams=st.integers(0, 60_000),
    hours=st.floats(0.1, 24),
    pushes_per_user_day=st.floats(0, 5000),
    streams_per_user=st.integers(1, 5),
    topics_per_stream=st.integers(1, 50),
    vanish_per_day=st.floats(0, 50),
    streams_per_process=st.integers(1, 10_000),
    process_mb=st.floats(1, 4000),
    spare=st.integers(0, 3),
    concurrency=st.integers(200, 100_000),
    confirm=st.sampled_from([0, 1]),
    nat_gateways=st.integers(0, 3),
)


def totals(told: Estimate) -> dict[str, float]:
    return {one.shape.name: one.usd for one in told.options}


@settings(max_examples=60)
@given(loads, st.integers(1, 20_000))
def test_more_streams_never_cost_less(given_: Assumptions, more: int) -> None:
    """On anything that they may run on, each with the cheapest plan that can take it."""
    fewer, many = estimate(given_), estimate(replace(given_, streams=given_.streams + more))
    for name, usd in totals(many).items():
        assert usd >= totals(fewer)[name] - 1e-6, name


@settings(max_examples=60)
@given(loads)
def test_what_does_not_fit_is_never_recommended(given_: Assumptions) -> None:
    """Nor anything when something cheaper fits."""
    told = estimate(given_)
    best = told.recommended
    if best is None:
        assert not any(one.fits for one in told.options)
        return
    assert best.plan is not None
    assert best.shape.misfits == best.plan.misfits == ()
    usage, plan = best.shape.usage, best.plan.plan
    assert usage.stored_gb <= plan.stored_gb * 0.8
    assert usage.out_gb <= plan.out_gb * 0.8
    assert usage.commands_s <= plan.commands_s * 0.8
    assert all(best.usd <= one.usd for one in told.options if one.fits)
    assert all(best.plan.usd <= plan.usd for plan in best.plans if not plan.misfits)


@settings(max_examples=40)
@given(loads)
def test_a_bill_is_the_sum_of_its_lines_and_none_is_negative(given_: Assumptions) -> None:
    """In whole cents."""
    for one in estimate(given_).options:
        assert all(line.usd >= 0 for line in one.lines)
        if math.isfinite(one.usd):
            assert one.usd == round(sum(round(line.quantity * line.price, 2) for line in one.lines), 2)


def test_without_load_only_what_stands_all_the_time_costs() -> None:
    """Machines, addresses, polls, deliver's schedule, what watches, a secret; on Lambda nothing of the streams."""
    told = estimate(Assumptions(streams=0))
    costing = {one.shape.name: {line.what for line in one.lines if line.usd} for one in told.options}
    standing = {"GB-seconds", "requests to the delivery queue", "metrics", "alarms", "dashboards", "secrets"}
    assert costing == {
        "lambda": standing,
        # Idle processes reconcile, which is a few cents of traffic and of commands.
        "managed": standing
        | {"instance-hours, with the fee", "NAT gateway hours", "GB through NAT", "GB to and from Redis", "commands"},
        "fargate": standing | {"vCPU-hours", "GB-hours", "load balancer hours", "address hours", "commands"},
        "cloudrun": standing | {"vCPU-seconds", "GiB-seconds", "GB out to clients and Redis", "commands"},
    }


@settings(max_examples=40)
@given(loads)
def test_as_many_processes_stand_as_are_needed_when_the_spare_ones_have_failed(given_: Assumptions) -> None:
    """Each within its memory and its CPU."""
    load = Load.of(given_)
    each = capacity(given_, load, vcpu=0.5, mib=1024)
    number = processes(given_, each, least=1)
    if number is None:
        assert each.streams == 0
        assert given_.streams > 0
        return
    assert (number - given_.spare) * each.streams >= given_.streams
    assert each.streams <= given_.streams_per_process
    filled_mb = given_.process_mb + each.streams * 40 * 1024 / 1e6
    assert each.streams == 0 or filled_mb <= 1024 * 2**20 / 1e6 * 0.7 + 1e-6


def test_what_a_process_ends_at_is_named() -> None:
    """By what is assumed, by memory, by CPU, by a storm, by its host."""
    base = Assumptions(streams=1000, streams_per_process=1_000_000)
    load = Load.of(base)
    assert capacity(base, load, vcpu=1, mib=512).why == "CPU, when all come back at once"
    assert capacity(replace(base, storm_s=600), load, vcpu=1, mib=256).why == "memory"
    assert capacity(replace(base, storm_s=600, cpu_us_per_delivery=9e5), load, vcpu=1, mib=4096).why == "CPU"
    assert capacity(base, load, vcpu=1, mib=4096, most=10).why == "what the host allows"
    assert capacity(Assumptions(), load, vcpu=1, mib=4096).why == "as assumed"


def test_a_process_that_bears_nothing_is_told() -> None:
    """No number of them is enough, and then nothing but Lambda is left."""
    told = estimate(Assumptions(streams=10, process_mb=50_000))
    assert told.recommended is None
    for one in told.options:
        assert one.shape.misfits
        assert not one.fits


@pytest.mark.parametrize("name", ["lambda", "managed", "fargate", "cloudrun"])
def test_a_budget_bears_so_many_streams_and_not_one_more(name: str) -> None:
    """Found by search; checked by reckoning both."""
    base = Assumptions()
    most = enough_for(500, name, base, known_prices())
    within, beyond = (
        next(one for one in estimate(replace(base, streams=streams)).options if one.shape.name == name)
        for streams in (most, most + 1)
    )
    assert within.fits
    assert within.usd <= 500 < beyond.usd


def test_nothing_is_enough_for_nothing() -> None:
    """A budget below what stands all the time bears no stream."""
    assert enough_for(1, "fargate", Assumptions(), known_prices()) == 0


def test_what_stands_around_does_not_depend_on_what_streams_run_on() -> None:
    """It is on every bill, the same."""
    base = Assumptions()
    told = estimate(base)
    assert {one.around for one in told.options} == {around(base, Load.of(base), known_prices())}


@pytest.mark.parametrize("name", [one.name for one in fields(Assumptions)])
def test_every_assumption_has_bounds_and_says_what_it_is(name: str) -> None:
    """Its default is within them, and what is not is refused by name."""
    about = next(one for one in fields(Assumptions) if one.name == name).metadata
    assert about["what"]
    assert "%" not in about["what"]
    with pytest.raises(BadAssumptionError, match="must be") as refused:
        Assumptions(**{name: about["least"] - 1})
    assert refused.value.name == name


def test_streams_are_counted_in_whole_numbers() -> None:
    """And concurrency must leave some for them."""
    with pytest.raises(BadAssumptionError, match="a whole number"):
        Assumptions(streams=1.5)
    with pytest.raises(BadAssumptionError, match="below the concurrency"):
        Assumptions(unreserved=1000)
