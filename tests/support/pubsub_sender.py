"""Pushes as a Pub/Sub subscription sends them: at a rate, again until acknowledged, now and then once too often."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.chaos.poster import Poster
from infra.local.mail import SUBSCRIPTION, push_body
from tests.support.recorder import Key
from tests.support.stack import BYPASS_SECRET

SOURCE = f"//pubsub.googleapis.com/{SUBSCRIPTION}"
#: Pub/Sub's default.
ACK_DEADLINE_S = 10.0
#: Pub/Sub backs off from 100 ms, up to 60 s; here less, so that an outage ends with the part that was away.
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 0.8
#: Pub/Sub sends no faster than it is answered.
_MOST_OUTSTANDING = 24
_TWICE = 0.02
_ACKNOWLEDGED = range(200, 300)
_BODY_STATUS = frozenset({"published", "duplicate", "queued"})


@dataclass(frozen=True, slots=True)
class Push:
    """One message to send."""

    mailbox: str
    history_id: int
    message_id: str

    @property
    def topic(self) -> str:
        """The topic that a client follows to get it."""
        return f"gmail:{self.mailbox}"

    @property
    def key(self) -> Key:
        """The event that it becomes."""
        return (SOURCE, self.message_id)


def traffic(mailboxes: Sequence[str], count: int, *, seed: int) -> list[Push]:
    """Plan as many pushes to each mailbox, in random order."""
    chosen = [mailboxes[n % len(mailboxes)] for n in range(count)]
    random.Random(seed).shuffle(chosen)
    return [Push(mailbox, 9_000_000_000 + n, f"{seed:05}{n:010}") for n, mailbox in enumerate(chosen)]


class Sender:
    """Sends pushes to the webhook on a port. ``seed`` decides which are sent again once acknowledged."""

    def __init__(self, port: int, *, seed: int = 0) -> None:
        self.started = 0
        self.attempts = 0
        """How many attempts have been answered, or given up."""
        self.refusals = 0
        """How often an attempt was not acknowledged."""
        self.repeats = 0
        self.positions: dict[str, str | None] = {}
        """What was acknowledged, by message id: the position of the answer, None for one that was queued."""
        self._poster = Poster(port, {"X-Tidemark-Bypass": BYPASS_SECRET})
        self._rng = random.Random(seed)

    def expected(self, pushes: Sequence[Push], topics: Sequence[str]) -> Mapping[Key, str | None]:
        """Give the acknowledged events of some topics, each with its position."""
        acknowledged = (push for push in pushes if push.topic in topics and push.message_id in self.positions)
        return {push.key: self.positions[push.message_id] for push in acknowledged}

    async def send(self, pushes: Sequence[Push], *, per_s: float) -> None:
        """Send at a rate; returns when every push is acknowledged."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        outstanding = asyncio.Semaphore(_MOST_OUTSTANDING)
        async with asyncio.TaskGroup() as group:

            async def one(push: Push) -> None:
                try:
                    await self._until_acknowledged(push)
                finally:
                    outstanding.release()

            for number, push in enumerate(pushes):
                await asyncio.sleep(max(0.0, began + number / per_s - loop.time()))
                await outstanding.acquire()
                self.started += 1
                group.create_task(one(push))

    async def aclose(self) -> None:
        """Close its connections."""
        await self._poster.close()

    async def send_one(self, push: Push) -> None:
        """Send one push until it is acknowledged."""
        await self.send([push], per_s=1)

    async def _until_acknowledged(self, push: Push) -> None:
        body = push_body(push.mailbox, push.history_id, push.message_id)
        pause_s = _FIRST_PAUSE_S
        while not await self._attempt(push, body):
            self.refusals += 1
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        if self._rng.random() < _TWICE:
            self.repeats += 1
            await self._attempt(push, body)

    async def _attempt(self, push: Push, body: object) -> bool:
        """Send once. Returns whether it was acknowledged; fails if two answers contradict each other."""
        try:
            status, said = await self._poster.post("/push", body, timeout_s=ACK_DEADLINE_S)
        except (OSError, EOFError, TimeoutError):
            return False
        finally:
            self.attempts += 1
        if status not in _ACKNOWLEDGED:
            return False
        assert said["status"] in _BODY_STATUS, said
        position = said.get("id")
        before = self.positions.get(push.message_id)
        assert before is None or position in (None, before), f"{push.message_id}: {before}, then {said}"
        self.positions[push.message_id] = position or before
        return True
