"""Pairs of rounds: paced pushes to subjects that take turns, and everything that is measured meanwhile."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import math
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from bench.append import Appends
from bench.ledger import Ledger
from bench.processes import Processes
from bench.raw_http import Pool, request
from bench.report import PERCENTS, percentile
from bench.subject import Audience, Subject

#: Both subjects take turns of this length, so that whatever else the machine does meets them alike.
TURN_S = 1.0
#: Turns that are only to show that all works.
QUICK_TURN_S = 0.3
#: How long the last events may take before they count as lost; then how long doubles are waited for.
PATIENCE_S = 5.0
_AFTERMATH_S = 0.05
_SETTLE_S = 0.5
_LONGEST_SETTLE_S = 30.0
#: Now and then somebody asks something: that is no unrest.
_IDLE_REQUESTS = 2
_PROBES_PER_S = 10


class RoundFailedError(Exception):
    """An event was lost or doubled, or something answered with an error: the numbers mean nothing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a pair of rounds goes: for each ``turns`` turns of ``turn_s``, ``rate`` pushes a second on average.

    Arrivals are those of a Poisson process, or with ``grid`` evenly spaced with a jitter of half a step. Push
    times and mailboxes follow from ``seed`` and the number of the turn, and are the same for all subjects.
    """

    audience: Audience
    rate: float
    turns: int
    seed: int
    grid: bool = False
    turn_s: float = TURN_S

    def schedule(self, turn: int) -> tuple[list[float], list[int]]:
        """Return when each push of a turn is due, in seconds from its beginning, and for which mailbox it is."""
        dice = random.Random(f"{self.seed} {turn}")
        if self.grid:
            count = int(self.turn_s * self.rate)
            due = [(number + 0.5 * dice.random()) / self.rate for number in range(count)]
        else:
            due = list(itertools.takewhile(lambda at: at < self.turn_s, _poisson(self.rate, dice)))
        return due, [dice.randrange(self.audience.mailboxes) for _ in due]


@dataclass(slots=True)
class Round:
    """What the turns of a subject in one pair have shown. Times are in ms, CPU in seconds."""

    subject: str
    #: The process that holds the streams, if there is one.
    server: str | None = None
    pushes: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    #: From a push to the answer to it.
    answers: list[float] = field(default_factory=list)
    #: An append by itself, over a connection of its own, a few times a second.
    evals: list[float] = field(default_factory=list)
    cpu_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    #: Requests to the gateway, those of the measurement itself left out.
    requests: int = 0
    #: How late pushes left the load generator against their schedule.
    send_lag: list[float] = field(default_factory=list)
    #: How late timers of the load generator's event loop fire.
    loop_lag: list[float] = field(default_factory=list)
    #: What a subject that is not ours has lost, doubled, and done besides.
    lost: int = 0
    doubled: int = 0
    faults: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Tell it in one line."""
        three = "/".join(f"{percentile(self.latencies, percent):.2f}" for percent in PERCENTS)
        cpu = f", {self.cpu_per_delivery_us:.0f} us CPU a delivery" if self.server else ""
        lost = f", {self.lost} lost, {self.doubled} doubled, {self.faults[:1]}" if self.lost or self.faults else ""
        return (
            f"{self.subject}: {three} ms{cpu}{lost} (EVAL alone {percentile(self.evals, 50):.2f} ms, "
            f"{self.requests / self.pushes:.3f} requests a push; sent {percentile(self.send_lag, 99):.2f} ms late, "
            f"the load's timers {percentile(self.loop_lag, 99):.2f} ms late)"
        )

    @property
    def cpu_per_delivery_us(self) -> float:
        """Return the CPU that the process with the streams has used for each delivery."""
        return self.cpu_s[self.server] / len(self.latencies) * 1e6 if self.server and self.latencies else math.nan


