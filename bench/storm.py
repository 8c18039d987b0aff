"""A connect storm: 1,000 streams opened at once; how long until all are greeted, and how many are not."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.bare import Bare
from bench.findings import Findings, Line, Panel
from bench.machine import describe
from bench.ours import Ours
from bench.peers import start_peers
from bench.processes import Processes
from bench.raw_http import BrokenConnectionError
from bench.report import percentile, spread, table
from bench.rounds import Rounds
from bench.subject import Audience, Server

_PATIENCE_S = 60.0
_HEAD = (
    "subject",
    "all greeted after, ms",
    "greeted p50 / p99, ms",
    "not greeted",
    "gateway requests a stream",
    "CPU a stream, us",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("--streams", type=int, default=1000, metavar="N", help="streams (default 1000)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="storms of each (default 5)")
    parser.add_argument("--quick", action="store_true", help="few and short: to see that it works; writes no results")


@dataclass(frozen=True, slots=True)
class Storm:
    """One storm: when each stream was greeted, ms after all had begun; why others were not."""

    greeted: list[float]
    failures: list[str]
    requests: int
    cpu_s: float


async def run(args: argparse.Namespace) -> None:
    """Measure, print and write."""
    (await measure(args)).publish(keep=not args.quick)


async def measure(args: argparse.Namespace) -> Findings:
    """Measure."""
    if args.quick:
        args.streams, args.rounds = 30, 1
    machine = describe()
    storms: defaultdict[str, list[Storm]] = defaultdict(list)
    async with Processes.running() as processes:
        peers = await start_peers(processes)
        subjects: list[Server] = [await Bare.start(processes), Ours(processes), *peers.subjects]
        rounds = Rounds(processes)
        await rounds.open()
        try:
            for number in range(args.rounds):
                for subject in subjects if number % 2 == 0 else reversed(subjects):
                    storm = await _storm(processes, rounds, subject, args.streams)
                    storms[subject.name].append(storm)
                    all_ms = max(storm.greeted, default=float("nan"))
                    failed = f", {len(storm.failures)} failed: {storm.failures[0]}" if storm.failures else ""
                    print(f"round {number + 1}: {subject.name} {all_ms:.0f} ms{failed}", flush=True)
        finally:
            rounds.close()
        notes = [*peers.notes, *processes.faults, *processes.guest_faults]
    return _findings(args, {subject.name: storms[subject.name] for subject in subjects}, notes, machine)


async def _storm(processes: Processes, rounds: Rounds, subject: Server, streams: int) -> Storm:
    audience = Audience.each_its_own(streams)
    greeted: list[float] = []
    failures: list[str] = []
    assert subject.server is not None
    await subject.open_pushes()
    await rounds.settled()
    requests, cpu = await rounds.gateway_requests(), processes.cpu_s()[subject.server]
    began = time.perf_counter()

    async def one(number: int) -> None:
        try:
            await subject.join(number, audience, timeout_s=_PATIENCE_S)
        except (BrokenConnectionError, OSError) as error:
            failures.append(str(error))
        else:
            greeted.append((time.perf_counter() - began) * 1e3)

    await asyncio.gather(*(one(number) for number in range(streams)))
    storm = Storm(
        greeted,
        failures,
        await rounds.gateway_requests() - requests,
        processes.cpu_s()[subject.server] - cpu,
    )
    await subject.close()
    await rounds.settled()
    return storm


def _findings(
    args: argparse.Namespace,
    storms: Mapping[str, Sequence[Storm]],
    notes: Sequence[str],
    machine: Mapping[str, str],
) -> Findings:
    last = {name: [max(storm.greeted, default=float("nan")) for storm in of] for name, of in storms.items()}
    failed = {name: sum(len(storm.failures) for storm in of) for name, of in storms.items()}
    rows = [
        [
            name,
            spread(last[name], ".0f"),
            " / ".join(f"{median(percentile(storm.greeted, p) for storm in of):.0f}" for p in (50, 99)),
            str(failed[name]),
            f"{median(storm.requests for storm in of) / args.streams:.2f}",
            f"{median(storm.cpu_s for storm in of) / args.streams * 1e6:.0f}",
        ]
        for name, of in storms.items()
    ]
    streams = f"{args.streams:,} streams"
    how = (
        f"{streams} opened at the same moment, each by a user of its own with a mailbox of its own, {args.rounds} "
        "times each, in turns. Greeted: by the hello of ours, the `connected` of Upstash Realtime, the first comment "
        "of Nchan (which it sends before it has asked Redis), the first event of the bare stream (which asks nobody)."
    )
    return Findings(
        "storm",
        "A connect storm",
        how,
        machine,
        table(_HEAD, rows),
        [
            Line(f"storm, {streams}: all greeted, ms", {name: median(of) for name, of in last.items()}, 0),
            Line(f"storm, {streams}, {args.rounds} times: not greeted", failed, 0),
        ],
        [Panel("Storm: all greeted after, ms", {streams: {name: [median(of)] for name, of in last.items()}})],
        notes,
        {
            name: [
                {
                    "all_ms": round(max(storm.greeted, default=float("nan")), 1),
                    "failures": storm.failures[:5],
                    "requests": storm.requests,
                    "cpu_s": round(storm.cpu_s, 3),
                }
                for storm in of
            ]
            for name, of in storms.items()
        },
    )
