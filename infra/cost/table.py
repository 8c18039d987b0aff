"""An estimate as text for a person."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import fields

from infra.cost.around import FUNCTIONS, QUEUES, SECRETS, WATCHING
from infra.cost.assumptions import KINDS, MONTH_H, Assumptions
from infra.cost.estimate import Estimate, Option, enough_for
from infra.cost.line import total
from infra.cost.redis import PART as REDIS
from infra.cost.shape import NETWORK, STREAMS

_WIDE = 118
_PARTS = (STREAMS, NETWORK, FUNCTIONS, QUEUES, WATCHING, SECRETS, REDIS)


def text(told: Estimate, *, short: bool = False) -> str:
    """Write it all; ``short`` leaves out the assumptions and which prices were not confirmed."""
    sections = [_head(told), _bill(told), _made_of(told), _plans(told), _misfits(told), _doubts(told), _best(told)]
    if not short:
        sections += [_assumptions(told.given), _unconfirmed(told)]
    return "\n\n".join("\n".join(section) for section in sections if section)


def usd(amount: float) -> str:
    """Write an amount, or a dash where there is none."""
    return f"{amount:,.2f}" if math.isfinite(amount) else "-"


def number(value: float) -> str:
    """Write a number that somebody has given."""
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def _head(told: Estimate) -> list[str]:
    given = told.given
    mail = f"{number(given.pushes_per_user_day)} pushes a user and day"
    return [
        f"{number(given.streams)} streams, {number(given.hours)} h a day, {mail}",
        f"USD in a month of {MONTH_H:g} hours; prices of {told.prices.dated}, without taxes and free tiers",
    ]


def _bill(told: Estimate) -> list[str]:
    options, budget = told.options, told.given.budget
    enough = [enough_for(budget, one.shape.name, told.given, told.prices) for one in options]
    return _columns(
        [
            ["", *(one.shape.name for one in options)],
            *([part, *(usd(_part(one, part)) for one in options)] for part in _PARTS),
            ["total", *(usd(one.usd) for one in options)],
            ["meets the load", *(_yes(one.fits) for one in options)],
            [f"within {number(budget)} USD", *(_yes(one.usd <= budget) for one in options)],
            [f"streams that {number(budget)} USD bear", *(f"{streams:,}" for streams in enough)],
        ]
    )


def _part(option: Option, part: str) -> float:
    lines = [line for line in option.lines if line.part == part]
    return total(lines) if lines else math.inf


def _yes(holds: bool) -> str:  # noqa: FBT001 - one word for one truth
    return "yes" if holds else "no"


def _made_of(told: Estimate) -> list[str]:
    return _list(
        [one.shape.name, f"{one.shape.made_of}; Upstash: {one.plan.plan.name if one.plan else 'no plan is enough'}"]
        for one in told.options
    )


def _plans(told: Estimate) -> list[str]:
    """Write what each plan of Upstash costs under each load, and what these loads are."""
    usages = [one.shape.usage for one in told.options]
    costs = [
        [plan.name, *("too small" if one.plans[n].misfits else usd(one.plans[n].usd) for one in told.options)]
        for n, plan in enumerate(told.prices.plans)
    ]
    return _columns(
        [
            ["Upstash", *(one.shape.name for one in told.options)],
            *costs,
            ["million commands a month", *(f"{usage.commands / 1e6:,.1f}" for usage in usages)],
            ["commands a second, at the peak", *(f"{usage.commands_s:,.0f}" for usage in usages)],
            ["GB out a month", *(f"{usage.out_gb:,.1f}" for usage in usages)],
            ["GB kept", *(f"{usage.stored_gb:,.2f}" for usage in usages)],
            ["connections", *(f"{usage.connections:,.0f}" for usage in usages)],
        ]
    )


def _misfits(told: Estimate) -> list[str]:
    rows = []
    for one in told.options:
        rows += [[one.shape.name, why] for why in one.shape.misfits]
        if one.plan is None:
            largest = one.plans[-1]
            rows.append(
                [one.shape.name, f"even {largest.plan.name} at Upstash is too small: {', '.join(largest.misfits)}"]
            )
        if told.given.budget < one.usd < math.inf:
            most = max(one.lines, key=lambda line: line.usd)
            above = f"{usd(one.usd)} USD are above {number(told.given.budget)}"
            what = f"{usd(most.usd)} for {most.quantity:,.0f} {most.what} ({most.part})"
            rows.append([one.shape.name, f"{above}: of them {what}"])
    return ["What does not fit:", *_list(rows)] if rows else []


def _doubts(told: Estimate) -> list[str]:
    limit = told.prices.limit("redis_connections")
    rows = [[one.shape.name, doubt] for one in told.options for doubt in one.shape.doubts]
    rows += [
        [one.shape.name, f"an older list of Upstash's plans allows {limit:,.0f} connections; today's names no limit"]
        for one in told.options
        if one.shape.usage.connections > limit
    ]
    return ["What is doubtful:", *_list(rows)] if rows else []


def _best(told: Estimate) -> list[str]:
    best = told.recommended
    if best is None or best.plan is None:
        return ["Nothing here meets the load."]
    failing = f", also when {number(told.given.spare)} of its processes fails" if told.given.spare else ""
    return _wrapped(
        "Recommended: ",
        f"{best.shape.name}, with {best.plan.plan.name} at Upstash, {usd(best.usd)} USD a month: the cheapest that "
        f"meets the load{failing if best.shape.name != 'lambda' else ''}.",
    )


def _assumptions(given: Assumptions) -> list[str]:
    known = fields(given)
    values = {one.name: number(getattr(given, one.name)) for one in known}
    wide, wide_value = max(map(len, values)) + 2, max(map(len, values.values()))
    lines = ["What is assumed (an option of the same name changes it):"]
    for one in known:
        if one.name in KINDS:
            lines.append(f"{KINDS[one.name]}:")
        option = f"--{one.name.replace('_', '-')}"
        lines.append(f"  {option:<{wide}}  {values[one.name]:>{wide_value}}  {one.metadata['what']}")
    return lines


def _unconfirmed(told: Estimate) -> list[str]:
    limits = told.prices.limits
    rows = [
        [name, f"{number(one.value)} {'' if name in limits else 'USD per '}{one.unit}: {one.note}"]
        for name, one in told.prices.entries.items()
        if not one.confirmed
    ]
    return ["Prices and limits that were not confirmed:", *_list(rows)] if rows else []


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align a table: its first column to the left, the others to the right."""
    wide = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, wide[1:], strict=True)]
        lines.append("  ".join([f"{first:<{wide[0]}}", *cells]))
    return lines


def _list(rows: Iterable[Sequence[str]]) -> list[str]:
    """Write a name and what is said of it a line, or more lines where that is long."""
    rows = list(rows)
    wide = max(len(name) for name, _ in rows)
    return [line for name, what in rows for line in _wrapped(f"{name:<{wide}}  ", what)]


def _wrapped(first: str, words: str) -> list[str]:
    lines, line = [], first
    for word in words.split(" "):
        if len(line) + len(word) > _WIDE:
            lines.append(line.rstrip())
            line = " " * len(first)
        line += word + " "
    return [*lines, line.rstrip()]