class Rounds:
    """Runs rounds against one set of processes."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        port, token = processes.ports.gateway, processes.gateway_token
        self._broken: list[str] = []
        self._pool = Pool(self._broken.append)
        self._appends = Appends("probe", port, token)
        self._stats = request("GET", "/_gateway/stats", port, {"Authorization": f"Bearer {token}"})

    async def open(self) -> None:
        """Open the connections that the measurement itself needs."""
        await self._pool.open(self._processes.ports.gateway, 2)
        await self._appends.settle(self._pool)

    def close(self) -> None:
        """Close them."""
        self._pool.close()

    async def gateway_requests(self) -> int:
        """Return how many requests for commands the gateway has had (opening a feed is not one)."""
        status, body = await self._pool.fetch(self._stats)
        assert status == 200, body
        requests = json.loads(body)["requests"]
        return sum(int(requests[kind]) for kind in ("command", "pipeline", "multi_exec"))

    async def settled(self) -> None:
        """Return when the gateway has nothing more to do: streams that close give back what they held."""
        for _ in range(int(_LONGEST_SETTLE_S / _SETTLE_S)):
            before = await self.gateway_requests()
            await asyncio.sleep(_SETTLE_S)
            if await self.gateway_requests() - before <= _IDLE_REQUESTS:
                return

    async def pair(self, subjects: Sequence[Subject], plan: Plan) -> list[Round]:
        """Measure subjects in turns. Raises RoundFailedError and BrokenConnectionError."""
        rounds = [Round(subject.name, subject.server) for subject in subjects]
        try:
            for subject in subjects:
                await subject.open(plan.audience)
            await self.settled()
            # A collection would stop this process for longer than an event takes.
            gc.collect()
            gc.freeze()
            gc.disable()
            for subject in subjects:  # to warm up: checked like any other turn, and not counted
                await self.turn(subject, plan, -1, Round(subject.name))
            for turn in range(plan.turns):
                both = list(zip(subjects, rounds, strict=True))
                # Who goes first alternates.
                for subject, seen in both if turn % 2 == 0 else reversed(both):
                    await self.turn(subject, plan, turn, seen)
        finally:
            gc.enable()
            gc.unfreeze()
            for subject in subjects:
                await subject.close()
        # What closing the streams costs belongs to no round.
        await self.settled()
        return rounds

    async def turn(self, subject: Subject, plan: Plan, turn: int, seen: Round) -> None:
        """Measure one turn, and add it to what was seen. Raises RoundFailedError."""
        due, mailboxes = plan.schedule(turn)
        audience = plan.audience
        ledger = Ledger(time.time_ns(), mailboxes, follows=audience.mailbox, followers=audience.followers)
        data = [subject.request(mailbox, ledger.first_id + n) for n, mailbox in enumerate(mailboxes)]
        most_probes = int(_PROBES_PER_S * (plan.turn_s + PATIENCE_S)) + 1
        probes = [self._appends.request(0, ledger.first_id + n) for n in range(most_probes)]
        subject.listen(ledger)
        await asyncio.sleep(_AFTERMATH_S)
        requests_before, cpu_before = await self.gateway_requests(), self._processes.cpu_s()
        probed, began = len(seen.loop_lag), time.perf_counter()
        probing = asyncio.ensure_future(self._probe(probes, seen))
        try:
            await _pace(subject, ledger, due, data, seen.send_lag)
            try:
                await asyncio.wait_for(ledger.complete.wait(), PATIENCE_S)
            except TimeoutError:
                ledger.fault(f"not everything came within {PATIENCE_S:g} s")
            seen.seconds += time.perf_counter() - began
        finally:
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)
        cpu, requests_after = self._processes.cpu_s(), await self.gateway_requests()
        await asyncio.sleep(_AFTERMATH_S)
        self._check(subject, ledger, seen)
        seen.pushes += len(due)
        seen.latencies += ledger.latencies_ms()
        seen.answers += ledger.answers_ms()
        seen.requests += requests_after - requests_before - (len(seen.loop_lag) - probed)
        for name, used_s in cpu.items():
            seen.cpu_s[name] += used_s - cpu_before[name]

    async def _probe(self, data: list[bytes], seen: Round) -> None:
        """Time an append by itself, now and then: what the gateway and Redis alone cost at this moment."""
        step_s = 1 / _PROBES_PER_S
        for append in data:
            before = time.perf_counter()
            await asyncio.sleep(step_s)
            began = time.perf_counter()
            seen.loop_lag.append((began - before - step_s) * 1e3)
            status, body = await asyncio.shield(asyncio.ensure_future(self._pool.fetch(append)))
            assert status == 200, body
            seen.evals.append((time.perf_counter() - began) * 1e3)

    def _check(self, subject: Subject, ledger: Ledger, seen: Round) -> None:
        faults = [*ledger.faults, *subject.ended(), *self._broken, *self._processes.faults]
        if not (ledger.lost or ledger.unanswered or ledger.doubled or faults):
            return
        if subject.strict or self._broken or self._processes.faults:
            counted = f"{ledger.lost} lost, {ledger.doubled} doubled, {ledger.unanswered} unanswered"
            raise RoundFailedError(f"{subject.name}: {counted} of {len(ledger.sent)}; {'; '.join(faults[:3])}")
        seen.lost += ledger.lost
        seen.doubled += ledger.doubled
        seen.faults += faults


async def _pace(subject: Subject, ledger: Ledger, due: list[float], data: list[bytes], send_lag: list[float]) -> None:
    """Send each push when it is due, whatever became of the others. Notes how late each one was, ms."""

    def answered(number: int, status: int, body: bytes) -> None:
        ledger.answer(number, subject.fault(status, body))

    began = time.perf_counter()
    for number, at in enumerate(due):
        wait_s = began + at - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        done = partial(answered, number)
        now = time.perf_counter_ns()
        ledger.sent[number] = now
        subject.send(data[number], done)
        send_lag.append((now / 1e9 - began - at) * 1e3)


def _poisson(rate: float, dice: random.Random) -> Iterator[float]:
    at = 0.0
    while True:
        at += dice.expovariate(rate)
        yield at
