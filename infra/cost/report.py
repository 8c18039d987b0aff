"""An estimate as JSON for a machine."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from infra.cost.assumptions import MONTH_H
from infra.cost.estimate import Estimate, Option


def report(told: Estimate) -> dict[str, Any]:
    """Return all of it. Amounts are USD a month; null where nothing is enough."""
    best = told.recommended
    return {
        "month_h": MONTH_H,
        "prices_dated": told.prices.dated.isoformat(),
        "unconfirmed": {name: one.note for name, one in told.prices.entries.items() if not one.confirmed},
        "assumptions": asdict(told.given),
        "load": asdict(told.load),
        "options": [_option(one, told.given.budget) for one in told.options],
        "recommended": best
        and {"shape": best.shape.name, "plan": best.plan and best.plan.plan.name, "usd": best.usd},
    }


def _option(one: Option, budget: float) -> dict[str, Any]:
    return {
        "shape": one.shape.name,
        "made_of": one.shape.made_of,
        "usd": one.usd if math.isfinite(one.usd) else None,
        "meets_the_load": one.fits,
        "within_budget": one.usd <= budget,
        "misfits": list(one.shape.misfits),
        "doubts": list(one.shape.doubts),
        "plan": one.plan and one.plan.plan.name,
        "plans": [{"plan": each.plan.name, "usd": each.usd, "misfits": list(each.misfits)} for each in one.plans],
        "redis": asdict(one.shape.usage),
        "lines": [{**asdict(line), "usd": line.usd} for line in one.lines],
    }
