"""From rounds of latency to tables, and to what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from bench.findings import Findings, Line, Panel
from bench.floor import Floor, uses_pattern
from bench.ours import Ours
from bench.realtime import Realtime
from bench.report import PERCENTS, percentile, percentiles, spread, table, yes
from bench.rounds import Round

#: Rounds by the number of streams and the name of the subject.
Measured = Mapping[int, dict[str, list[Round]]]

#: The target: half of the pairs at most this much slower than the floor, at this number of streams …
MOST_RATIO = 2.0
RATIO_STREAMS = 1000
#: … and at most this much in ms, at any.
MOST_DIFFERENCE_MS = 3.0
#: How much higher p99 may be with many streams than with few, at the same rate.
MOST_GROWTH = 2.0
FEW, MANY = 500, 5000

_WORDS = (
    "Percentiles are medians over the rounds; in brackets the least and most of a pair. CPU: of the process that "
    "holds the streams, over the events delivered (its idle work included)."
)
_PROCESSES = ("webhook", "stream", "gateway", "redis", "load")
_HEAD = (
    "streams",
    "subject",
    "p50 / p95 / p99, ms",
    "ratio of p50 to the floor's",
    "difference of p50, ms",
    "CPU a delivery, us",
    "lost",
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


def middle(rounds: Sequence[Round], percent: float) -> float:
    """Return the median over the rounds of a percentile of their latencies."""
    return median(percentile(seen.latencies, percent) for seen in rounds)


def three(rounds: Sequence[Round]) -> str:
    """Write the percentiles."""
    return " / ".join(f"{middle(rounds, percent):.2f}" for percent in PERCENTS)


def paired(ours: Sequence[Round], others: Sequence[Round], percent: float) -> tuple[list[float], list[float]]:
    """Return the ratio and the difference of a percentile, for each pair."""
    pairs = [
        (percentile(one.latencies, percent), percentile(other.latencies, percent))
        for one, other in zip(ours, others, strict=False)
    ]
    return [one / other for one, other in pairs], [one - other for one, other in pairs]


def findings(
    measured: Measured, per_push: float, notes: Sequence[str], machine: Mapping[str, str], how: str
) -> Findings:
    """Make the tables."""
    rows, beside = [], []
    for streams, subjects in sorted(measured.items()):
        for name, rounds in subjects.items():
            rows.append(_cells(streams, name, rounds, subjects.get(Floor.name)))
        if Ours.name in subjects and Floor.name in subjects:
            beside.append(_beside(streams, subjects, per_push))
    lines = _lines(measured)
    text = [
        *table(_HEAD, rows),
        "",
        _WORDS,
        "",
        *(f"{line.what}: {line.target}; met: {yes(line.met)}.\n" for line in lines if line.met is not None),
        "Beside it, in our rounds (CPU: of the whole process, user and system, over the pushes of the round):",
        "",
        *table(_BESIDE_HEAD, beside),
    ]
    numbers = {
        "requests_per_push": per_push,
        "rounds": {
            streams: {name: [_numbers(seen) for seen in rounds] for name, rounds in subjects.items()}
            for streams, subjects in measured.items()
        },
    }
    panel = Panel(
        "Push to client, a mailbox a stream: p50, and p99 (line), ms",
        {
            f"{streams:,} {_noun(streams)}": {
                name: [middle(rounds, 50), middle(rounds, 99)] for name, rounds in subjects.items()
            }
            for streams, subjects in sorted(measured.items())
        },
    )
    return Findings("latency", "Push to client", how, machine, text, lines, [panel], notes, numbers)


def _lines(measured: Measured) -> list[Line]:
    lines = []
    for streams, subjects in sorted(measured.items()):
        for percent in (50, 99):
            values = {name: middle(rounds, percent) for name, rounds in subjects.items()}
            target, met = "", None
            if percent == 50 and streams == RATIO_STREAMS and {Ours.name, Floor.name} <= subjects.keys():
                target, met = _against_floor(subjects)
            lines.append(Line(f"own mailboxes, {streams:,} {_noun(streams)}: p{percent}, ms", values, 2, target, met))
    if all(Ours.name in measured.get(streams, {}) for streams in (FEW, MANY)):
        growth, _ = paired(measured[MANY][Ours.name], measured[FEW][Ours.name], 99)
        grown = middle(measured[MANY][Ours.name], 99) / middle(measured[FEW][Ours.name], 99)
        floor_grown = middle(measured[MANY][Floor.name], 99) / middle(measured[FEW][Floor.name], 99)
        target = f"at most {MOST_GROWTH:g} (medians of {len(growth)}; pass by pass {spread(growth, '.2f')})"
        values = {Floor.name: floor_grown, Ours.name: grown}
        lines.append(
            Line(f"own mailboxes: p99 at {MANY:,} / at {FEW:,} streams", values, 2, target, grown <= MOST_GROWTH)
        )
    return lines


def _against_floor(subjects: Mapping[str, list[Round]]) -> tuple[str, bool]:
    ratios, differences = paired(subjects[Ours.name], subjects[Floor.name], 50)
    met = median(ratios) <= MOST_RATIO and median(differences) <= MOST_DIFFERENCE_MS
    target = (
        f"median of the pairs at most {MOST_RATIO:g}x the floor ({spread(ratios, '.2f')}) and "
        f"{MOST_DIFFERENCE_MS:g} ms above it ({spread(differences, '+.2f')})"
    )
    if subjects.get(Realtime.name):
        met = met and middle(subjects[Ours.name], 50) < middle(subjects[Realtime.name], 50)
        target += f", and below {Realtime.name}"
    return target, met


def _cells(streams: int, name: str, rounds: Sequence[Round], floor: Sequence[Round] | None) -> list[str]:
    ratio = difference = "-"
    if floor and name == Ours.name:
        ratios, differences = paired(rounds, floor, 50)
        ratio, difference = spread(ratios, ".2f"), spread(differences, "+.2f")
    elif floor and name != Floor.name:
        # Not in pairs with it.
        mine, its = middle(rounds, 50), middle(floor, 50)
        ratio, difference = f"{mine / its:.2f}", f"{mine - its:+.2f}"
    cpu = median(seen.cpu_per_delivery_us for seen in rounds)
    lost = sum(seen.lost for seen in rounds)
    return [
        f"{streams:,}",
        name,
        three(rounds),
        ratio,
        difference,
        "-" if name == Floor.name else f"{cpu:.0f}",
        str(lost),
    ]


def _beside(streams: int, subjects: Mapping[str, list[Round]], per_push: float) -> list[str]:
    ours, floors = subjects[Ours.name], subjects[Floor.name]
    return [
        f"{streams:,}",
        "pattern" if uses_pattern(streams) else "channel",
        f"{_p50(seen.evals for seen in floors):.2f} / {_p50(seen.evals for seen in ours):.2f}",
        f"{_p50(seen.answers for seen in ours):.2f}",
        f"{per_push:.2f}",
        f"{median(seen.requests / seen.pushes - per_push for seen in ours):.3f}",
        *(f"{median(seen.cpu_s[name] / seen.pushes * 1e3 for seen in ours):.2f}" for name in _PROCESSES),
        f"{median(percentile(seen.loop_lag, 99) for seen in ours):.1f}",
    ]


def _noun(streams: int) -> str:
    return "stream" if streams == 1 else "streams"


def _p50(of: Any) -> float:
    return median(percentile(values, 50) for values in of)


def _numbers(of: Round) -> dict[str, Any]:
    return {
        "pushes": of.pushes,
        "measured": len(of.latencies),
        "latency_ms": percentiles(of.latencies),
        "push_answered_ms": percentiles(of.answers),
        "eval_alone_ms": percentiles(of.evals),
        "gateway_requests": of.requests,
        "seconds": round(of.seconds, 3),
        "cpu_s": {name: round(used, 3) for name, used in of.cpu_s.items()},
        "send_lag_ms": percentiles(of.send_lag),
        "loop_lag_ms": percentiles(of.loop_lag),
        "lost": of.lost,
        "doubled": of.doubled,
        "faults": of.faults[:5],
    }
