"""The file of prices: nothing in it is without a unit, a place, a source and a date."""

from __future__ import annotations

import datetime as dt
import math
from itertools import pairwise

import pytest

from infra.cost.prices import known_prices, prices_of

PRICES = known_prices()


@pytest.mark.parametrize("name", list(PRICES.entries))
def test_every_price_says_where_it_comes_from(name: str) -> None:
    """And what was not confirmed says what is doubtful about it."""
    price = PRICES.entries[name]
    assert price.unit
    assert price.region
    assert price.source
    assert dt.date(2026, 1, 1) <= price.looked_up <= PRICES.dated
    assert price.value >= 0
    assert price.confirmed != bool(price.note)


def test_names_are_told_apart() -> None:
    """No two entries of the file share a name, or one would hide the other."""
    kinds = (PRICES.by_name, PRICES.limits, PRICES.instances, PRICES.plans)
    assert len(PRICES.entries) == sum(len(kind) for kind in kinds)


def test_larger_plans_cost_more_and_take_more() -> None:
    """Among the fixed ones, in the order of the file."""
    fixed = [plan for plan in PRICES.plans if not plan.per_command]
    for smaller, larger in pairwise(fixed):
        assert smaller.price.value < larger.price.value
        assert smaller.stored_gb < larger.stored_gb
        assert smaller.out_gb < larger.out_gb
        assert smaller.commands_s <= larger.commands_s


def test_only_what_is_paid_for_as_one_goes_has_no_limit_of_what_goes_out() -> None:
    """It is billed instead."""
    assert [plan.name for plan in PRICES.plans if math.isinf(plan.out_gb)] == ["pay as you go"]


def test_an_entry_without_a_source_is_refused() -> None:
    """So is one with a word that nobody knows."""
    entry = {"value": 1.0, "unit": "hour", "region": "here", "looked_up": dt.date(2026, 11, 25)}
    for wrong in (entry, {**entry, "source": "a list", "colour": "blue"}):
        with pytest.raises(TypeError):
            prices_of(
                {"dated": dt.date(2026, 11, 25), "price": {"x": wrong}, "limit": {}, "instance": {}, "plan": {}}
            )
