"""From measured values to numbers, and to tables for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

PERCENTS = (50, 95, 99)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least ``percent`` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)] if ordered else math.nan


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return those that are reported, for JSON."""
    return {f"p{percent}": round(percentile(values, percent), 3) for percent in PERCENTS}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Write a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def spread(values: Sequence[float], form: str) -> str:
    """Write the median, and in brackets the least and the most."""
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def spread_numbers(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the least and the most, for JSON."""
    return {"median": round(median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


def yes(met: bool) -> str:  # noqa: FBT001 - reads as a sentence: yes(met)
    """Write whether a target is met."""
    return "yes" if met else "no"


def listed(of: Mapping[str, str] | Sequence[str]) -> list[str]:
    """Write notes, or names with what there is to say about each, as a list in Markdown."""
    lines = [f"{name}: {text}" for name, text in of.items()] if isinstance(of, Mapping) else of
    return [f"- {line}" for line in lines]
