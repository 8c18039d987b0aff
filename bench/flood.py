"""What a flood of requests that do not verify does to genuine pushes, in alternating pairs with and without it."""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

from bench.append import push_json
from bench.key_server import key_server
from bench.machine import describe
from bench.processes import Processes
from bench.raw_http import Pool, request
from bench.report import PERCENTS, percentile, spread, table
from bench.rounds import RoundFailedError
from bench.subject import PUSH_CONNECTIONS
from infra.local.push_signer import AUDIENCE, SERVICE_ACCOUNT, PushSigner, new_key

RESULTS = Path(__file__).parent / "results"
MOST_RATIO = 1.5
MOST_DIFFERENCE_MS = 10.0
#: How many requests that do not verify an address may send in a minute, by default.
_LIMIT = 100
_PATIENCE_S = 10.0
_POLL_S = 0.01
_HEAD = (
    "pair",
    "without: p50 / p95 / p99, ms",
    "flooded: p50 / p95 / p99, ms",
    "ratio of p95",
    "the flood's answers",
)

#: Gets the moment when its request was sent, and the status and body of the answer.
_Answered = Callable[[float, int, bytes], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("--rate", type=float, default=100.0, metavar="PER_S", help="genuine pushes a second")
    parser.add_argument("--flood", type=int, default=2_000, metavar="N", help="requests of the flood in a minute")
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="pairs of rounds (default 5)")
    parser.add_argument("--seconds", type=float, default=12.0, metavar="S", help="length of a round (default 12)")
    parser.add_argument("--quick", action="store_true", help="2 pairs of 3 s; writes no results")


@dataclass(slots=True)
class Round:
    """What one round has shown: the time to each answer in ms, and how many answers of each status the flood had."""

    answers: list[float] = field(default_factory=list)
    flood: Counter[int] = field(default_factory=Counter)
    unanswered: int = 0
    faults: list[str] = field(default_factory=list)

    def percent(self, percent: float) -> float:
        """Return a percentile of the times to an answer."""
        return percentile(self.answers, percent)


async def run(args: argparse.Namespace) -> None:
    """Measure, print and write. Raises RoundFailedError."""
    if args.quick:
        args.pairs, args.seconds = 2, 3.0
    machine = describe()
    signer = PushSigner(new_key())
    pairs: list[tuple[Round, Round]] = []
    with key_server(signer) as url:
        settings = {
            "TIDEMARK_PUSH_AUTH": "on",
            "TIDEMARK_PUSH_AUDIENCE": AUDIENCE,
            "TIDEMARK_PUSH_SERVICE_ACCOUNT": SERVICE_ACCOUNT,
            "TIDEMARK_PUSH_JWKS_URL": url,
            "TIDEMARK_PUSH_LIMIT": str(_LIMIT),
        }
        async with Processes.running(settings) as processes:
            attack = _Attack(processes, signer, args.rate, args.seconds, args.flood / 60)
            await attack.round(flooded=False)  # to warm up
            for number in range(args.pairs):
                order = (False, True) if number % 2 == 0 else (True, False)
                rounds = {flooded: await attack.round(flooded=flooded) for flooded in order}
                pairs.append((rounds[False], rounds[True]))
                print(_line(number + 1, *pairs[-1]), flush=True)
    text = _markdown(args, pairs, machine)
    print(f"\n{text}")
    if not args.quick:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "flood.md").write_text(text, encoding="utf-8")


