"""One failover drill, on a highly available stack of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import httpx

from infra.chaos.origin import Origin
from infra.chaos.poster import Poster
from infra.chaos.pushes import ACK_DEADLINE_S, Push, traffic
from infra.chaos.stream_client import StreamClient
from infra.local.data_dir import DataDir
from infra.local.ha import primary
from infra.local.mail import push_body
from infra.local.queues import CONFIRMATION, DELIVERY, queue_settings
from infra.local.resp import RespConnectionError
from infra.local.stack import Stack
from shared.drill_report import DrillReport, Followed, Outcome, Sent, examine
from shared.errors import QueueUnavailableError
from shared.settings import AwsAccess
from shared.sqs import Sqs
from shared.tokens import mint

#: Traffic before the fault, s: the streams are well under way then.
BEFORE_S = 5.0
#: What was queued is delivered within so long after the traffic has ended, or something is wrong.
SETTLE_S = 60.0
_GREETED_S = 30.0
_POLL_S = 0.2
_PAGE = 500
_TRIES = 3
_TOKEN_S = 3600
#: Settings of the caller that must not reach the stack of a drill.
_FOREIGN = ("TIDEMARK_", "UPSTASH_", "AWS_", "SENTRY_")
_WAITING = tuple(f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed"))


class Fault(Enum):
    """What befalls the primary."""

    KILL = "kill"
    """Its process ends at once."""
    FREEZE = "freeze"
    """Its process does nothing any more, and its connections stay open."""

    @property
    def signal(self) -> signal.Signals:
        """What does that to a process."""
        return signal.SIGKILL if self is Fault.KILL else signal.SIGSTOP


@dataclass(frozen=True, slots=True)
class Plan:
    """What a drill does, in seconds: ``confirm_s`` of 0 is without confirmation, ``lag_s`` is the replica's."""

    fault: Fault = Fault.KILL
    per_s: float = 100.0
    seconds: float = 30.0
    mailboxes: int = 10
    streams: int = 20
    lag_s: float = 0.0
    confirm_s: int = 0


class DrillError(Exception):
    """A drill could not be brought to its end; the message says why."""


async def run(plan: Plan, directory: Path, say: Callable[[str], None]) -> DrillReport:
    """Start a stack on the directory, drill, and stop it. Raises DrillError, ChildError and DataDirError."""
    drill = _Drill(plan, DataDir(directory), say)
    async with drill.stack_running(), drill.streams_following():
        sent, fault_at = await drill.push_through_the_fault()
        say("traffic is over; waiting until nothing is queued and every stream has caught up")
        await drill.settle()
        try:
            held = await drill.held()
        except httpx.HTTPError as error:
            raise DrillError(f"in the end the log cannot be read: {error}") from error
        return examine(
            sent,
            held,
            [drill.followed(client) for client in drill.clients],
            fault_at=fault_at,
            forced=[f"primary Redis: {plan.fault.value} ({drill.victim}), replica {plan.lag_s:g} s behind"],
        )


