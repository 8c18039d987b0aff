"""Cost over the number of streams, a line for each way to run them, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise

from infra.cost.assumptions import Assumptions
from infra.cost.estimate import estimate
from infra.cost.prices import Prices

WIDTH, HEIGHT = 900, 560
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 150, 64, 58
_POINTS = 49
_COLORS = {"lambda": "#b4574e", "managed": "#c9a227", "fargate": "#1f6fb2", "cloudrun": "#3fa06f"}
_FONT = 'font-family="DejaVu Sans, Helvetica, Arial, sans-serif" font-size="12"'
_LINE_HEIGHT = 15
_INK, _FAINT = "#222222", "#dddddd"


@dataclass(frozen=True, slots=True)
class Point:
    """What a way costs at a number of streams, and whether it meets the load."""

    streams: int
    usd: float
    fits: bool


def curves(given: Assumptions, prices: Prices) -> dict[str, list[Point]]:
    """Reckon each way from 10 streams to ten times what was asked for, 10,000 at least."""
    last = max(10_000, 10 * given.streams)
    numbers = sorted({round(10 * (last / 10) ** (n / (_POINTS - 1))) for n in range(_POINTS)})
    drawn: dict[str, list[Point]] = {}
    for streams in numbers:
        for option in estimate(replace(given, streams=streams), prices).options:
            drawn.setdefault(option.shape.name, []).append(Point(streams, option.usd, option.fits))
    return drawn


def svg(given: Assumptions, prices: Prices) -> str:
    """Draw them on two logarithmic axes; a way that does not meet the load is a broken line."""
    drawn = curves(given, prices)
    points = [point for line in drawn.values() for point in line if math.isfinite(point.usd)]
    if not points:
        points = [Point(10, 1, fits=False)]
    sheet = _Sheet(
        first=10,
        last=max(point.streams for point in points),
        least=10 ** math.floor(math.log10(max(1, min(point.usd for point in points)))),
        most=10 ** math.ceil(math.log10(max(10, *(point.usd for point in points)))),
    )
    about = (
        f"{given.hours:g} h a day, {given.pushes_per_user_day:,g} pushes a user and day; prices of {prices.dated}; "
        "broken: does not meet the load"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" {_FONT}>',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(_LEFT, 26, "What a month costs, over the number of streams", size=16),
        _text(_LEFT, 46, about),
        *sheet.grid(),
        *sheet.marks(given),
    ]
    ends: list[float] = []
    for name, line in drawn.items():
        parts += sheet.curve(line, _COLORS[name])
        seen = [point for point in line if math.isfinite(point.usd)]
        if seen:
            y = _free(sheet.y(seen[-1].usd), ends)
            parts.append(_text(sheet.x(seen[-1].streams) + 8, y + 4, f"{name}", color=_COLORS[name]))
    return "".join([*parts, "</svg>\n"])


@dataclass(frozen=True, slots=True)
class _Sheet:
    """The axes: streams from first to last, USD from least to most."""

    first: float
    last: float
    least: float
    most: float

    def x(self, streams: float) -> float:
        room = WIDTH - _LEFT - _RIGHT
        return _LEFT + room * math.log(streams / self.first) / math.log(max(self.last, 2 * self.first) / self.first)

    def y(self, usd: float) -> float:
        room = HEIGHT - _TOP - _BOTTOM
        return (
            HEIGHT - _BOTTOM - room * math.log(max(usd, self.least) / self.least) / math.log(self.most / self.least)
        )

    def grid(self) -> Iterator[str]:
        for streams in _decades(self.first, self.last):
            x = self.x(streams)
            yield f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{HEIGHT - _BOTTOM}" stroke="{_FAINT}"/>'
            yield _text(x, HEIGHT - _BOTTOM + 18, f"{streams:,.0f}", anchor="middle")
        for usd in _decades(self.least, self.most):
            y = self.y(usd)
            yield f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}" stroke="{_FAINT}"/>'
            yield _text(_LEFT - 8, y + 4, f"{usd:,.0f}", anchor="end")
        yield _text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 16, "streams open at the same time", anchor="middle")
        yield _text(_LEFT - 8, _TOP - 8, "USD", anchor="end")

    def marks(self, given: Assumptions) -> Iterator[str]:
        """Mark the budget, and the number of streams that was asked for."""
        if self.least <= given.budget <= self.most:
            y = self.y(given.budget)
            yield f'<path d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}" stroke="{_INK}" stroke-dasharray="2 4" fill="none"/>'
            yield _text(_LEFT + 6, y - 5, f"{given.budget:,g} USD")
        if self.first <= given.streams <= self.last:
            x = self.x(given.streams)
            yield f'<path d="M{x:.1f} {_TOP}V{HEIGHT - _BOTTOM}" stroke="{_INK}" stroke-dasharray="2 4" fill="none"/>'

    def curve(self, line: Sequence[Point], color: str) -> Iterator[str]:
        """Draw each stretch between two points, broken where the second does not meet the load."""
        for before, point in pairwise(line):
            if not (math.isfinite(before.usd) and math.isfinite(point.usd)):
                continue
            dashes = "" if point.fits else ' stroke-dasharray="6 4"'
            ends = [f"{self.x(one.streams):.1f} {self.y(one.usd):.1f}" for one in (before, point)]
            yield f'<path d="M{"L".join(ends)}" stroke="{color}" stroke-width="2.2" fill="none"{dashes}/>'


def _decades(first: float, last: float) -> list[float]:
    lowest, highest = math.ceil(math.log10(first) - 1e-9), math.floor(math.log10(last) + 1e-9)
    return [10.0**n for n in range(lowest, highest + 1)]


def _free(y: float, taken: list[float]) -> float:
    """Move a label down until it does not cover another."""
    while any(abs(y - other) < _LINE_HEIGHT for other in taken):
        y += 1
    taken.append(y)
    return y


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", color: str = _INK) -> str:
    style = f'font-size="{size}" text-anchor="{anchor}" fill="{color}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'
