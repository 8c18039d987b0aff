"""All of it together: each way to run the streams with each plan of Upstash, and the cheapest that meets the load."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from infra.cost.around import around
from infra.cost.assumptions import Assumptions
from infra.cost.line import Line, total
from infra.cost.load import Load
from infra.cost.prices import Prices, known_prices
from infra.cost.redis import PlanCost, plan_cost
from infra.cost.shape import Shape
from infra.cost.shapes import WAYS

_MOST_STREAMS = 10_000_000


@dataclass(frozen=True, slots=True)
class Option:
    """One way to run the streams, with all that stands around it and every plan that Redis may have."""

    shape: Shape
    around: tuple[Line, ...]
    plans: tuple[PlanCost, ...]

    @property
    def plan(self) -> PlanCost | None:
        """The cheapest plan that can take the load; None if none can."""
        return min((one for one in self.plans if not one.misfits), key=lambda one: one.usd, default=None)

    @property
    def fits(self) -> bool:
        """Whether it meets the load."""
        return not self.shape.misfits and self.plan is not None

    @property
    def lines(self) -> tuple[Line, ...]:
        """The whole bill, but for Redis where no plan can take the load."""
        return (*self.shape.lines, *self.around, *(self.plan.lines if self.plan else ()))

    @property
    def usd(self) -> float:
        """What it comes to in a month; without end where no plan of Redis, or no number of processes, is enough."""
        return total(self.lines) if self.plan and self.shape.lines else math.inf


@dataclass(frozen=True, slots=True)
class Estimate:
    """The answer to a set of assumptions."""

    given: Assumptions
    load: Load
    prices: Prices
    options: tuple[Option, ...]

    @property
    def recommended(self) -> Option | None:
        """The cheapest option that meets the load; None if none does."""
        return min((one for one in self.options if one.fits), key=lambda one: one.usd, default=None)


def estimate(given: Assumptions, prices: Prices | None = None) -> Estimate:
    """Reckon everything."""
    prices = prices or known_prices()
    load = Load.of(given)
    standing = around(given, load, prices)
    return Estimate(given, load, prices, tuple(_option(name, given, load, standing, prices) for name in WAYS))


def enough_for(budget: float, name: str, given: Assumptions, prices: Prices) -> int:
    """Say how many streams one way bears within a budget, all else being as assumed; 0 if none."""

    def holds(streams: int) -> bool:
        asked = replace(given, streams=streams)
        load = Load.of(asked)
        one = _option(name, asked, load, around(asked, load, prices), prices)
        return one.fits and one.usd <= budget

    least, most = 0, 1
    while holds(most) and most < _MOST_STREAMS:
        least, most = most, min(2 * most, _MOST_STREAMS)
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if holds(middle) else (least, middle)
    return least


def _option(name: str, given: Assumptions, load: Load, standing: tuple[Line, ...], prices: Prices) -> Option:
    shape = WAYS[name](given, load, prices)
    return Option(shape, standing, tuple(plan_cost(plan, shape.usage, given, prices) for plan in prices.plans))
