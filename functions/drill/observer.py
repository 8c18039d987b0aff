"""A stream without a browser: follows one topic through the hub, and notes what it hears."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable

from shared.drill_report import Followed
from shared.entry import Gap
from shared.follower import Event, Proven
from shared.hub import Hub
from shared.log import NOW, From, Log, Revocation
from shared.position import ZERO, Position


class Observer:
    """Follows one topic from now on, as the stream function does for a client, but of no user and without a slot."""

    user = client = ""
    wants_acks = waits_for_ack = False

    def __init__(self, hub: Hub, log: Log, topic: str) -> None:
        self._hub = hub
        self._log = log
        self._topic = topic
        self.connection = topic
        self._ids: list[str] = []
        self._gaps = 0
        self._read_up_to: Position = ZERO

    async def open(self) -> Position:
        """Begin; returns the cursor it begins at. Raises LogUnavailableError or LogDefectError."""
        await self._hub.join(self, [self._topic])
        reading = await self._log.read({self._topic: From(NOW)}, limit=1)
        self._hub.seed(reading)
        self._read_up_to = reading.clock
        return self._read_up_to

    def close(self) -> None:
        """Leave the hub."""
        self._hub.leave(self, [self._topic])

    def offer(self, item: Event | Gap | Proven) -> None:
        """Take an item from the hub."""
        if isinstance(item, Gap):
            self._gaps += 1
        elif isinstance(item, Event) and item.position > self._read_up_to:
            self._ids += _ids_of(item.data.splitlines())

    def revoked(self, revocation: Revocation) -> None:
        """Hear of a revocation: a drill has no token."""

    def acked(self, position: Position) -> None:
        """Hear of an ack: a drill sends none."""

    def slot_lost(self, reason: str) -> None:
        """Hear that its slot was taken away: a drill has none."""

    def followed(self, *, reconnects: int, meant: Collection[str]) -> Followed:
        """Return what was heard, of what was meant for it."""
        return Followed(tuple(self._ids), reconnects, self._gaps, meant)


def _ids_of(lines: Iterable[bytes]) -> list[str]:
    return [json.loads(line.removeprefix(b"data:"))["id"] for line in lines if line.startswith(b"data:")]
