"""Pushes as a Pub/Sub subscription sends them: at a rate, again until acknowledged, now and then once too often."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infra.chaos.poster import Poster
from infra.local.mail import SUBSCRIPTION, push_body

#: What makes two deliveries the same event: CloudEvents' source and id.
Key = tuple[str, str]

SOURCE = f"//pubsub.googleapis.com/{SUBSCRIPTION}"
#: Pub/Sub's default.
ACK_DEADLINE_S = 10.0
#: Pub/Sub backs off from 100 ms, up to 60 s; here less, so that an outage ends with the part that was away.
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 0.8
_ACKNOWLEDGED = range(200, 300)
_SLOWER = 0.9


@dataclass(frozen=True, slots=True)
class Push:
    """One message to send. What is not ``readable`` holds no mailbox, and ends among the dead letters."""

    mailbox: str
    history_id: int
    message_id: str
    readable: bool = True

    @property
    def topic(self) -> str:
        """The topic that a client follows to get it."""
        return f"gmail:{self.mailbox}"

    @property
    def key(self) -> Key:
        """The event that it becomes."""
        return (SOURCE, self.message_id)

    def body(self) -> dict[str, Any]:
        """Build what is posted, published now."""
        body = push_body(self.mailbox, self.history_id, self.message_id)
        if not self.readable:
            body["message"]["data"] = "bm8gSlNPTg=="
        return body


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to send a push: what was answered, or what went wrong instead. ``at`` is Unix seconds."""

    at: float
    took_s: float
    status: int | None
    said: Any = None
    injected: bool = False
    """Whether a fault answered in the webhook's place."""
    failure: str = ""

    @property
    def acknowledged(self) -> bool:
        """Whether Pub/Sub takes it for delivered."""
        return self.status in _ACKNOWLEDGED

    @property
    def word(self) -> str:
        """What the answer says of the push: published, duplicate, queued, rejected; empty if it says nothing."""
        return str(self.said.get("status", "")) if self.acknowledged and isinstance(self.said, dict) else ""

    @property
    def position(self) -> str | None:
        """The position that the answer names."""
        return self.said.get("id") if self.word in ("published", "duplicate") else None


def traffic(
    mailboxes: Sequence[str], count: int, *, seed: int, unreadable: float = 0.0, first_id: str = ""
) -> list[Push]:
    """Plan as many pushes to each mailbox, in random order; an ``unreadable`` share of them holds no mailbox.

    ``first_id`` begins every message id.
    """
    rng = random.Random(seed)  # noqa: S311 - it has to be repeatable
    chosen = [mailboxes[n % len(mailboxes)] for n in range(count)]
    rng.shuffle(chosen)
    return [
        Push(mailbox, 9_000_000_000 + n, f"{first_id}{seed:05}{n:010}", readable=rng.random() >= unreadable)
        for n, mailbox in enumerate(chosen)
    ]


class _Window:
    """How many requests may be under way: fewer after each that was not acknowledged, more after each that was.

    Pub/Sub slows a whole subscription down like this.
    """

    def __init__(self, least: int, most: int) -> None:
        self._least = least
        self._most = most
        self._size = float(most)
        self._busy = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Wait until one more may be sent."""
        while self._busy >= self._size:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        self._busy += 1

    def leave(self, *, acknowledged: bool) -> None:
        """Say what became of one."""
        self._busy -= 1
        self._size = min(self._most, self._size + 1) if acknowledged else max(self._least, self._size * _SLOWER)
        free = int(self._size) - self._busy
        while free > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1


class Sender:
    """Sends pushes, a ``twice`` share of them again once acknowledged, up to ``later_s`` afterwards.

    ``seed`` decides which. No more than ``outstanding`` wait to be acknowledged at a time. With ``least`` it slows
    down when they are not, as Pub/Sub does, to so many requests at a time.
    """

    def __init__(
        self,
        poster: Poster,
        *,
        seed: int = 0,
        twice: float = 0.02,
        later_s: float = 0.0,
        outstanding: int = 24,
        least: int | None = None,
    ) -> None:
        self.started = 0
        self.repeats = 0
        self.attempts_of: dict[str, list[Attempt]] = {}
        """Every attempt that has been answered, or given up, by message id."""
        self.acknowledged: set[str] = set()
        """The message ids that were."""
        self._twice = twice
        self._later_s = later_s
        self._outstanding = outstanding
        self._window = _Window(outstanding if least is None else least, outstanding)
        self._poster = poster
        self._rng = random.Random(seed)  # noqa: S311 - it has to be repeatable

    async def send(self, pushes: Sequence[Push], *, per_s: float) -> None:
        """Send at a rate; returns when every push is acknowledged."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        outstanding = asyncio.Semaphore(self._outstanding)
        async with asyncio.TaskGroup() as group:

            async def one(push: Push) -> None:
                try:
                    await self._until_acknowledged(push)
                finally:
                    outstanding.release()
                if self._rng.random() < self._twice:
                    await asyncio.sleep(self._rng.uniform(0, self._later_s))
                    self.repeats += 1
                    await self._attempt(push)

            for number, push in enumerate(pushes):
                await asyncio.sleep(max(0.0, began + number / per_s - loop.time()))
                await outstanding.acquire()
                self.started += 1
                group.create_task(one(push))

    async def send_one(self, push: Push) -> None:
        """Send one push until it is acknowledged."""
        await self.send([push], per_s=1)

    async def aclose(self) -> None:
        """Close its connections."""
        await self._poster.aclose()

    async def _until_acknowledged(self, push: Push) -> None:
        pause_s = _FIRST_PAUSE_S
        while not await self._attempt(push):
            await asyncio.sleep(pause_s * self._rng.uniform(0.5, 1.5))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _attempt(self, push: Push) -> bool:
        """Send once. Returns whether it was acknowledged."""
        await self._window.enter()
        acknowledged = False
        try:
            attempt = await self._send_once(push)
            acknowledged = attempt.acknowledged
        finally:
            self._window.leave(acknowledged=acknowledged)
        self.attempts_of.setdefault(push.message_id, []).append(attempt)
        if acknowledged:
            self.acknowledged.add(push.message_id)
        return acknowledged

    async def _send_once(self, push: Push) -> Attempt:
        at, began = time.time(), time.monotonic()
        try:
            status, said, injected = await self._poster.post("/push", push.body(), timeout_s=ACK_DEADLINE_S)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            failure = f"{type(error).__name__}: {error}"
            return Attempt(at, time.monotonic() - began, None, failure=failure)
        return Attempt(at, time.monotonic() - began, status, said, injected)
