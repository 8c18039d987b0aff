"""Push-to-client latency, ours against the floor, in alternating pairs."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from bench.floor import Floor
from bench.machine import describe
from bench.ours import Ours
from bench.processes import Processes
from bench.report import Pair, Row, markdown, write
from bench.rounds import TURN_S, Plan, Rounds

RESULTS = Path(__file__).parent / "results"
_CALIBRATION_PUSHES = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
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


async def run(args: argparse.Namespace) -> None:
    """Measure, print and write."""
    if args.quick:
        args.seconds, args.pairs = min(args.seconds, 2), min(args.pairs, 2)
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
    async with Processes.running() as processes:
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
