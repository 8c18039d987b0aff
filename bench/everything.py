"""The whole report, every part of it in one run; then the table and the plot. About 25 minutes."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from types import ModuleType

from bench import broadcast, cost, latency, memory, replay, slow, storm, summary
from bench.findings import RESULTS

_MODULES: dict[str, ModuleType] = {
    "latency": latency,
    "broadcast": broadcast,
    "memory": memory,
    "storm": storm,
    "replay": replay,
    "cost": cost,
    "slow": slow,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "--parts", nargs="+", choices=_MODULES, default=[*_MODULES], help="these alone, in this order"
    )
    parser.add_argument("--quick", action="store_true", help="few and short: to see that it works; writes no results")


async def run(args: argparse.Namespace) -> None:
    """Measure all and write it. Raises what the parts raise."""
    found = []
    for name in args.parts:
        began = time.monotonic()
        print(f"\n== {name}", flush=True)
        found.append(await _MODULES[name].measure(_defaults(_MODULES[name].add_arguments, quick=args.quick)))
        found[-1].publish(keep=not args.quick)
        print(f"== {name} took {time.monotonic() - began:.0f} s", flush=True)
    summary.summarize(found, RESULTS, keep=not args.quick)


def _defaults(add_arguments: Callable[[argparse.ArgumentParser], None], *, quick: bool) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(["--quick"] if quick else [])
