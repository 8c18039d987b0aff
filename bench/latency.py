"""Push-to-client latency, a mailbox a stream: ours and the floor in alternating pairs, and peers."""

from __future__ import annotations

import argparse
import time
from collections import defaultdict

from bench.findings import Findings
from bench.floor import Floor
from bench.latency_report import Measured, findings
from bench.machine import describe
from bench.ours import Ours
from bench.peers import start_peers
from bench.processes import Processes
from bench.raw_http import BrokenConnectionError
from bench.rounds import QUICK_TURN_S, TURN_S, Plan, Rounds
from bench.subject import Audience

_CALIBRATION_PUSHES = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "--streams", type=int, nargs="+", default=[1, 100, 500, 1000, 5000], metavar="N", help="numbers of streams"
    )
    parser.add_argument("--rate", type=float, default=200.0, metavar="PER_S", help="pushes a second (default 200)")
    parser.add_argument(
        "--seconds", type=int, default=5, metavar="S", help="turns of 1 s that each of a pair has (default 5)"
    )
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="pairs of rounds (default 5)")
    parser.add_argument(
        "--peer-streams", type=int, nargs="*", default=[1, 100, 1000], metavar="N", help="the same for peers"
    )
    parser.add_argument(
        "--peer-seconds", type=int, default=3, metavar="S", help="turns of a peer's round (default 3)"
    )
    parser.add_argument("--grid", action="store_true", help="evenly spaced pushes with jitter, instead of Poisson's")
    parser.add_argument("--quick", action="store_true", help="few and short: to see that it works; writes no results")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of push times and mailboxes")


async def run(args: argparse.Namespace) -> None:
    """Measure, print and write. Raises RoundFailedError and BrokenConnectionError."""
    (await measure(args)).publish(keep=not args.quick)


async def measure(args: argparse.Namespace) -> Findings:
    """Measure. Raises RoundFailedError and BrokenConnectionError."""
    if args.quick:
        args.streams, args.peer_streams, args.pairs = [20], [20], 1
        args.seconds = args.peer_seconds = 1
    machine, turn_s = describe(), QUICK_TURN_S if args.quick else TURN_S
    measured: Measured = defaultdict(lambda: defaultdict(list))
    async with Processes.running() as processes:
        floor, ours = Floor(processes), Ours(processes)
        peers = await start_peers(processes)
        notes = list(peers.notes)
        rounds = Rounds(processes)
        await rounds.open()
        try:
            per_push = await _requests_per_push(rounds, ours)
            # Every number of streams in each pass, so that what changes with time meets all of them alike.
            for number in range(args.pairs):
                for streams in args.streams:
                    audience = Audience.each_its_own(streams)
                    plan = Plan(audience, args.rate, args.seconds, args.seed + number, args.grid, turn_s)
                    for seen in await rounds.pair([floor, ours], plan):
                        measured[streams][seen.subject].append(seen)
                        print(f"pass {number + 1}, {streams:>5} streams: {seen.line()}", flush=True)
                for streams in args.peer_streams:
                    audience = Audience.each_its_own(streams)
                    plan = Plan(audience, args.rate, args.peer_seconds, args.seed + number, args.grid, turn_s)
                    for peer in peers.subjects:
                        try:
                            (seen,) = await rounds.pair([peer], plan)
                        except BrokenConnectionError as error:
                            notes.append(f"{peer.name}, {streams:,} streams, pass {number + 1}: {error}.")
                            continue
                        measured[streams][peer.name].append(seen)
                        print(f"pass {number + 1}, {streams:>5} streams: {seen.line()}", flush=True)
        finally:
            rounds.close()
    return findings(measured, per_push, notes, machine, _how(args))


def _how(args: argparse.Namespace) -> str:
    arrivals = "an even grid with jitter" if args.grid else "Poisson arrivals"
    return (
        f"{args.rate:g} pushes a second ({arrivals}), one mailbox a stream, {args.pairs} alternating pairs of ours "
        f"and the floor of {args.seconds} s each, in turns of {TURN_S:g} s; peers by themselves, {args.pairs} times "
        f"{args.peer_seconds} s in between, with the same push times. Floor: raw sockets that do the webhook's EVAL "
        "and the stream function's SUBSCRIBE (a channel or the pattern, whichever the product uses at that number of "
        "streams) on the same gateway and Redis. Upstash Realtime is on the same gateway, Nchan on the same Redis; "
        "each has a process for pushes and one for streams, as we have. Of ours and the floor no event was lost or "
        "doubled."
    )


async def _requests_per_push(rounds: Rounds, ours: Ours) -> float:
    """Count what a push costs while nobody listens: what it costs more in a round is the streams'."""
    await ours.open_pushes()
    try:
        first_id = time.time_ns()
        await ours.push(0, first_id)
        before = await rounds.gateway_requests()
        for number in range(1, _CALIBRATION_PUSHES + 1):
            await ours.push(0, first_id + number)
        return (await rounds.gateway_requests() - before) / _CALIBRATION_PUSHES
    finally:
        await ours.close()
