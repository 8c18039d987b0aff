"""The report of all: one table and one plot of what is kept in bench/results; nothing is measured anew."""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.findings import RESULTS, Findings, Line, Panel
from bench.plot import WIDTH, svg
from bench.report import listed, table, yes
from infra.pictures import NoPictureError, draw_png

#: What belongs to the report, in its order.
PARTS = ("latency", "broadcast", "memory", "storm", "replay", "cost", "slow")
_SUBJECTS = ("floor", "bare Starlette", "ours", "Upstash Realtime", "Nchan")
_TITLE = "Tidemark beside its floor and its peers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("--quick", action="store_true", help="print it; writes nothing")


async def run(args: argparse.Namespace) -> None:
    """Make it of what is kept."""
    kept = [findings for part in PARTS if (findings := Findings.load(part)) is not None]
    summarize(kept, RESULTS, keep=not args.quick)


def summarize(parts: Sequence[Findings], directory: Path, *, keep: bool) -> None:
    """Print the table, and write ``report.md``, ``.json``, ``.svg`` and ``.png`` if it is to be kept."""
    text = markdown(parts)
    print(f"\n{text}", flush=True)
    if not keep:
        with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as unkept:
            drawn = draw(parts, Path(unkept) / "report.svg")
        print(f"the plot can be drawn: {yes(drawn)}")
        return
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "report.md").write_text(text, encoding="utf-8")
    numbers = [
        {"what": line.what, "values": line.values, "target": line.target, "met": line.met, "part": part.name}
        for part in parts
        for line in part.lines
    ]
    machines = {part.name: part.machine for part in parts}
    (directory / "report.json").write_text(
        json.dumps({"machines": machines, "lines": numbers}, indent=1) + "\n", encoding="utf-8"
    )
    drawn = draw(parts, directory / "report.svg")
    print(f"written to {directory}: report.md, report.json, report.svg" + (", report.png" if drawn else ""))
    if not drawn:
        print("no report.png: that takes a Chromium on the PATH, which draws report.svg")


def draw(parts: Sequence[Findings], file: Path) -> bool:
    """Write the plot; returns whether there is a PNG of it."""
    panels: list[Panel] = [panel for part in parts for panel in part.panels]
    document, height = svg(_TITLE, panels)
    file.write_text(document, encoding="utf-8")
    try:
        draw_png(document, file.with_suffix(".png"), width=WIDTH, height=height)
    except NoPictureError:
        return False
    return True


def markdown(parts: Sequence[Findings]) -> str:
    """Write the table, and what is to be said of it."""
    rows = [_cells(line) for part in parts for line in part.lines]
    missing = [name for name in PARTS if name not in {part.name for part in parts}]
    notes = [f"{part.title}: {note}" for part in parts for note in part.notes]
    machine = parts[0].machine if parts else {}
    when = {part.name: part.machine["date"] for part in parts}
    return "\n".join(
        [
            f"# {_TITLE}",
            "",
            "Each line is explained, with its spread, in the file of its part: "
            + ", ".join(f"[{part.name}]({part.name}.md)" for part in parts)
            + ". A peer's `-` means that it was not measured, or has no such thing.",
            "",
            *table(("", *_SUBJECTS, "target for ours", "met?"), rows),
            "",
            "![plot](report.png)",
            "",
            *listed([f"Not measured: {name}." for name in missing]),
            *listed(sorted(set(notes))),
            *listed({**machine, "date": ", ".join(f"{name} {date}" for name, date in when.items())}),
            "",
        ]
    )


def _cells(line: Line) -> list[str]:
    values = [line.values.get(name, math.nan) for name in _SUBJECTS]
    told = [f"{value:,.{line.places}f}" if math.isfinite(value) else "-" for value in values]
    return [line.what, *told, line.target, "" if line.met is None else yes(line.met)]
