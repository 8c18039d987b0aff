"""Pushes at a steady rate, each sent once, whatever becomes of the others, with every answer on record."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.chaos.origin import Origin
from infra.chaos.poster import Poster
from infra.chaos.pushes import ACK_DEADLINE_S, Key, Push
from infra.local.mail import push_body
from tests.support.stack import BYPASS_SECRET


@dataclass(frozen=True, slots=True)
class Told:
    """One push and its answer; times are the event loop's. ``status`` is None where none came."""

    push: Push
    began: float
    ended: float
    status: int | None
    said: Mapping[str, Any]

    @property
    def acknowledged(self) -> bool:
        """Whether Pub/Sub would not send it again."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def word(self) -> str:
        """The answer in a word: ``published``, ``queued``, the code of an error, or ``none``."""
        return str(self.said.get("status") if self.acknowledged else self.said.get("code", "none"))

    @property
    def took_s(self) -> float:
        """How long the answer took."""
        return self.ended - self.began


class SteadyTraffic:
    """Sends pushes to the webhook on a port for as long as it runs, in the order of ``pushes``."""

    def __init__(self, port: int, pushes: Iterable[Push], *, per_s: float) -> None:
        self.told: list[Told] = []
        self._poster = Poster(Origin.local(port), {"X-Tidemark-Bypass": BYPASS_SECRET})
        self._pushes = iter(pushes)
        self._per_s = per_s
        self._under_way: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[SteadyTraffic]:
        """Send inside of this; at the end wait for the answers that are still to come."""
        sending = asyncio.ensure_future(self._send())
        try:
            yield self
        finally:
            sending.cancel()
            ends = await asyncio.gather(sending, *self._under_way, return_exceptions=True)
            await self._poster.aclose()
        for end in ends:
            if isinstance(end, Exception):
                raise end

    def between(self, first: float, last: float) -> Sequence[Told]:
        """Return what was sent between two moments."""
        return [told for told in self.told if first <= told.began < last]

    def words(self) -> Counter[str]:
        """Count the answers."""
        return Counter(told.word for told in self.told)

    def expected(self, topics: Sequence[str]) -> dict[Key, str | None]:
        """Give the acknowledged events of some topics, each with the position of its answer."""
        return {
            told.push.key: told.said.get("id")
            for told in self.told
            if told.acknowledged and told.push.topic in topics
        }

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        for push in self._pushes:
            await asyncio.sleep(max(0.0, due - loop.time()))
            due += 1 / self._per_s
            task = asyncio.ensure_future(self._one(push))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        raise AssertionError("there were too few pushes for the test")

    async def _one(self, push: Push) -> None:
        body = push_body(push.mailbox, push.history_id, push.message_id)
        loop = asyncio.get_running_loop()
        began = loop.time()
        status: int | None = None
        said: Mapping[str, Any] = {}
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            status, said, *_ = await self._poster.post("/push", body, timeout_s=ACK_DEADLINE_S)
        self.told.append(Told(push, began, loop.time(), status, said))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * int(percent) // 100) - 1)]