class _Drill:
    """The parts of one drill, and what is known of it."""

    def __init__(self, plan: Plan, data_dir: DataDir, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._data_dir = data_dir
        self._say = say
        self._mailboxes = [f"drill{number}@example.com" for number in range(plan.mailboxes)]
        count = round(plan.per_s * (BEFORE_S + plan.seconds))
        self._pushes = traffic(self._mailboxes, count, seed=int(time.time()) % 100_000)
        environ = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        environ["TIDEMARK_RECONCILE_S"] = "5"
        # Nothing of the drill may be trimmed: what is gone from the log is to be what the failover forgot.
        environ["TIDEMARK_TOPIC_MAX_EVENTS"] = "1000000"
        if plan.confirm_s:
            environ["TIDEMARK_CONFIRM_S"] = str(plan.confirm_s)
        self._environ: Mapping[str, str] = environ
        self._stack = Stack(
            data_dir,
            port=0,
            redis_url=None,
            push_auth="on",
            say=say,
            environ=environ,
            ha=True,
            replica_lag_s=plan.lag_s,
        )
        self.clients: list[StreamClient] = []
        self.victim = ""

    @contextlib.asynccontextmanager
    async def stack_running(self) -> AsyncIterator[None]:
        """Run the stack."""
        self._say("starting two Redis, three Sentinels and the stack")
        with self._data_dir.locked():
            try:
                await self._stack.start()
                yield
            finally:
                await self._stack.stop()

    @contextlib.asynccontextmanager
    async def streams_following(self) -> AsyncIterator[None]:
        """Have streams follow a mailbox each; they have their hello when this begins."""
        origin = Origin.of(self._stack.url)
        for number in range(self._plan.streams):
            mailbox = self._mailboxes[number % len(self._mailboxes)]
            topics = [f"gmail:{mailbox}"]
            self.clients.append(
                StreamClient(origin, topics, name=f"drill-{number}", token=self._token(f"drill-{number}", topics))
            )
        tasks = [asyncio.ensure_future(client.run()) for client in self.clients]
        try:
            try:
                async with asyncio.timeout(_GREETED_S):
                    while not all(client.greeted for client in self.clients):  # noqa: ASYNC110 - they are records
                        await asyncio.sleep(_POLL_S)
            except TimeoutError:
                raise DrillError(f"not every stream was greeted within {_GREETED_S:g} s") from None
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def push_through_the_fault(self) -> tuple[list[Sent], float]:
        """Send pushes at the rate of the plan, each once; break the primary on the way. Returns when that was."""
        plan = self._plan
        poster = Poster(Origin.of(self._stack.url), self._data_dir.push_signer().authorization())
        began = time.monotonic()
        breaking = asyncio.ensure_future(self._break_at(began + BEFORE_S))
        try:
            async with asyncio.TaskGroup() as group:
                tasks = []
                for number, push in enumerate(self._pushes):
                    await asyncio.sleep(max(0.0, began + number / plan.per_s - time.monotonic()))
                    tasks.append(group.create_task(_push(poster, push)))
            return [task.result() for task in tasks], await breaking
        finally:
            breaking.cancel()
            await poster.aclose()

    async def settle(self) -> None:
        """Wait until nothing is queued and every stream has what the log holds; `SETTLE_S` at most, and the delay."""
        until = time.monotonic() + SETTLE_S + self._plan.confirm_s
        while time.monotonic() < until:
            if await self._queues_are_empty() and await self._streams_have_everything():
                return
            await asyncio.sleep(1.0)
        self._say("not everything came to rest in time")

    async def held(self) -> dict[str, list[str]]:
        """Read by /replay at which positions the log holds each message."""
        held: dict[str, list[str]] = {}
        async with httpx.AsyncClient(base_url=self._stack.url, timeout=10.0, trust_env=False) as client:
            for mailbox in self._mailboxes:
                topic = f"gmail:{mailbox}"
                headers = {"Authorization": f"Bearer {self._token('drill', [topic])}"}
                after, more = "earliest", True
                while more:
                    query: dict[str, str | int] = {"topic": topic, "after": after, "limit": _PAGE}
                    answer = await client.get("/replay", params=query, headers=headers)
                    page: Any = answer.raise_for_status().json()
                    for event in page["events"]:
                        held.setdefault(event["id"], []).append(event["position"])
                    after, more = page["cursor"], page["more"]
        return held

    def followed(self, client: StreamClient) -> Followed:
        """Return what a stream heard, of what was meant for it."""
        ids = [arrival.key[1] for connection in client.connections for arrival in connection.arrivals]
        meant = {push.message_id for push in self._pushes if push.topic in client.topics}
        return Followed(ids, len(client.connections) - 1, len(client.gaps), meant)

    async def _break_at(self, at: float) -> float:
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        self.victim = await primary(self._data_dir.path / "ha")
        running = self._data_dir.running()
        assert running is not None  # noqa: S101 - it is this process that runs it
        self._say(f"{self._plan.fault.value}: {self.victim}, the primary")
        fault_at = time.monotonic()
        os.kill(running["processes"][self.victim], self._plan.fault.signal)
        return fault_at

    async def _queues_are_empty(self) -> bool:
        settings = queue_settings(self._stack.queue_url, self._data_dir.keys().gateway_token)
        access = AwsAccess(
            settings["AWS_REGION"], settings["AWS_ACCESS_KEY_ID"], settings["AWS_SECRET_ACCESS_KEY"], None
        )
        waiting = 0
        for name, url in ((DELIVERY, "TIDEMARK_QUEUE_URL"), (CONFIRMATION, "TIDEMARK_CONFIRM_QUEUE_URL")):
            queue = Sqs(settings[url], access)
            try:
                told = await queue.attributes()
            except QueueUnavailableError as error:
                self._say(f"{name}: {error}")
                return False
            finally:
                await queue.close()
            waiting += sum(int(told.get(attribute, 0)) for attribute in _WAITING)
        return waiting == 0

    async def _streams_have_everything(self) -> bool:
        try:
            held = await self.held()
        except (httpx.HTTPError, RespConnectionError):
            return False
        topics = {push.message_id: push.topic for push in self._pushes}
        for client in self.clients:
            meant = {id_ for id_ in held if topics.get(id_) in client.topics}
            if not client.live or not meant <= {id_ for _, id_ in client.events}:
                return False
        return True

    def _token(self, user: str, topics: Sequence[str]) -> str:
        kid, key = next(iter(self._data_dir.token_keys(self._environ).items()))
        return mint(user, topics, kid=kid, key=key, ttl_s=_TOKEN_S, now=time.time())


async def _push(poster: Poster, push: Push) -> Sent:
    sent_at = time.monotonic()
    body = push_body(push.mailbox, push.history_id, push.message_id)
    outcome, position = Outcome.REFUSED, None
    # A kept connection may be closed just now: like Pub/Sub, try again on another.
    for _ in range(_TRIES):
        try:
            answer = await poster.post("/push", body, timeout_s=ACK_DEADLINE_S)
        except (OSError, EOFError, ValueError):
            continue
        if answer.status == httpx.codes.OK and isinstance(answer.said, dict):
            outcome, position = Outcome(answer.said["status"]), answer.said.get("id")
        break
    return Sent(push.message_id, sent_at, time.monotonic(), outcome, position)
