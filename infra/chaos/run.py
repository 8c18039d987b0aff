"""One seed: traffic, clients, faults for a while, then quiet; and the judgement of what everybody saw."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlencode

from infra.chaos.checker import Death, Record, Verdict, judge, missing
from infra.chaos.link import Link
from infra.chaos.origin import Origin
from infra.chaos.part import PartError
from infra.chaos.poller import TIMEOUT_S, attempt
from infra.chaos.population import Client, Population
from infra.chaos.poster import Poster
from infra.chaos.pushes import Push, Sender, traffic
from infra.chaos.schedule import Episode, plan
from infra.chaos.stream_client import Arrival
from infra.chaos.topology import Kind
from shared.delivery import DeadLetter
from shared.position import Position

#: Traffic before the first fault and after the last one.
WARM_S = 1.0
COOL_S = 1.0
#: When the faults are over, everything must be there within this.
QUIESCENT_S = 30.0
#: And nothing may come twice in this while after that.
SETTLE_S = 1.0
_PUSHES_PER_S = (50, 100)
_GREETED_S = 20.0
_POLL_S = 0.1
_MOST_OUTSTANDING, _LEAST_OUTSTANDING = 300, 16
_PAGE = 500


class Ground(Protocol):
    """What a run takes place on: a stack of processes, or somebody's deployment."""

    kid: str
    token_key: str
    prefix: str
    """What the names of its mailboxes and users begin with."""
    first_message_id: str
    """What its message ids begin with."""
    unreadable: float
    """Which share of the pushes can never be read."""
    deaths: list[Death]

    @property
    def links(self) -> Mapping[str, Link]:
        """The links that can be broken."""

    @property
    def processes(self) -> Sequence[str]:
        """The processes that can be killed."""

    @property
    def hurt(self) -> Collection[str]:
        """The clients' connections that a fault has hit."""

    @property
    def headers(self) -> dict[str, str]:
        """What every request of a client carries."""

    def push_headers(self) -> dict[str, str]:
        """Give what every push carries."""

    def through(self, link: str) -> Origin:
        """Give the address by which a link's source reaches its target."""

    def direct(self, part: str) -> Origin:
        """Give the address of a part itself."""

    def complaints(self) -> list[str]:
        """Return what its processes have logged of defects of their own, as far as that can be seen."""

    async def suffer(self, episode: Episode) -> None:
        """Have one fault. Raises PartError."""

    async def drained(self) -> bool:
        """Say whether nothing waits in a queue any more, as far as can be seen."""

    async def dead_letters(self) -> list[DeadLetter] | None:
        """Return every dead letter, or None if that cannot be seen. Raises ValueError."""


@dataclass(slots=True)
class Result:
    """What became of one seed."""

    seed: int
    verdict: Verdict
    fired: Counter[tuple[str, Kind]] = field(default_factory=Counter)
    """How often each kind of fault has hit something on each link, or a process."""
    kinds: frozenset[Kind] = frozenset()
    """The kinds that could have."""
    schedule: Sequence[Episode] = ()
    pushes: int = 0
    words: Counter[str] = field(default_factory=Counter)
    """How often each word was answered to a push."""
    refused: int = 0
    """Attempts that were not acknowledged."""
    connections: int = 0
    healed_s: float | None = None
    """How long after the last fault everything was there; None if it never was."""
    logs: str = ""

    @property
    def good(self) -> bool:
        """Whether every promise was kept, and in time."""
        return self.verdict.good and self.healed_s is not None


