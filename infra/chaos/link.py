"""The faults that a link has now, and how often each kind has truly hit something."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Protocol

from infra.chaos.schedule import Episode
from infra.chaos.topology import Kind, LinkSpec


class Fault:
    """An episode that is under way. ``over`` is set at its end."""

    def __init__(self, episode: Episode) -> None:
        self.kind = episode.kind
        self.share = episode.share
        self.delay_s = episode.delay_s
        self.over = asyncio.Event()


class Line(Protocol):
    """Something open on a link that a fault may hit without waiting for the next request."""

    def strike(self, fault: Fault) -> None:
        """Suffer a fault that begins now."""

    def relieve(self, fault: Fault) -> None:
        """Hear that it is over."""


class Link:
    """A link as the proxy on it sees it."""

    def __init__(self, spec: LinkSpec, seed: int) -> None:
        self.spec = spec
        self.rng = random.Random(f"{spec.name} {seed}")  # noqa: S311 - as repeatable as the timing allows
        self.fired: Counter[Kind] = Counter()
        self.hurt: set[str] = set()
        """The connections of clients that a fault has hit, by the names that the clients gave them."""
        self.lines: set[Line] = set()
        self._faults: list[Fault] = []

    async def suffer(self, episode: Episode) -> None:
        """Have a fault for as long as an episode lasts."""
        fault = Fault(episode)
        self._faults.append(fault)
        for line in list(self.lines):
            line.strike(fault)
        try:
            await asyncio.sleep(episode.lasts_s)
        finally:
            self._faults.remove(fault)
            fault.over.set()
            for line in list(self.lines):
                line.relieve(fault)

    def add(self, line: Line) -> None:
        """Take in a line: it suffers what goes on."""
        self.lines.add(line)
        for fault in self._faults:
            line.strike(fault)

    def draw(self, *kinds: Kind) -> Fault | None:
        """Say which fault of these kinds hits what passes now, if any."""
        for fault in self._faults:
            if fault.kind in kinds and self.hits(fault):
                return fault
        return None

    def hits(self, fault: Fault) -> bool:
        """Decide whether a fault hits one thing that passes."""
        return self.rng.random() < fault.share

    def fire(self, kind: Kind, connection: str | None = None) -> None:
        """Count a fault that has had its effect, and note whom it hurt."""
        self.fired[kind] += 1
        if connection is not None:
            self.hurt.add(connection)

    async def delay(self, connection: str | None = None) -> None:
        """Hold up what passes if the link is slow."""
        fault = self.draw(Kind.LATENCY)
        if fault is not None:
            self.fire(Kind.LATENCY, connection)
            await asyncio.sleep(fault.delay_s)
