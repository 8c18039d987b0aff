"""Replay of 10,000 events: pages of /replay, and a stream from the earliest, beside raw reads and peers."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from statistics import median
from urllib.parse import quote

from bench.append import mailbox
from bench.filling import append, push
from bench.findings import Findings, Line, Panel
from bench.floor import Floor
from bench.machine import describe
from bench.nchan import Nchan
from bench.ours import Ours
from bench.peers import start_peers
from bench.processes import STAGE, Processes
from bench.raw_http import EventStream, Pool, request
from bench.realtime import Realtime
from bench.report import spread, table
from bench.rounds import RoundFailedError
from shared.keys import Keys
from shared.topic import gmail_topic

_PAGE = 500
_PATIENCE_S = 60.0
_MAILBOX = 0
_PAGES, _STREAM = "ours, pages", "ours, a stream"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("--events", type=int, default=10_000, metavar="N", help="events of the mailbox")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="replays of each kind (default 5)")
    parser.add_argument("--quick", action="store_true", help="few and short: to see that it works; writes no results")


class _Ways:
    """The ways to have all events of the mailbox. Each raises RoundFailedError unless it has them all."""

    def __init__(self, processes: Processes, ours: Ours, events: int) -> None:
        self._processes = processes
        self._ours = ours
        self._events = events

    async def pages(self) -> None:
        """Read page after page of the replay function."""
        port = self._processes.ports.replay
        topic = quote(gmail_topic(mailbox(_MAILBOX)), safe="")
        headers = {"Authorization": f"Bearer {self._ours.token(0, _MAILBOX)}"}

        async def page(pool: Pool, after: str) -> tuple[int, str | None]:
            path = f"/replay?topic={topic}&after={after}&limit={_PAGE}"
            answer = json.loads(await _fetched(pool, request("GET", path, port, headers)))
            return len(answer["events"]), answer["cursor"] if answer["more"] else None

        await self._all_pages(port, "earliest", page)

    async def raw(self) -> None:
        """Read the log by XRANGE through the gateway."""
        port = self._processes.ports.gateway
        headers = {"Authorization": f"Bearer {self._processes.gateway_token}"}
        log = Keys(STAGE).log(gmail_topic(mailbox(_MAILBOX)))

        async def page(pool: Pool, after: str) -> tuple[int, str | None]:
            body = json.dumps(["XRANGE", log, after, "+", "COUNT", _PAGE]).encode()
            entries = json.loads(await _fetched(pool, request("POST", "/", port, headers, body)))["result"]
            return len(entries), f"({entries[-1][0]}" if len(entries) == _PAGE else None

        await self._all_pages(port, "-", page)

    async def stream(self, port: int, data: bytes, mark: bytes) -> None:
        """Open a stream and read until as many frames with ``mark`` have come."""
        had = 0
        done = asyncio.Event()

        def take(_stream: EventStream, frame: bytes) -> None:
            nonlocal had
            had += mark in frame
            if had == self._events:
                done.set()

        loop = asyncio.get_running_loop()
        _, stream = await loop.create_connection(lambda: EventStream(data, take), "127.0.0.1", port)
        try:
            await asyncio.wait_for(done.wait(), _PATIENCE_S)
        except TimeoutError:
            why = stream.ended or f"{_PATIENCE_S:g} s were over"
            raise RoundFailedError(f"{had} of {self._events} events were replayed: {why}") from None
        finally:
            stream.close()

    async def _all_pages(
        self, port: int, after: str | None, page: Callable[[Pool, str], Awaitable[tuple[int, str | None]]]
    ) -> None:
        broken: list[str] = []
        pool = Pool(broken.append)
        await pool.open(port, 1)
        had = 0
        try:
            while after is not None:
                events, after = await page(pool, after)
                had += events
        finally:
            pool.close()
        if had != self._events or broken:
            raise RoundFailedError(f"{had} of {self._events} events were replayed; {broken}")


async def _fetched(pool: Pool, data: bytes) -> bytes:
    status, body = await pool.fetch(data)
    if status != 200:
        raise RoundFailedError(f"a page was answered with {status} {body[:200]!r}")
    return body


async def run(args: argparse.Namespace) -> None:
    """Measure, print and write. Raises RoundFailedError."""
    (await measure(args)).publish(keep=not args.quick)


async def measure(args: argparse.Namespace) -> Findings:
    """Measure. Raises RoundFailedError."""
    if args.quick:
        args.events, args.rounds = 1200, 1
    machine = describe()
    took: defaultdict[str, list[float]] = defaultdict(list)
    async with Processes.running({"TIDEMARK_TOPIC_MAX_EVENTS": str(2 * args.events)}) as processes:
        await processes.start_replay()
        peers = await start_peers(processes, kept=2 * args.events)
        notes = list(peers.notes)
        ours = Ours(processes)
        ways = _Ways(processes, ours, args.events)
        ours_port = processes.ports.stream
        subjects: dict[str, Callable[[], Awaitable[None]]] = {
            Floor.name: ways.raw,
            _PAGES: ways.pages,
            _STREAM: lambda: ways.stream(ours_port, ours.stream_request(0, _MAILBOX, "earliest"), b'"specversion"'),
        }
        await append(processes, _MAILBOX, args.events, kept=2 * args.events)
        for peer in peers.subjects:
            await peer.open_pushes()
            await push(peer, _MAILBOX, args.events)
            subjects[peer.name] = _whole_log(ways, peer)
        for number in range(args.rounds):
            for name, way in list(subjects.items()):
                began = time.perf_counter()
                try:
                    await way()
                except RoundFailedError as error:
                    if name not in (Realtime.name, Nchan.name):
                        raise
                    notes.append(f"{name}: {error}.")
                    del subjects[name]
                    continue
                took[name].append((time.perf_counter() - began) * 1e3)
                print(f"round {number + 1}: {name} {took[name][-1]:.0f} ms", flush=True)
        for peer in peers.subjects:
            await peer.close()
        notes += [*processes.faults, *processes.guest_faults]
    return _findings(args, took, notes, machine)


def _whole_log(ways: _Ways, peer: Realtime | Nchan) -> Callable[[], Awaitable[None]]:
    """Return how a peer gives all that it holds: to a stream that had nothing yet."""
    port = peer.stream_port
    if isinstance(peer, Realtime):
        return lambda: ways.stream(port, peer.stream_request(0, _MAILBOX, last_ack="0"), b'"event":')
    return lambda: ways.stream(port, peer.stream_request(0, _MAILBOX), b"data: ")


def _findings(
    args: argparse.Namespace, took: Mapping[str, Sequence[float]], notes: Sequence[str], machine: Mapping[str, str]
) -> Findings:
    events = f"{args.events:,} events"
    rows = [[name, spread(times, ".0f"), f"{args.events / median(times) * 1e3:,.0f}"] for name, times in took.items()]
    how = (
        f"{events} in one mailbox, {args.rounds} times each, in turns: pages of {_PAGE} one after the other (floor: "
        "XRANGE by raw sockets on the gateway; ours: the replay function), and a stream that begins before the first "
        "of them (ours: from=earliest; Upstash Realtime: its last_ack, for which it reads all at once; Nchan: its "
        "oldest). From the request to the last event, none missing."
    )
    values = {name: median(times) for name, times in took.items()}
    peers = {name: values[name] for name in (Realtime.name, Nchan.name) if name in values}
    lines = [
        Line(
            f"replay of {events}, pages of {_PAGE}, ms",
            {Floor.name: values[Floor.name], Ours.name: values[_PAGES]},
            0,
        ),
        Line(f"replay of {events}, a stream, ms", {Ours.name: values[_STREAM], **peers}, 0),
    ]
    panel = Panel(
        f"Replay of {events}, ms",
        {
            "pages": {name: [ms] for name, ms in lines[0].values.items()},
            "a stream": {n: [v] for n, v in lines[1].values.items()},
        },
    )
    text = table(("way", "ms", "events/s"), rows)
    return Findings("replay", f"Replay of {events}", how, machine, text, lines, [panel], notes, dict(took))
