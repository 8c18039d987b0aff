"""Push-to-client latency, ours against the floor, in alternating pairs: ``python -m bench``.

Exit code 1 when an event was lost or doubled, or anything answered with an error. A missed target is shown, not
punished: it depends on the machine and on who else uses it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import uvloop

from bench.floor import Floor
from bench.machine import describe
from bench.ours import Ours
from bench.processes import Processes, raise_file_limit
from bench.raw_http import BrokenConnectionError
from bench.report import Pair, Row, markdown, write
from bench.rounds import TURN_S, Plan, RoundFailedError, Rounds
from infra.local.children import ChildError

RESULTS = Path(__file__).parent / "results"
_CALIBRATION_PUSHES = 100


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--streams", type=int, nargs="+", default=[1, 100, 1000], metavar="N", help="numbers of streams"
    )
    parser.add_argument("--rate", type=float, default=200.0, metavar="PER_S", help="pushes a second (default 200)")
    parser.add_argument(
        "--seconds", type=int, default=5, metavar="S", help="turns of 1 s that each of a pair has (default 5)"
    )
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="pairs of rounds (default 5)")
    parser.add_argument("--grid", action="store_true", help="evenly spaced pushes with jitter, instead of Poisson's")
    parser.add_argument(
        "--quick", action="store_true", help="2 pairs of 2 s: to see that it works; writes no results"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of push times and mailboxes")
    args = parser.parse_args(argv)
    if args.quick:
        args.seconds, args.pairs = min(args.seconds, 2), min(args.pairs, 2)
    return args


async def _main(args: argparse.Namespace) -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    machine = describe()
    rows = [Row(streams, await _pairs(args, streams)) for streams in args.streams]
    how = _how(args)
    text = markdown(rows, machine, how)
    print(f"\n{text}")
    if not args.quick:
        write(RESULTS, text, rows, machine, how)
        print(f"written to {RESULTS}/latency.md and latency.json")


def _how(args: argparse.Namespace) -> str:
    arrivals = "an even grid with jitter" if args.grid else "Poisson arrivals"
    return (
        f"{args.rate:g} pushes a second ({arrivals}), one mailbox a stream, {args.pairs} alternating pairs of "
        f"{args.seconds} s each, in turns of {TURN_S:g} s. Floor: raw sockets that do the webhook's EVAL and "
        "the stream function's SUBSCRIBE (a channel or the pattern, whichever the product uses at that number of "
        "streams) on the same gateway and Redis. No event was lost or doubled."
    )


async def _pairs(args: argparse.Namespace, streams: int) -> list[Pair]:
    """Measure all pairs at one number of streams, on processes of their own."""
    pairs: list[Pair] = []
    async with _running() as processes:
        floor, ours = Floor(processes), Ours(processes)
        rounds = Rounds(processes)
        await rounds.open()
        try:
            per_push = await _requests_per_push(rounds, ours)
            for number in range(args.pairs):
                plan = Plan(streams, args.rate, args.seconds, args.seed + number, args.grid)
                seen = await rounds.pair([floor, ours], plan)
                pair = Pair(streams, seen[0], seen[1], per_push)
                pairs.append(pair)
                print("\n".join([pair.line(number + 1), *pair.detail()]), flush=True)
        finally:
            rounds.close()
    return pairs


async def _requests_per_push(rounds: Rounds, ours: Ours) -> float:
    """Count what a push costs while nobody listens: what it costs more in a round is the streams'."""
    await ours.open(0)
    try:
        first_id = time.time_ns()
        await ours.push(0, first_id)
        before = await rounds.gateway_requests()
        for number in range(1, _CALIBRATION_PUSHES + 1):
            await ours.push(0, first_id + number)
        return (await rounds.gateway_requests() - before) / _CALIBRATION_PUSHES
    finally:
        await ours.close()


@contextlib.asynccontextmanager
async def _running() -> AsyncIterator[Processes]:
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as directory:
        processes = Processes(Path(directory))
        try:
            await processes.start()
            yield processes
        finally:
            # Told to stop twice, it still stops its children first.
            await asyncio.shield(processes.stop())


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    args = _arguments(argv)
    raise_file_limit()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_main(args))
    except (RoundFailedError, BrokenConnectionError, ChildError) as error:
        print(f"bench: failed: {error}", file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        print("bench: stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