class _Attack:
    """Sends rounds of genuine pushes from the address that the flood comes from."""

    def __init__(
        self, processes: Processes, signer: PushSigner, rate: float, seconds: float, flood_rate: float
    ) -> None:
        self._processes = processes
        self._port = processes.ports.webhook
        self._signer = signer
        self._rate = rate
        self._seconds = seconds
        self._flood_rate = flood_rate

    async def round(self, *, flooded: bool) -> Round:
        """Run one round. Raises RoundFailedError unless every genuine push is answered and stored."""
        seen = Round()
        genuine, flood = Pool(seen.faults.append), Pool(seen.faults.append)
        try:
            await genuine.open(self._port, PUSH_CONNECTIONS)
            await flood.open(self._port, PUSH_CONNECTIONS)
            jobs = [self._push(genuine, seen)]
            if flooded:
                jobs.append(self._flood(flood, seen))
            await asyncio.gather(*jobs)
        finally:
            genuine.close()
            flood.close()
        faults = [*seen.faults, *self._processes.faults]
        if seen.unanswered or faults or not {401, 429}.issuperset(seen.flood):
            raise RoundFailedError(f"{seen.unanswered} unanswered, flood {dict(seen.flood)}; {'; '.join(faults[:3])}")
        return seen

    async def _push(self, pool: Pool, seen: Round) -> None:
        first_id = time.time_ns()
        requests = [
            request(
                "POST", "/push", self._port, self._signer.authorization(), push_json(number % 100, first_id + number)
            )
            for number in range(int(self._rate * self._seconds))
        ]

        def answered(began: float, status: int, body: bytes) -> None:
            seen.answers.append((time.perf_counter() - began) * 1e3)
            if status != 200 or b'"status":"published"' not in body:
                seen.faults.append(f"a genuine push was answered with {status} {body[:200]!r}")

        await _pace(pool, requests, self._rate, answered)
        seen.unanswered = len(requests) - await _all(seen.answers, len(requests))

    async def _flood(self, pool: Pool, seen: Round) -> None:
        good = self._signer.authorization()["Authorization"]
        kinds = [
            {},
            {"Authorization": "Bearer x.y.z"},
            # The dearest to refuse: everything is right but the signature.
            {"Authorization": good[:-20] + "A" * 20},
            {"Authorization": good[:-20] + "A" * 20, "X-Forwarded-For": "66.102.0.1"},
        ]
        count = int(self._flood_rate * self._seconds)
        requests = [
            request("POST", "/push", self._port, kinds[number % len(kinds)], push_json(0, number))
            for number in range(count)
        ]
        answers: list[int] = []

        def answered(_began: float, status: int, _body: bytes) -> None:
            answers.append(status)

        await _pace(pool, requests, self._flood_rate, answered)
        await _all(answers, count)
        seen.flood.update(answers)
        if len(answers) < count:
            seen.faults.append(f"{count - len(answers)} requests of the flood were not answered")


async def _pace(pool: Pool, requests: Sequence[bytes], rate: float, answered: _Answered) -> None:
    """Send requests at random moments, whatever became of the others."""
    dice = random.Random(len(requests))
    due = time.perf_counter()
    for data in requests:
        due += dice.expovariate(rate)
        wait_s = due - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        pool.send(data, partial(answered, time.perf_counter()))


async def _all(answers: Sequence[object], count: int) -> int:
    """Wait for all answers, for a while; return how many there are."""
    for _ in range(int(_PATIENCE_S / _POLL_S)):
        if len(answers) == count:
            break
        await asyncio.sleep(_POLL_S)
    return len(answers)


def _line(number: int, without: Round, flooded: Round) -> str:
    return (
        f"pair {number}: without {_three(without)}   flooded {_three(flooded)} ms   "
        f"x{flooded.percent(95) / without.percent(95):.2f}   flood: {_told(flooded)}"
    )


def _three(of: Round) -> str:
    return " / ".join(f"{of.percent(percent):.2f}" for percent in PERCENTS)


def _told(of: Round) -> str:
    return ", ".join(f"{count} x {status}" for status, count in sorted(of.flood.items()))


def _markdown(args: argparse.Namespace, pairs: Sequence[tuple[Round, Round]], machine: dict[str, str]) -> str:
    ratios = [flooded.percent(95) / without.percent(95) for without, flooded in pairs]
    differences = [flooded.percent(95) - without.percent(95) for without, flooded in pairs]
    met = median(ratios) <= MOST_RATIO or median(differences) <= MOST_DIFFERENCE_MS
    rows = [
        [str(number), _three(without), _three(flooded), f"{ratio:.2f}", _told(flooded)]
        for number, ((without, flooded), ratio) in enumerate(zip(pairs, ratios, strict=True), 1)
    ]
    pushes = sum(len(seen.answers) for pair in pairs for seen in pair)
    how = (
        f"{args.rate:g} genuine pushes a second from one address, in rounds of {args.seconds:g} s; in every other "
        f"round {args.flood:,} requests a minute from the same address that do not verify (no token, garbage, a "
        f"forged signature). The limit is {_LIMIT} a minute; all rounds together take "
        f"{2 * args.pairs * args.seconds:g} s. Each of the {pushes:,} genuine pushes was accepted."
    )
    verdict = (
        f"p95: ratio {spread(ratios, '.2f')}, difference {spread(differences, '+.2f')} ms. Target: median ratio at "
        f"most {MOST_RATIO:g} or median difference at most {MOST_DIFFERENCE_MS:g} ms; met: {'yes' if met else 'no'}."
    )
    lines = ["# Genuine pushes beside a flood", "", how, "", *table(_HEAD, rows), "", verdict, ""]
    return "\n".join([*lines, *(f"- {name}: {text}" for name, text in machine.items()), ""])
