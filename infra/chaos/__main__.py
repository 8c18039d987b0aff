"""The chaos harness: ``python -m infra.chaos --seeds 1-100 --jobs 2``."""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from infra.chaos.local import local_seed
from infra.chaos.report import details, exit_code, line, summary
from infra.chaos.run import Result
from infra.chaos.topology import LINKS, Kind
from infra.local.children import die_with

_SEEDS = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the seeds and print what became of them."""
    options = _arguments(argv)
    # A shell that starts this in the background has it ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    began = time.monotonic()
    results: list[Result] = []
    kinds = list(dict.fromkeys([*(kind for link in LINKS for kind in link.kinds), Kind.KILL]))
    for result in _results(options):
        results.append(result)
        print(line(result), flush=True)
        if not result.verdict.good or result.healed_s is None:
            again = f'make chaos ARGS="--seeds {result.seed} --seconds {options.seconds:g}"'
            print("\n".join(details(result, again)), flush=True)
    print("\n".join(summary(results)))
    print(f"took {time.monotonic() - began:.0f} s")
    code, why = exit_code(results, options.require_fired, kinds)
    if why:
        print(why)
    return code


def _results(options: argparse.Namespace) -> Iterator[Result]:
    run = partial(local_seed, seconds=options.seconds)
    if options.jobs == 1:
        yield from map(run, options.seeds)
        return
    # Not forked: each is to have an event loop and signals of its own.
    context = multiprocessing.get_context("spawn")
    # They die with this process, and their stacks with them, however that goes.
    with ProcessPoolExecutor(options.jobs, context, initializer=die_with, initargs=(os.getpid(),)) as pool:
        yield from pool.map(run, options.seeds)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.chaos", description="Break it all, by a seeded schedule")
    parser.add_argument("--seeds", type=_seeds, default="1-100", metavar="A-B", help="such as 17 or 1-10,42")
    parser.add_argument("--seconds", type=_positive, default=12.0, metavar="S", help="how long the faults last")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="how many seeds at a time")
    parser.add_argument("--require-fired", type=int, default=0, metavar="N", help="how often each kind must have hit")
    return parser.parse_args(argv)


def _seeds(text: str) -> list[int]:
    seeds: list[int] = []
    for part in text.split(","):
        found = _SEEDS.fullmatch(part)
        if found is None:
            raise argparse.ArgumentTypeError("must be seeds such as 17 or 1-10,42")
        seeds += range(int(found[1]), int(found[2] or found[1]) + 1)
    return seeds


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be a number above 0")
    return value


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
