"""A client that reads nothing while its mailbox gets 10,000 events: memory, and what the other 999 notice of it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import httpx

from bench.bare import Bare
from bench.filling import append, push
from bench.findings import Findings, Line, Panel
from bench.machine import describe
from bench.ours import Ours
from bench.peers import start_peers
from bench.processes import Processes
from bench.raw_http import BrokenConnectionError
from bench.report import PERCENTS, percentile, percentiles, spread, table, yes
from bench.rounds import Plan, Round, RoundFailedError, Rounds
from bench.slow_client import SlowClient
from bench.subject import Audience, Server
from functions.stream.buffer import MOST_BYTES, MOST_EVENTS

MOST_MIB = 5.0
MOST_RATIO = 1.5
MOST_DIFFERENCE_MS = 10.0
_SAMPLE_S = 0.25
_KIB = 1024
_HEAD = (
    "pair",
    "without: p50 / p95 / p99, ms",
    "with it: p50 / p95 / p99, ms",
    "ratio of p99",
    "memory, MiB",
    "it got",
)
_PEERS_HEAD = ("subject", "memory grew by, MiB", "it got")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("--streams", type=int, default=999, metavar="N", help="other streams (default 999)")
    parser.add_argument("--rate", type=float, default=200.0, metavar="PER_S", help="their pushes a second")
    parser.add_argument("--events", type=int, default=10_000, metavar="N", help="events that it does not read")
    parser.add_argument(
        "--seconds", type=int, default=10, metavar="S", help="turns of 1 s of each round (default 10)"
    )
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="pairs of rounds (default 5)")
    parser.add_argument("--quick", action="store_true", help="few and short: to see that it works; writes no results")


@dataclass(frozen=True, slots=True)
class Seen:
    """One round: the other streams, how much memory the process took at most, and what the slow client got."""

    others: Round
    grown_mib: float
    got: str = ""


async def run(args: argparse.Namespace) -> None:
    """Measure, print and write. Raises RoundFailedError and BrokenConnectionError."""
    (await measure(args)).publish(keep=not args.quick)


async def measure(args: argparse.Namespace) -> Findings:
    """Measure. Raises RoundFailedError and BrokenConnectionError."""
    if args.quick:
        args.streams, args.events, args.seconds, args.pairs = 20, 500, 1, 1
    machine = describe()
    pairs: list[tuple[Seen, Seen]] = []
    async with Processes.running() as processes:
        ours, rounds = Ours(processes), Rounds(processes)
        await rounds.open()
        trial = _Trial(processes, ours, rounds, args)
        try:
            await ours.open(Audience.each_its_own(args.streams))
            await rounds.settled()
            # To warm up, but not with what is measured: what a first slow client takes may never be given back.
            await trial.round(0, slow=False)
            for number in range(args.pairs):
                order = (False, True) if number % 2 == 0 else (True, False)
                seen = {slow: await trial.round(number, slow=slow) for slow in order}
                pairs.append((seen[False], seen[True]))
                print(" | ".join(_cells(number + 1, *pairs[-1])), flush=True)
            high_water = await buffer_high_water(processes)
        finally:
            await ours.close()
            rounds.close()
        others, notes = await _others(processes, args)
    return _findings(args, pairs, others, high_water, notes, machine)


async def buffer_high_water(processes: Processes) -> Mapping[str, int]:
    """Return the most that a buffer of a stream has held, as the process tells it."""
    async with httpx.AsyncClient(trust_env=False) as http:
        told = (await http.get(f"http://127.0.0.1:{processes.ports.stream}/healthz", timeout=10)).json()["streams"]
    return {name: told[name] for name in (MOST_EVENTS, MOST_BYTES)}


class _Trial:
    """Rounds with and without a slow client, while the other streams are open and the same is pushed to all."""

    def __init__(self, processes: Processes, ours: Ours, rounds: Rounds, args: argparse.Namespace) -> None:
        self._processes = processes
        self._ours = ours
        self._rounds = rounds
        self._args = args

    async def round(self, seed: int, *, slow: bool) -> Seen:
        """Run one. Without the client its mailbox gets the same events, and nobody follows it."""
        args = self._args
        mailbox = args.streams
        client = SlowClient(_is_event, lambda frame: b"tidemark.hello" in frame)
        seen = Round(Ours.name, Ours.server)
        plan = Plan(Audience.each_its_own(args.streams), args.rate, args.seconds, seed)
        try:
            if slow:
                data = self._ours.stream_request(mailbox, mailbox)
                await client.open(self._ours.stream_port, data)
            async with _watched(self._processes, "stream") as grown:
                filling = asyncio.ensure_future(append(self._processes, mailbox, args.events, over_s=args.seconds))
                try:
                    for turn in range(args.seconds):
                        await self._rounds.turn(self._ours, plan, turn, seen)
                    await filling
                finally:
                    filling.cancel()
            got = await client.resume(args.events) if slow else ""
        finally:
            client.close()
        if slow and "every event" not in got and "gap" not in got and "slow_consumer" not in got:
            raise RoundFailedError(f"the slow client got {got}; it was told {client.told[-3:]}")
        await self._rounds.settled()
        return Seen(seen, max(grown) / _KIB, got)


@contextlib.asynccontextmanager
async def _watched(processes: Processes, name: str) -> AsyncIterator[list[int]]:
    """Note how much more memory a process has than at the beginning, KiB, now and then and at the end."""
    before = processes.pss_kib(name)
    grown: list[int] = []

    async def watch() -> None:
        while True:
            await asyncio.sleep(_SAMPLE_S)
            grown.append(processes.pss_kib(name) - before)

    watching = asyncio.ensure_future(watch())
    try:
        yield grown
    finally:
        watching.cancel()
        grown.append(processes.pss_kib(name) - before)


async def _others(processes: Processes, args: argparse.Namespace) -> tuple[dict[str, tuple[float, str]], list[str]]:
    """Return what the same does to the memory of others, with nobody else connected, and what their client got."""
    peers = await start_peers(processes)
    notes = list(peers.notes)
    measured: dict[str, tuple[float, str]] = {}
    subjects: list[Server] = [await Bare.start(processes), *peers.subjects]
    for subject in subjects:
        assert subject.server is not None
        greeting = _GREETINGS[subject.name]
        client = SlowClient(lambda frame: b"data: " in frame and b'"id":"' in frame, greeting)
        await subject.open(Audience.each_its_own(1))  # one that reads, so that nothing is new
        try:
            await push(subject, 0, 100)
            await client.open(subject.stream_port, subject.stream_request(1, 1))
            async with _watched(processes, subject.server) as grown:
                await push(subject, 1, args.events)
            measured[subject.name] = max(grown) / _KIB, await client.resume(args.events)
            print(f"{subject.name}: {measured[subject.name]}", flush=True)
        except (RoundFailedError, BrokenConnectionError) as error:
            notes.append(f"{subject.name}: {error}.")
        finally:
            client.close()
            await subject.close()
    return measured, notes


_GREETINGS: dict[str, Callable[[bytes], bool]] = {
    "bare Starlette": lambda frame: frame.startswith(b"event: hello"),
    "Upstash Realtime": lambda frame: b'"type":"connected"' in frame,
    "Nchan": lambda frame: frame.startswith(b":"),
}


def _is_event(frame: bytes) -> bool:
    return b"data: " in frame and b"event: " not in frame


def _cells(number: int, without: Seen, beside: Seen) -> list[str]:
    return [
        str(number),
        _three(without.others),
        _three(beside.others),
        f"{_p99(beside) / _p99(without):.2f}",
        f"{without.grown_mib:+.1f} / {beside.grown_mib:+.1f}",
        beside.got,
    ]


def _three(of: Round) -> str:
    return " / ".join(f"{percentile(of.latencies, percent):.2f}" for percent in PERCENTS)


def _p99(seen: Seen) -> float:
    return percentile(seen.others.latencies, 99)


def _findings(
    args: argparse.Namespace,
    pairs: Sequence[tuple[Seen, Seen]],
    others: Mapping[str, tuple[float, str]],
    high_water: Mapping[str, int],
    notes: Sequence[str],
    machine: Mapping[str, str],
) -> Findings:
    ratios = [_p99(beside) / _p99(without) for without, beside in pairs]
    differences = [_p99(beside) - _p99(without) for without, beside in pairs]
    quiet = median(ratios) <= MOST_RATIO or median(differences) <= MOST_DIFFERENCE_MS
    grown = max(beside.grown_mib for _, beside in pairs)
    small = grown <= MOST_MIB
    p99 = f"median p99 ratio at most {MOST_RATIO:g} ({spread(ratios, '.2f')}) or {MOST_DIFFERENCE_MS:g} ms more "
    p99 += f"({spread(differences, '+.2f')})"
    memory = f"at most {MOST_MIB:g} MiB in any round"
    buffered = f"{high_water[MOST_EVENTS]} events, {high_water[MOST_BYTES]} bytes"
    how = (
        f"{args.streams:,} streams with a mailbox each and {args.rate:g} pushes a second, {args.pairs} alternating "
        f"pairs of {args.seconds} s. In all rounds one mailbox more gets {args.events:,} events meanwhile; in every "
        "other one a client follows it that reads nothing (its receive buffer is 4 KiB, "
        "but the kernel takes some 3 MB on the server's side), and reads on at the end of the round. "
        "Memory: the most that the process's proportional set size grew by in the round, without / with it. Others: "
        "one such client alone, events as fast as they are taken."
    )
    text = [
        *table(_HEAD, [_cells(number, *pair) for number, pair in enumerate(pairs, 1)]),
        "",
        f"The others: {p99}; met: {yes(quiet)}. Memory: {memory}, the most was {grown:.1f}; met: {yes(small)}.",
        f"The most that its buffer held: {buffered}.",
        "",
        *table(_PEERS_HEAD, [[name, f"{mib:+.1f}", got] for name, (mib, got) in others.items()]),
    ]
    growth = {Ours.name: grown, **{name: mib for name, (mib, _) in others.items()}}
    what = f"a client that reads none of {args.events:,} events"
    lines = [
        Line(f"{what}: memory, MiB", growth, 1, memory, small),
        Line(f"{what}: p99 of the others, with / without", {Ours.name: median(ratios)}, 2, p99, quiet),
    ]
    panel = Panel(f"Memory for {what}, MiB", {f"{args.events:,} events": {n: [v] for n, v in growth.items()}})
    numbers = {
        "pairs": [
            {
                kind: {
                    "latency_ms": percentiles(seen.others.latencies),
                    "grown_mib": round(seen.grown_mib, 2),
                    "got": seen.got,
                }
                for kind, seen in zip(("without", "with"), pair, strict=True)
            }
            for pair in pairs
        ],
        "others": {name: {"grown_mib": round(mib, 2), "got": got} for name, (mib, got) in others.items()},
        "buffer_high_water": high_water,
    }
    return Findings("slow", "A client that reads nothing", how, machine, text, lines, [panel], notes, numbers)
