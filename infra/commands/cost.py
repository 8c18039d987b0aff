"""`tidemark cost`: what a deployment costs a month, on what it may run, and the cheapest that meets the load."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path

from infra.cli import CommandError
from infra.cost.assumptions import KINDS, Assumptions, BadAssumptionError

_PICTURES = (".png", ".svg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments: one for each assumption."""
    parser.usage = (
        "tidemark cost [--streams N] [--hours N] [--pushes-per-user-day N] [--json] [--short] [--plot FILE]\n"
        "                     [--ASSUMPTION N …; --help lists them]"
    )
    parser.description = (
        "Reckon what a deployment costs a month, on each of four things that the streams may run on, and say "
        "what is the cheapest that meets the load. Returns 1 when nothing does."
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--short", action="store_true", help="leave out what is assumed")
    parser.add_argument(
        "--plot", type=_picture, metavar="FILE", help="draw cost over streams: .png (needs Chromium) or .svg"
    )
    group = parser.add_argument_group()
    for one in fields(Assumptions):
        if one.name in KINDS:
            group = parser.add_argument_group(f"assumptions: {KINDS[one.name]}")
        group.add_argument(
            f"--{one.name.replace('_', '-')}",
            type=_number,
            default=one.default,
            metavar="N",
            help=f"{one.metadata['what']} (default {one.default:g})",
        )
    parser.set_defaults(wrong_usage=parser.error)


def run(args: argparse.Namespace) -> int:
    """Print the estimate. Returns 1 when nothing meets the load."""
    # Not needed to know the arguments, and every command of `tidemark` gets to know those.
    from infra.cost.estimate import estimate  # noqa: PLC0415
    from infra.cost.report import report  # noqa: PLC0415
    from infra.cost.table import text  # noqa: PLC0415

    try:
        given = Assumptions(**{one.name: getattr(args, one.name) for one in fields(Assumptions)})
    except BadAssumptionError as error:
        args.wrong_usage(f"argument --{error.name.replace('_', '-')}: {error}")
    told = estimate(given)
    if args.plot is not None:
        _draw(given, args.plot)
    print(json.dumps(report(told)) if args.json else text(told, short=args.short))
    return 0 if told.recommended else 1


def _draw(given: Assumptions, file: Path) -> None:
    from infra.cost.plot import HEIGHT, WIDTH, svg  # noqa: PLC0415
    from infra.cost.prices import known_prices  # noqa: PLC0415
    from infra.pictures import NoPictureError, draw_png  # noqa: PLC0415

    drawn = svg(given, known_prices())
    try:
        if file.suffix == ".svg":
            file.write_text(drawn, encoding="utf-8")
        else:
            draw_png(drawn, file, width=WIDTH, height=HEIGHT)
    except (NoPictureError, OSError) as error:
        raise CommandError(f"no plot: {error}") from None


def _picture(text: str) -> Path:
    file = Path(text)
    if file.suffix not in _PICTURES:
        raise argparse.ArgumentTypeError(f"must end in {' or '.join(_PICTURES)}")
    return file


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError("must be a number, 0 or more")
    return value
