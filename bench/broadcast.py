"""One topic for all streams: latency, and the CPU that each delivery costs, ours beside a bare Starlette stream."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from bench.bare import Bare
from bench.findings import Findings, Line, Panel
from bench.latency_report import middle, three
from bench.machine import describe
from bench.ours import Ours
from bench.peers import start_peers
from bench.processes import Processes
from bench.raw_http import BrokenConnectionError
from bench.report import percentiles, spread, table, yes
from bench.rounds import QUICK_TURN_S, TURN_S, Plan, Round, Rounds
from bench.subject import Audience, Subject

MOST_CPU_RATIO = 1.5
_HEAD = ("subject", "p50 / p95 / p99, ms", "CPU a delivery, us", "ratio of CPU to bare Starlette's", "lost")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("--streams", type=int, default=1000, metavar="N", help="streams (default 1000)")
    parser.add_argument("--rate", type=float, default=5.0, metavar="PER_S", help="pushes a second (default 5)")
    parser.add_argument("--seconds", type=int, default=5, metavar="S", help="turns of 1 s of each round (default 5)")
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="pairs of rounds (default 5)")
    parser.add_argument("--quick", action="store_true", help="few and short: to see that it works; writes no results")


async def run(args: argparse.Namespace) -> None:
    """Measure, print and write. Raises RoundFailedError and BrokenConnectionError."""
    (await measure(args)).publish(keep=not args.quick)


async def measure(args: argparse.Namespace) -> Findings:
    """Measure. Raises RoundFailedError and BrokenConnectionError."""
    if args.quick:
        args.streams, args.seconds, args.pairs, args.rate = 20, 1, 1, 20.0
    machine, turn_s = describe(), QUICK_TURN_S if args.quick else TURN_S
    measured: defaultdict[str, list[Round]] = defaultdict(list)
    async with Processes.running() as processes:
        pair: list[Subject] = [await Bare.start(processes), Ours(processes)]
        peers = await start_peers(processes)
        notes = list(peers.notes)
        rounds = Rounds(processes)
        await rounds.open()
        try:
            turns: list[list[Subject]] = [pair]
            turns += [[peer] for peer in peers.subjects]
            for number in range(args.pairs):
                # Evenly spaced: pushes that come while another is handed out measure the load alone.
                plan = Plan(
                    Audience.one_for_all(args.streams), args.rate, args.seconds, number, grid=True, turn_s=turn_s
                )
                for subjects in turns:
                    try:
                        seen = await rounds.pair(subjects, plan)
                    except BrokenConnectionError as error:
                        if subjects is pair:
                            raise
                        notes.append(f"{subjects[0].name}, pass {number + 1}: {error}.")
                        continue
                    for one in seen:
                        measured[one.subject].append(one)
                        print(f"pass {number + 1}: {one.line()}", flush=True)
        finally:
            rounds.close()
    return _findings(args, measured, notes, machine)


def _findings(
    args: argparse.Namespace, measured: Mapping[str, list[Round]], notes: Sequence[str], machine: Mapping[str, str]
) -> Findings:
    bare = measured[Bare.name]
    rows = []
    for name, rounds in measured.items():
        ratios = [
            one.cpu_per_delivery_us / other.cpu_per_delivery_us for one, other in zip(rounds, bare, strict=False)
        ]
        lost = sum(seen.lost for seen in rounds)
        rows.append([name, three(rounds), f"{_cpu(rounds):.1f}", spread(ratios, ".2f"), str(lost)])
    ratio = _cpu(measured[Ours.name]) / _cpu(bare)
    pairs = [
        one.cpu_per_delivery_us / other.cpu_per_delivery_us
        for one, other in zip(measured[Ours.name], bare, strict=True)
    ]
    target = f"at most {MOST_CPU_RATIO:g}x bare Starlette's ({spread(pairs, '.2f')})"
    streams = f"{args.streams:,} streams"
    lines = [
        *(
            Line(f"broadcast, {streams}: p{percent}, ms", {n: middle(r, percent) for n, r in measured.items()})
            for percent in (50, 99)
        ),
        Line(
            f"broadcast, {streams}: CPU a delivery, us",
            {name: _cpu(rounds) for name, rounds in measured.items()},
            1,
            target,
            median(pairs) <= MOST_CPU_RATIO,
        ),
    ]
    panels = [
        Panel(
            "Broadcast: p50, and p99 (line), ms",
            {streams: {n: [middle(r, 50), middle(r, 99)] for n, r in measured.items()}},
        ),
        Panel("Broadcast: CPU a delivery, us", {streams: {n: [_cpu(r)] for n, r in measured.items()}}),
    ]
    how = (
        f"One topic, {streams}, {args.rate:g} pushes a second, {args.pairs} alternating pairs of ours and the bare "
        f"stream of {args.seconds} s each in turns of {TURN_S:g} s; peers by themselves in between. A latency is "
        "that of one delivery, so it grows with a stream's place in line; one process reads them all. Bare "
        "Starlette: its own StreamingResponse with a queue a stream, given the finished event by a POST to the same "
        "process. CPU: of the process that holds the streams, over all deliveries, whatever else it did included."
    )
    text = [
        *table(_HEAD, rows),
        "",
        f"CPU a delivery: {target}; ratio of the medians {ratio:.2f}; met: {yes(lines[-1].met is True)}.",
    ]
    numbers = {
        name: [
            {"latency_ms": percentiles(seen.latencies), "cpu_per_delivery_us": round(seen.cpu_per_delivery_us, 2)}
            for seen in rounds
        ]
        for name, rounds in measured.items()
    }
    return Findings("broadcast", "One topic for all", how, machine, text, lines, panels, notes, numbers)


def _cpu(rounds: Sequence[Round]) -> float:
    return median(seen.cpu_per_delivery_us for seen in rounds)
