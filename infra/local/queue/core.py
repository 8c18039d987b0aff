"""What all actions share: the database, the clock, who waits, and where the client is."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from infra.local.queue import limits, queues
from infra.local.queue.bells import Bells
from infra.local.queue.database import Database
from infra.local.queue.fields import Fields
from infra.local.queue.queues import Queue

T = TypeVar("T")
Answer = dict[str, Any]


class ClientLeftError(Exception):
    """The client went away; there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Where the client has reached the server, and a wait that ends when the client has gone."""

    base_url: str
    until_left: Callable[[], Awaitable[None]]


Action = Callable[[Fields, Asker], Awaitable[Answer]]


class Core:
    """One file of queues in one region. ``clock`` gives unix seconds."""

    def __init__(
        self, file: Path, *, region: str, clock: Callable[[], float], most_in_flight: int = limits.IN_FLIGHT
    ) -> None:
        self.database = Database(file)
        self.region = region
        self.most_in_flight = most_in_flight
        self.bells = Bells()
        self._clock = clock

    def now_ms(self) -> int:
        """Give the time in milliseconds."""
        return int(self._clock() * 1_000)

    def now_s(self) -> int:
        """Give the time in seconds."""
        return int(self._clock())

    async def on_queue(self, name: str, work: Callable[[sqlite3.Connection, Queue], T], *, ring: bool = False) -> T:
        """Do work on a queue; afterwards let those who wait for its messages look. Raises what the work raises."""
        result = await self.database.run(lambda connection: work(connection, queues.find(connection, name)))
        if ring:
            self.bells.ring(name)
        return result
