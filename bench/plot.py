"""The plot of a report: panels of bars, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from bench.findings import Panel

_COLORS = {
    "floor": "#8d99a6",
    "bare Starlette": "#c9b458",
    "ours": "#1f6fb2",
    "Upstash Realtime": "#3fa06f",
    "Nchan": "#b4574e",
}
_OTHER = "#777777"
WIDTH, _MARGIN, _GAP = 1240, 24, 40
_BAR, _GROUP_GAP, _HEAD = 15, 16, 52
_LABELS = 110
_VALUES = 92
_TOP = 78


def svg(title: str, panels: Sequence[Panel]) -> tuple[str, int]:
    """Draw panels in two columns; returns the document and its height in px. It is `WIDTH` px wide."""
    wide = (WIDTH - 2 * _MARGIN - _GAP) // 2
    bottoms = [_TOP, _TOP]
    parts = []
    for panel in panels:
        column = bottoms.index(min(bottoms))
        x, y = _MARGIN + column * (wide + _GAP), bottoms[column]
        drawn, height = _panel(panel, wide)
        parts.append(f'<g transform="translate({x} {y})">{drawn}</g>')
        bottoms[column] += height
    height = max(bottoms) + _MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        'font-family="DejaVu Sans, Helvetica, Arial, sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="white"/>{_text(_MARGIN, 32, title, size=17)}{_legend(panels)}'
    )
    return f"{head}{''.join(parts)}</svg>\n", height


def _panel(panel: Panel, wide: int) -> tuple[str, int]:
    """Draw one panel; a value's bar, and a thin line up to the further value. Returns it and its height."""
    most = max((value for bars in panel.groups.values() for bar in bars.values() for value in bar), default=0)
    room = wide - _LABELS - _VALUES
    parts = [_text(0, 14, panel.title, size=13), f'<line x1="0" y1="22" x2="{wide}" y2="22" stroke="#dddddd"/>']
    y = 36
    for label, bars in panel.groups.items():
        parts.append(_text(_LABELS - 8, y + _BAR * len(bars) / 2 + 4, label, anchor="end"))
        for name, values in bars.items():
            parts.append(_bar(name, values, y, room / most if most > 0 else 0))
            y += _BAR
        y += _GROUP_GAP
    return "".join(parts), y + _HEAD - 36


def _bar(name: str, values: Sequence[float], y: float, scale: float) -> str:
    known = [max(0.0, value) if math.isfinite(value) else 0.0 for value in values]
    color = _COLORS.get(name, _OTHER)
    ends = [_LABELS + value * scale for value in known]
    middle = y + _BAR / 2
    wide = max(1.0, ends[0] - _LABELS)
    parts = [f'<rect x="{_LABELS}" y="{y + 1}" width="{wide:.1f}" height="{_BAR - 2}" fill="{color}"/>']
    if len(ends) > 1:
        parts.append(f'<path d="M{ends[0]:.1f} {middle}H{ends[1]:.1f}m0 -4v8" stroke="{color}" fill="none"/>')
    told = " / ".join(number(value) for value in values)
    parts.append(_text(max(ends) + 6, middle + 4, told, color="#444444"))
    return "".join(parts)


def _legend(panels: Sequence[Panel]) -> str:
    shown = {name for panel in panels for bars in panel.groups.values() for name in bars}
    parts, x = [], _MARGIN
    for name, color in _COLORS.items():
        if name in shown:
            parts.append(f'<rect x="{x}" y="46" width="12" height="12" fill="{color}"/>{_text(x + 18, 56, name)}')
            x += 18 + 8 * len(name) + 24
    return "".join(parts)


def _text(x: float, y: float, text: str, *, size: int = 11, anchor: str = "start", color: str = "#222222") -> str:
    style = f'font-size="{size}" text-anchor="{anchor}" fill="{color}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def number(value: float) -> str:
    """Write a number with as many digits as a reader needs."""
    if not math.isfinite(value):
        return "-"
    places = 0 if abs(value) >= 100 or value == round(value) else 1 if abs(value) >= 10 else 2
    return f"{value:,.{places}f}"
