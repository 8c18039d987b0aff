"""From rounds to numbers, a table for people and JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.floor import uses_pattern
from bench.rounds import Round

#: The target: half of the pairs at most this much slower than the floor, at the largest number of streams …
MOST_RATIO = 2.0
RATIO_STREAMS = 1000
#: … and at most this much in ms, at any.
MOST_DIFFERENCE_MS = 3.0

PERCENTS = (50, 95, 99)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least ``percent`` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)] if ordered else math.nan


@dataclass(frozen=True, slots=True)
class Pair:
    """A floor round and one of ours, in turns, with the same push times."""

    streams: int
    floor: Round
    ours: Round
    #: Requests to the gateway that one push costs when nobody listens.
    requests_per_push: float

    @property
    def ratio(self) -> float:
        """How many times slower ours is at the median."""
        return percentile(self.ours.latencies, 50) / percentile(self.floor.latencies, 50)

    @property
    def difference_ms(self) -> float:
        """How much slower ours is at the median."""
        return percentile(self.ours.latencies, 50) - percentile(self.floor.latencies, 50)

    @property
    def requests_per_event(self) -> float:
        """Requests to the gateway that one delivered event costs, beyond those of its push."""
        return self.ours.requests / self.ours.pushes - self.requests_per_push

    def line(self, number: int) -> str:
        """Tell the pair in one line."""
        return (
            f"{self.streams:>5} streams, pair {number}: floor {_three(self.floor)}   ours {_three(self.ours)}   "
            f"x{self.ratio:.2f}  {self.difference_ms:+.2f} ms"
        )

    def detail(self) -> list[str]:
        """Tell what else was seen, a line for each of the two rounds."""
        return [_detail(self.floor), _detail(self.ours)]

    def numbers(self) -> dict[str, Any]:
        """Return everything as JSON."""
        return {
            "streams": self.streams,
            "ratio_p50": round(self.ratio, 3),
            "difference_p50_ms": round(self.difference_ms, 3),
            "requests_per_push": round(self.requests_per_push, 3),
            "requests_per_event": round(self.requests_per_event, 4),
            "floor": _round_numbers(self.floor),
            "ours": _round_numbers(self.ours),
        }


@dataclass(frozen=True, slots=True)
class Row:
    """All pairs at one number of streams. Percentiles are the median of those of the rounds."""

    streams: int
    pairs: Sequence[Pair]

    def floor_ms(self, percent: float) -> float:
        """Return the floor's percentile."""
        return median(percentile(pair.floor.latencies, percent) for pair in self.pairs)

    def ours_ms(self, percent: float) -> float:
        """Return our percentile."""
        return median(percentile(pair.ours.latencies, percent) for pair in self.pairs)

    @property
    def ratios(self) -> list[float]:
        """The ratio of each pair."""
        return [pair.ratio for pair in self.pairs]

    @property
    def differences_ms(self) -> list[float]:
        """The difference of each pair."""
        return [pair.difference_ms for pair in self.pairs]

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        slow = self.streams >= RATIO_STREAMS and median(self.ratios) > MOST_RATIO
        return not slow and median(self.differences_ms) <= MOST_DIFFERENCE_MS

    def cells(self) -> list[str]:
        """Return the row of the table."""
        return [
            f"{self.streams:,}",
            " / ".join(f"{self.floor_ms(percent):.2f}" for percent in PERCENTS),
            " / ".join(f"{self.ours_ms(percent):.2f}" for percent in PERCENTS),
            spread(self.ratios, ".2f"),
            spread(self.differences_ms, "+.2f"),
            "yes" if self.met else "no",
        ]

    def beside(self) -> list[str]:
        """Return the row of the second table."""
        ours = [pair.ours for pair in self.pairs]
        floors = [pair.floor for pair in self.pairs]
        return [
            f"{self.streams:,}",
            "pattern" if uses_pattern(self.streams) else "channel",
            f"{median(_p50(r.evals) for r in floors):.2f} / {median(_p50(r.evals) for r in ours):.2f}",
            f"{median(_p50(r.answers) for r in ours):.2f}",
            f"{median(pair.requests_per_push for pair in self.pairs):.2f}",
            f"{median(pair.requests_per_event for pair in self.pairs):.3f}",
            *(f"{median(r.cpu_s[name] / r.pushes * 1e3 for r in ours):.2f}" for name in _PROCESSES),
            f"{median(percentile(r.loop_lag, 99) for r in ours):.1f}",
        ]

    def numbers(self) -> dict[str, Any]:
        """Return everything as JSON."""
        return {
            "streams": self.streams,
            "feed": "pattern" if uses_pattern(self.streams) else "channel",
            "floor_ms": {f"p{percent}": round(self.floor_ms(percent), 3) for percent in PERCENTS},
            "ours_ms": {f"p{percent}": round(self.ours_ms(percent), 3) for percent in PERCENTS},
            "ratio_p50": _spread_numbers(self.ratios),
            "difference_p50_ms": _spread_numbers(self.differences_ms),
            "target_met": self.met,
            "pairs": [pair.numbers() for pair in self.pairs],
        }


