"""Memory of an idle stream: what the process grows by, over 1,000 of them, beside a bare Starlette stream."""

from __future__ import annotations

import argparse
import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from statistics import median

from bench.bare import Bare
from bench.findings import Findings, Line, Panel
from bench.machine import describe
from bench.ours import Ours
from bench.peers import PEERS, absent
from bench.processes import Processes
from bench.raw_http import BrokenConnectionError
from bench.report import spread, table, yes
from bench.subject import Audience, Server, all_of

MOST_KIB = 40.0
_WARM_UP = 50
_HEAD = ("subject", "KiB a stream (PSS)", "process before, MiB", "upstream connections")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("--streams", type=int, default=1000, metavar="N", help="idle streams (default 1000)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="fresh processes of each (default 3)")
    parser.add_argument("--settle", type=float, default=2.0, metavar="S", help="seconds until one looks (default 2)")
    parser.add_argument("--quick", action="store_true", help="few and short: to see that it works; writes no results")


async def _ours(processes: Processes) -> Server:
    return Ours(processes)


_SUBJECTS: dict[str, Callable[[Processes], Awaitable[Server]]] = {
    Bare.name: Bare.start,
    Ours.name: _ours,
    **{peer.name: peer.start for peer in PEERS if peer.missing() is None},
}


async def run(args: argparse.Namespace) -> None:
    """Measure, print and write. Raises BrokenConnectionError."""
    (await measure(args)).publish(keep=not args.quick)


async def measure(args: argparse.Namespace) -> Findings:
    """Measure. Raises BrokenConnectionError."""
    if args.quick:
        args.streams, args.rounds, args.settle = 50, 1, 0.2
    machine, notes = describe(), absent()
    measured: defaultdict[str, list[tuple[float, float, int]]] = defaultdict(list)
    for number in range(args.rounds):
        for name, start in _SUBJECTS.items():
            async with Processes.running() as processes:
                subject = await start(processes)
                try:
                    measured[name].append(await _measure(processes, subject, args))
                except BrokenConnectionError as error:
                    if subject.strict:
                        raise
                    notes.append(f"{name}, round {number + 1}: {error}.")
                    continue
            print(f"round {number + 1}: {name} {measured[name][-1][0]:.1f} KiB a stream", flush=True)
    return _findings(args, measured, notes, machine)


async def _measure(processes: Processes, subject: Server, args: argparse.Namespace) -> tuple[float, float, int]:
    """Return KiB a stream, MiB before, and how many connections to the gateway's feeds there are."""
    assert subject.server is not None
    streams: int = args.streams
    # What the first streams bring with them (code that is loaded, caches) is no stream's.
    await subject.open(Audience.each_its_own(min(_WARM_UP, streams)))
    await asyncio.sleep(args.settle)
    before = processes.pss_kib(subject.server)
    fresh = Audience.each_its_own(_WARM_UP + streams)
    await all_of([subject.join(number, fresh) for number in range(_WARM_UP, _WARM_UP + streams)])
    await asyncio.sleep(args.settle)
    grown = processes.pss_kib(subject.server) - before
    feeds = (await processes.gateway_stats())["connections"]["open_subscriptions"]
    if subject.ended():
        raise BrokenConnectionError("; ".join(subject.ended()[:3]))
    await subject.close()
    return grown / streams, before / 1024, feeds


def _findings(
    args: argparse.Namespace,
    measured: Mapping[str, Sequence[tuple[float, float, int]]],
    notes: Sequence[str],
    machine: Mapping[str, str],
) -> Findings:
    per_stream = {name: [seen[0] for seen in rounds] for name, rounds in measured.items()}
    rows = [
        [
            name,
            spread(per_stream[name], ".1f"),
            f"{median(seen[1] for seen in rounds):.0f}",
            f"{median(seen[2] for seen in rounds):.0f}" if name != "Nchan" else "-",
        ]
        for name, rounds in measured.items()
    ]
    values = {name: median(of) for name, of in per_stream.items()}
    met = values[Ours.name] <= MOST_KIB
    what = f"memory of an idle stream, {args.streams:,} streams, KiB"
    target = f"at most {MOST_KIB:g} KiB"
    how = (
        f"Growth of the proportional set size (smaps_rollup, descendants included) of the process that holds the "
        f"streams, from {_WARM_UP} idle streams to {args.streams:,} more, each with a mailbox of its own; "
        f"{args.rounds} fresh processes of each kind."
    )
    return Findings(
        "memory",
        "Memory of an idle stream",
        how,
        machine,
        [*table(_HEAD, rows), "", f"Ours: {target}; met: {yes(met)}."],
        [Line(what, values, 1, target, met)],
        [Panel("Memory of an idle stream, KiB", {f"{args.streams:,} streams": {n: [v] for n, v in values.items()}})],
        notes,
        {name: [[round(value, 2) for value in seen] for seen in rounds] for name, rounds in measured.items()},
    )