async def run_seed(seed: int, seconds: float, ground: Ground) -> Result:
    """Run one seed on a ground that serves."""
    rng = random.Random(f"run {seed}")  # noqa: S311 - it has to be repeatable
    schedule = plan(seed, seconds, [link.spec for link in ground.links.values()], ground.processes)
    per_s = rng.uniform(*_PUSHES_PER_S)
    population = Population(
        prefix=ground.prefix,
        kid=ground.kid,
        key=ground.token_key,
        stream=ground.through("client->stream"),
        replay=ground.through("client->replay"),
        seed=seed,
        headers=ground.headers,
    )
    pushes = traffic(
        population.mailboxes,
        round(per_s * (WARM_S + seconds + COOL_S)),
        seed=seed,
        unreadable=ground.unreadable,
        first_id=ground.first_message_id,
    )
    sender = Sender(
        Poster(ground.through("client->webhook"), ground.push_headers()),
        seed=seed,
        twice=0.05,
        later_s=3.0,
        outstanding=_MOST_OUTSTANDING,
        least=_LEAST_OUTSTANDING,
    )
    strange: list[str] = []
    async with contextlib.AsyncExitStack() as open_:
        open_.push_async_callback(sender.aclose)
        open_.push_async_callback(population.aclose)
        await open_.enter_async_context(_following(population.clients, strange))
        sending = asyncio.ensure_future(sender.send(pushes, per_s=per_s))
        try:
            await asyncio.sleep(WARM_S)
            await _break(ground, schedule, strange)
            quiet_at = time.monotonic()
            whole = await _quiescent(ground, sender, sending, pushes, population.clients)
            healed_s = time.monotonic() - quiet_at if whole else None
            await asyncio.sleep(SETTLE_S if whole else 0)
            log = await _read_log(population, ground, strange)
            buried = await _read_dead_letters(ground, strange)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
    strange += [said for client in population.clients for said in getattr(client, "strange", ())]
    strange += ground.complaints()
    record = Record(
        pushes=pushes,
        attempts=sender.attempts_of,
        witnesses=population.clients,
        log=log,
        buried=buried,
        deaths=ground.deaths,
        hurt=ground.hurt,
        strange=strange,
    )
    attempts = [attempt for made in sender.attempts_of.values() for attempt in made]
    return Result(
        seed,
        judge(record),
        fired=_fired(ground),
        kinds=_kinds(ground),
        schedule=schedule,
        pushes=len(pushes),
        words=Counter(attempt.word for attempt in attempts if attempt.word),
        refused=sum(not attempt.acknowledged for attempt in attempts),
        connections=sum(len(client.connections) for client in population.clients),
        healed_s=healed_s,
    )


@contextlib.asynccontextmanager
async def _following(clients: Sequence[Client], strange: list[str]) -> AsyncIterator[None]:
    """Run clients. They follow when this begins; what they could not read is noted when it ends."""
    tasks = [asyncio.ensure_future(client.run()) for client in clients]
    try:
        async with asyncio.timeout(_GREETED_S):
            while not all(client.greeted for client in clients):  # noqa: ASYNC110 - it is a record, not an event
                await asyncio.sleep(_POLL_S)
        yield
    finally:
        ended = [task.done() for task in tasks]
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        for client, end, early in zip(clients, ends, ended, strict=True):
            if early:
                strange.append(f"{client.name} stopped: {end or 'it was told not to come back'!r}")


async def _break(ground: Ground, schedule: Sequence[Episode], strange: list[str]) -> None:
    """Let every fault happen at its time; returns when all of them are over and every process is back."""

    async def one(episode: Episode) -> None:
        await asyncio.sleep(episode.at_s)
        try:
            await ground.suffer(episode)
        except PartError as error:
            strange.append(str(error))

    await asyncio.gather(*(one(episode) for episode in schedule))


async def _quiescent(
    ground: Ground,
    sender: Sender,
    sending: asyncio.Future[None],
    pushes: Sequence[Push],
    clients: Sequence[Client],
) -> bool:
    """Wait until everything is there. Returns whether it is, in time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(QUIESCENT_S):
            await asyncio.wait([sending])
            expected = {p.key: p for p in pushes if p.readable and p.message_id in sender.acknowledged}
            while not await ground.drained() or any(missing(c, expected) for c in clients):  # noqa: ASYNC110 - as above
                await asyncio.sleep(_POLL_S)
            return True
    return False


async def _read_log(population: Population, ground: Ground, strange: list[str]) -> list[Arrival]:
    """Read everything that the log holds of the mailboxes of this run, without a proxy between."""
    poster = population.poster("judge", ground.direct("replay"))
    held: list[Arrival] = []
    after, more = "earliest", True
    while more:
        query = [("topic", topic) for topic in population.topics] + [("after", after), ("limit", str(_PAGE))]
        reply = await attempt(poster, f"/replay?{urlencode(query)}")
        if reply is None or not isinstance(reply.said, dict) or "events" not in reply.said:
            strange.append(f"the log could not be read within {TIMEOUT_S:g} s in the end: {reply}")
            break
        page = reply.said
        for event in page["events"]:
            key, position = (event["source"], event["id"]), Position.parse(event["position"])
            held.append(Arrival(key, event["topic"], position, 0.0))
        after, more = page["cursor"], page["more"]
    return held


async def _read_dead_letters(ground: Ground, strange: list[str]) -> list[DeadLetter] | None:
    try:
        return await ground.dead_letters()
    except ValueError as error:
        strange.append(f"the dead letters could not be read in the end: {error}")
        return None


def _kinds(ground: Ground) -> frozenset[Kind]:
    kinds = {kind for link in ground.links.values() for kind in link.spec.kinds}
    return frozenset(kinds | ({Kind.KILL} if ground.processes else set()))


def _fired(ground: Ground) -> Counter[tuple[str, Kind]]:
    fired: Counter[tuple[str, Kind]] = Counter()
    for name, link in ground.links.items():
        fired.update({(name, kind): count for kind, count in link.fired.items()})
    fired.update((death.process, Kind.KILL) for death in ground.deaths)
    return fired
