"""What a push, a delivered event and an hour of a stream cost at Redis: requests, and commands as they are billed."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.commands import Count, counted
from bench.findings import Findings, Line, Panel
from bench.machine import describe
from bench.nchan import Nchan
from bench.ours import Ours
from bench.peers import PEERS, absent
from bench.processes import Processes
from bench.realtime import Realtime
from bench.report import table, yes
from bench.rounds import RoundFailedError
from bench.subject import Audience, Server
from shared.settings import Function, Settings

MOST_FEEDS = 50
_USERS, _STREAMS_EACH = 1000, 3
_HOUR_S = 3600.0
#: Realtime's own default, less the 2 s that it keeps in hand.
_REALTIME_LIFE_S = 298.0
_HEAD = (
    "subject",
    "a push",
    "a delivered event",
    "opening and closing a stream",
    "an idle process with {streams} streams, an hour",
    "a stream-hour",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("--streams", type=int, default=1000, metavar="N", help="idle streams (default 1000)")
    parser.add_argument("--pushes", type=int, default=500, metavar="N", help="pushes that are counted (default 500)")
    parser.add_argument("--idle", type=float, default=60.0, metavar="S", help="seconds of idleness (default 60)")
    parser.add_argument("--users", type=int, default=_USERS, metavar="N", help="users with three streams each")
    parser.add_argument(
        "--steady", type=float, default=22.0, metavar="S", help="seconds until an opening has no after-effects"
    )
    parser.add_argument("--settle", type=float, default=3.0, metavar="S", help="seconds until one counts (default 3)")
    parser.add_argument("--quick", action="store_true", help="few and short: to see that it works; writes no results")


@dataclass(frozen=True, slots=True)
class Cost:
    """What was counted of one subject."""

    push: Count
    delivery: Count
    opening: Count
    idle_hour: Count
    stream_hour: Count
    #: Upstream connections while the streams were open.
    feeds: int


async def run(args: argparse.Namespace) -> None:
    """Measure, print and write. Raises RoundFailedError. Only counts matter here, so all is done at the same time."""
    (await measure(args)).publish(keep=not args.quick)


async def measure(args: argparse.Namespace) -> Findings:
    """Measure. Raises RoundFailedError. Only counts matter here, so all is done at the same time."""
    if args.quick:
        args.streams, args.pushes, args.users = 20, 10, 10
        args.idle, args.steady, args.settle = 1.0, 0.3, 0.3
    machine = describe()
    kinds: list[Callable[[argparse.Namespace], Awaitable[tuple[str, Cost]]]] = [
        _ours,
        *(_peer(peer) for peer in PEERS if peer.missing() is None),
    ]
    crowd, costs = await asyncio.gather(_crowd(args), asyncio.gather(*(kind(args) for kind in kinds)))
    return _findings(args, dict(costs), crowd, absent(), machine)


async def _ours(args: argparse.Namespace) -> tuple[str, Cost]:
    async with Processes.running() as processes:
        # Streams end at 90-100 % of their longest life.
        life_s = 0.95 * Settings.of(processes.product, Function.STREAM).stream_max_s
        return Ours.name, await _cost(args, processes, Ours(processes), life_s)


def _peer(peer: type[Realtime | Nchan]) -> Callable[[argparse.Namespace], Awaitable[tuple[str, Cost]]]:
    async def measured(args: argparse.Namespace) -> tuple[str, Cost]:
        async with Processes.running() as processes:
            # Nchan's streams have no end.
            life_s = _REALTIME_LIFE_S if peer is Realtime else float("inf")
            return peer.name, await _cost(args, processes, await peer.start(processes), life_s)

    return measured


async def _cost(args: argparse.Namespace, processes: Processes, subject: Server, life_s: float) -> Cost:
    audience = Audience.each_its_own(args.streams)
    await subject.open_pushes()
    await _push(subject, args)  # to warm up
    begun = await counted(processes)
    await _push(subject, args)
    push = (await counted(processes) - begun).per(args.pushes)
    await subject.close()

    await asyncio.sleep(args.settle)
    begun = await counted(processes)
    await subject.open(audience)
    # The first reconcile after it belongs to the opening.
    await asyncio.sleep(args.steady)
    opened = await counted(processes) - begun
    feeds = (await processes.gateway_stats())["connections"]["open_subscriptions"]

    begun = await counted(processes)
    began = time.perf_counter()
    await asyncio.sleep(args.idle)
    idle_hour = (await counted(processes) - begun).times(_HOUR_S / (time.perf_counter() - began))

    begun = await counted(processes)
    await _push(subject, args)
    delivery = (await counted(processes) - begun).per(args.pushes) - push

    begun = await counted(processes)
    if subject.ended():
        raise RoundFailedError(f"{subject.name}: {subject.ended()[0]}")
    await subject.close()
    await asyncio.sleep(args.settle)
    opening = (opened + (await counted(processes) - begun)).per(args.streams)
    stream_hour = idle_hour.per(args.streams) + opening.times(_HOUR_S / life_s)
    return Cost(push, delivery, opening, idle_hour, stream_hour, feeds)


async def _push(subject: Server, args: argparse.Namespace) -> None:
    """Push one after the other, to one mailbox after the other."""
    first_id = time.time_ns()
    for number in range(args.pushes):
        await subject.push(number % args.streams, first_id + number)


@dataclass(frozen=True, slots=True)
class Crowd:
    """Users with three streams each: upstream connections, and requests for events and for idleness."""

    feeds: int
    per_event: float
    idle: float
    idle_s: float
    reconcile_s: float

    @property
    def met(self) -> bool:
        """Whether the targets are met."""
        return self.feeds <= MOST_FEEDS and self.per_event < 0.005 and self.idle <= self.idle_s / self.reconcile_s + 1


async def _crowd(args: argparse.Namespace) -> Crowd:
    """Follow as many topics as there are users, each by three streams of its user."""
    async with Processes.running() as processes:
        subject = Ours(processes, users=args.users)
        await subject.open_pushes()
        await _push(subject, args)
        begun = await counted(processes)
        await _push(subject, args)
        per_push = (await counted(processes) - begun).requests / args.pushes
        await subject.close()
        await subject.open(Audience(_STREAMS_EACH * args.users, args.users))
        await asyncio.sleep(args.steady)
        begun = await counted(processes)
        await asyncio.sleep(args.idle)
        idle = (await counted(processes) - begun).requests
        begun = await counted(processes)
        await _push(subject, args)
        await asyncio.sleep(args.settle)
        requests = (await counted(processes) - begun).requests
        feeds = (await processes.gateway_stats())["connections"]["open_subscriptions"]
        ended = subject.ended()
        await subject.close()
        if ended:
            raise RoundFailedError(f"{len(ended)} streams of {_STREAMS_EACH} a user ended: {ended[0]}")
        reconcile_s = Settings.of(processes.product, Function.STREAM).reconcile_s
        # What comes up with a reconcile meanwhile is no event's.
        extra = max(0.0, requests - per_push * args.pushes - 1)
        return Crowd(feeds, extra / (_STREAMS_EACH * args.pushes), idle, args.idle, reconcile_s)


def _findings(
    args: argparse.Namespace,
    costs: Mapping[str, Cost],
    crowd: Crowd,
    notes: Sequence[str],
    machine: Mapping[str, str],
) -> Findings:
    rows = [
        [name, *(_two(name, of) for of in (c.push, c.delivery, c.opening, c.idle_hour, c.stream_hour))]
        for name, c in costs.items()
    ]
    head = [cell.format(streams=f"{args.streams:,}") for cell in _HEAD]
    crowded = (
        f"{args.users:,} users with {_STREAMS_EACH} streams each, {args.users:,} topics: {crowd.feeds} upstream "
        f"connections (at most {MOST_FEEDS}), {crowd.per_event:.3f} requests a delivered event (0), {crowd.idle:.0f} "
        f"requests in {crowd.idle_s:g} s of idleness (one in {crowd.reconcile_s:g} s); met: {yes(crowd.met)}."
    )
    how = (
        "Requests to the gateway / commands that Redis has run. A script is one command and each call inside it is "
        f"one more, as Upstash bills it. {args.pushes:,} pushes, first while nobody listens, then with "
        f"{args.streams:,} streams, whose events cost what comes on top; {args.idle:g} s of idleness, as an hour. A "
        "stream-hour is its share of that, and opening and closing as often as a stream ends in "
        "an hour (ours after 798 s on average, Upstash Realtime after 298 s, Nchan never). Nchan speaks to Redis "
        "itself, in commands."
    )
    commands = {name: cost.push.commands for name, cost in costs.items()}
    hours = {name: cost.stream_hour.commands for name, cost in costs.items()}
    lines = [
        Line("a push: requests to Redis", {n: c.push.requests for n, c in costs.items() if n != Nchan.name}),
        Line("a push: commands billed", commands),
        Line("a delivered event: commands billed", {n: c.delivery.commands for n, c in costs.items()}),
        Line("a stream-hour: commands billed", hours),
        Line(
            f"{args.users:,} users x {_STREAMS_EACH} streams: upstream connections",
            {Ours.name: crowd.feeds},
            0,
            f"at most {MOST_FEEDS}, an event costs 0 requests, an idle process one a reconcile",
            crowd.met,
        ),
    ]
    panels = [
        Panel(
            "Commands billed",
            {
                "a push": {name: [value] for name, value in commands.items()},
                "a stream-hour": {name: [value] for name, value in hours.items()},
            },
        )
    ]
    numbers = {name: _numbers(cost) for name, cost in costs.items()}
    text = [*table(head, rows), "", crowded]
    return Findings("cost", "What it costs at Redis", how, machine, text, lines, panels, notes, numbers)


def _two(name: str, of: Count) -> str:
    return f"{of.commands:.2f}" if name == Nchan.name else f"{of.requests:.2f} / {of.commands:.2f}"


def _numbers(cost: Cost) -> dict[str, object]:
    parts = {part: getattr(cost, part) for part in ("push", "delivery", "opening", "idle_hour", "stream_hour")}
    return {
        **{part: {"requests": of.requests, "feeds": of.feeds, "commands": of.commands} for part, of in parts.items()},
        "upstream_connections": cost.feeds,
    }
