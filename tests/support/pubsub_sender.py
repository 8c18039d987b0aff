"""Pub/Sub in front of a stack of these tests."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

from infra.chaos.origin import Origin
from infra.chaos.poster import Poster
from infra.chaos.pushes import Attempt, Key, Push
from infra.chaos.pushes import Sender as PushSender
from tests.support.stack import BYPASS_SECRET

#: What the last push may take longer to be acknowledged than it would if nothing were ever away.
PATIENCE_S = 60.0


class Sender(PushSender):
    """Sends pushes to the webhook on a port. ``seed`` decides which are sent again once acknowledged."""

    def __init__(self, port: int, *, seed: int = 0) -> None:
        super().__init__(Poster(Origin.local(port), {"X-Tidemark-Bypass": BYPASS_SECRET}), seed=seed)

    async def send(self, pushes: Sequence[Push], *, per_s: float) -> None:
        """Send at a rate; returns when every push is acknowledged, or fails when that takes too long."""
        within_s = len(pushes) / per_s + PATIENCE_S
        try:
            async with asyncio.timeout(within_s):
                await super().send(pushes, per_s=per_s)
        except TimeoutError:
            missing = [push.message_id for push in pushes if push.message_id not in self.acknowledged]
            last = Counter(_last_word(self.attempts_of.get(message_id, ())) for message_id in missing)
            raise AssertionError(
                f"not within {within_s:g} s: all is acknowledged ({len(missing)} of {len(pushes)} are missing: "
                f"{last.most_common(3)})"
            ) from None

    @property
    def attempts(self) -> int:
        """How many attempts have been answered, or given up."""
        return sum(map(len, self.attempts_of.values()))

    @property
    def refusals(self) -> int:
        """How often an attempt was not acknowledged."""
        return sum(not attempt.acknowledged for made in self.attempts_of.values() for attempt in made)

    @property
    def positions(self) -> Mapping[str, str | None]:
        """What was acknowledged, by message id: the position of the answer, None for one that was queued.

        Fails if two answers contradict each other.
        """
        found: dict[str, str | None] = {}
        for message_id in self.acknowledged:
            attempts = [attempt for attempt in self.attempts_of[message_id] if attempt.acknowledged]
            assert all(attempt.word in ("published", "duplicate", "queued") for attempt in attempts), attempts
            told = {attempt.position for attempt in attempts} - {None}
            assert len(told) < 2, f"{message_id}: {told}"
            found[message_id] = told.pop() if told else None
        return found

    def expected(self, pushes: Sequence[Push], topics: Sequence[str]) -> Mapping[Key, str | None]:
        """Give the acknowledged events of some topics, each with its position."""
        positions = self.positions
        acknowledged = (push for push in pushes if push.topic in topics and push.message_id in positions)
        return {push.key: positions[push.message_id] for push in acknowledged}


def _last_word(attempts: Sequence[Attempt]) -> str:
    if not attempts:
        return "not one answer"
    return attempts[-1].failure or f"{attempts[-1].status}, {attempts[-1].said}"
