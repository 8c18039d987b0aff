"""Pub/Sub in front of a stack of these tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from infra.chaos.origin import Origin
from infra.chaos.poster import Poster
from infra.chaos.pushes import Key, Push
from infra.chaos.pushes import Sender as PushSender
from tests.support.stack import BYPASS_SECRET


class Sender(PushSender):
    """Sends pushes to the webhook on a port. ``seed`` decides which are sent again once acknowledged."""

    def __init__(self, port: int, *, seed: int = 0) -> None:
        super().__init__(Poster(Origin.local(port), {"X-Tidemark-Bypass": BYPASS_SECRET}), seed=seed)

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