_PROCESSES = ("webhook", "stream", "gateway", "redis", "load")
_HEAD = (
    "streams",
    "floor p50 / p95 / p99, ms",
    "ours p50 / p95 / p99, ms",
    "ratio of p50",
    "difference of p50, ms",
    "target met?",
)
_BESIDE_HEAD = (
    "streams",
    "feed",
    "EVAL alone p50 (floor / ours round), ms",
    "push answered p50, ms",
    "requests a push",
    "requests a delivered event",
    *(f"{name} CPU a push, ms" for name in _PROCESSES),
    "load's timer lag p99, ms",
)

_TARGET = (
    f"Target: median ratio at most {MOST_RATIO:g} at {RATIO_STREAMS:,} streams, and median difference at most "
    f"{MOST_DIFFERENCE_MS:g} ms. Percentiles are medians over the pairs; in brackets the least and most of a pair."
)


def markdown(rows: Sequence[Row], machine: dict[str, str], how: str) -> str:
    """Write the tables."""
    return "\n".join(
        [
            "# Push to client",
            "",
            how,
            "",
            *table(_HEAD, [row.cells() for row in rows]),
            "",
            _TARGET,
            "",
            "Beside it, in our rounds (CPU: of the whole process, user and system, over the pushes of the round):",
            "",
            *table(_BESIDE_HEAD, [row.beside() for row in rows]),
            "",
            *(f"- {name}: {text}" for name, text in machine.items()),
            "",
        ]
    )


def write(directory: Path, text: str, rows: Sequence[Row], machine: dict[str, str], how: str) -> None:
    """Write ``latency.md`` and ``latency.json``."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "latency.md").write_text(text, encoding="utf-8")
    numbers = {"machine": machine, "how": how, "rows": [row.numbers() for row in rows]}
    (directory / "latency.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Write a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _p50(values: Sequence[float]) -> float:
    return percentile(values, 50)


def _three(of: Round) -> str:
    return "/".join(f"{percentile(of.latencies, percent):.2f}" for percent in PERCENTS)


def spread(values: Sequence[float], form: str) -> str:
    """Write the median, and in brackets the least and the most."""
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def _spread_numbers(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def _detail(of: Round) -> str:
    cpu = "  ".join(f"{name} {of.cpu_s[name]:.2f}" for name in _PROCESSES)
    return (
        f"      {of.subject}: EVAL alone {_p50(of.evals):.2f} ms, push answered {_p50(of.answers):.2f} ms, "
        f"{of.requests / of.pushes:.3f} requests a push; CPU s of {of.seconds:.1f}: {cpu}; "
        f"load: sends {percentile(of.send_lag, 50):.2f}/{percentile(of.send_lag, 99):.2f} ms late, "
        f"timers {percentile(of.loop_lag, 50):.2f}/{percentile(of.loop_lag, 99):.2f}"
    )


def _round_numbers(of: Round) -> dict[str, Any]:
    return {
        "pushes": of.pushes,
        "measured": len(of.latencies),
        "latency_ms": _percentiles(of.latencies),
        "push_answered_ms": _percentiles(of.answers),
        "eval_alone_ms": _percentiles(of.evals),
        "gateway_requests": of.requests,
        "seconds": round(of.seconds, 3),
        "cpu_s": {name: round(used, 2) for name, used in of.cpu_s.items()},
        "send_lag_ms": _percentiles(of.send_lag),
        "loop_lag_ms": _percentiles(of.loop_lag),
    }


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{percent}": round(percentile(values, percent), 3) for percent in PERCENTS}
