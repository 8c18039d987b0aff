"""Clients that speak to the replay function: one that polls for events, and the acks of one that streams."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from infra.chaos.poster import Poster, Reply
from infra.chaos.pushes import Key
from infra.chaos.stream_client import Arrival, Connection, End, Resume, StreamClient
from shared.position import Position

TIMEOUT_S = 10.0
_PAUSE_S = 0.25
_OK = 200
_TAKEN = 204
_ACK_SHARE = 0.3
_ACKED_SHARE = 0.15
#: What the function may say of itself while a part behind it is away.
_MAY_SAY = frozenset({_OK, _TAKEN, 503})


async def attempt(poster: Poster, path: str, body: Any = None) -> Reply | None:
    """Ask once; None when nothing of use was answered."""
    try:
        if body is None:
            return await poster.get(path, timeout_s=TIMEOUT_S)
        return await poster.post(path, body, timeout_s=TIMEOUT_S)
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
        return None


def strange(reply: Reply | None) -> bool:
    """Whether the function has said what it should never say."""
    return reply is not None and not reply.injected and reply.status not in _MAY_SAY


class Poller:
    """Asks for the events of ``topics`` page by page; now and then it says how far it is, and goes on from there.

    Each page is recorded as a connection of its own.
    """

    def __init__(self, poster: Poster, topics: Sequence[str], *, name: str, seed: int) -> None:
        self.name = name
        self.topics = tuple(topics)
        self.resume = Resume.QUERY
        self.connections: list[Connection] = []
        self.events: dict[Key, Arrival] = {}
        self.cursor: str | None = None
        self.strange: list[str] = []
        self._acked: str | None = None
        self._poster = poster
        self._rng = random.Random(seed)  # noqa: S311 - as repeatable as the timing allows

    @property
    def greeted(self) -> bool:
        """Whether it has a cursor."""
        return self.cursor is not None

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            more = await self._page()
            if self.cursor is not None and self._rng.random() < _ACK_SHARE:
                await self._ack(self.cursor)
            if not more:
                await asyncio.sleep(_PAUSE_S)

    async def _page(self) -> bool:
        """Ask for one page. Returns whether there is more."""
        from_ack = self._acked is not None and self._rng.random() < _ACKED_SHARE
        after = "acked" if from_ack else self.cursor or "earliest"
        query = [("topic", topic) for topic in self.topics]
        query += [("after", after), ("client", self.name), ("limit", str(self._rng.randint(1, 100)))]
        connection = Connection(self._acked if from_ack else self.cursor, time.time())
        reply = await attempt(self._poster, f"/replay?{urlencode(query)}")
        if strange(reply):
            self.strange.append(f"{self.name}: /replay answered {reply}")
        if reply is None or reply.injected or reply.status != _OK or not isinstance(reply.said, dict):
            return False
        connection.name = f"{self.name}-{len(self.connections)}"
        connection.end, connection.ended_at = End.LEFT, time.time()
        self.connections.append(connection)
        self._take(connection, reply.said)
        return bool(reply.said["more"])

    def _take(self, connection: Connection, page: dict[str, Any]) -> None:
        for envelope in page["events"]:
            key, position = (envelope["source"], envelope["id"]), Position.parse(envelope["position"])
            arrival = Arrival(key, envelope["topic"], position, time.time())
            connection.arrivals.append(arrival)
            self.events.setdefault(key, arrival)
        connection.gaps += page["gaps"]
        self.cursor = page["cursor"]
        connection.ids.append(Position.parse(page["cursor"]))

    async def _ack(self, cursor: str) -> None:
        reply = await attempt(self._poster, "/ack", {"cursor": cursor, "client": self.name})
        if strange(reply):
            self.strange.append(f"{self.name}: /ack of {cursor} answered {reply}")
        if reply is not None and reply.status == _TAKEN:
            self._acked = cursor


class AckingClient(StreamClient):
    """Follows a stream, says now and then how far it is, and leaves it to that where it resumes."""

    def __init__(self, poster: Poster, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, resume=Resume.ACKED, **more)
        self.strange: list[str] = []
        self._poster = poster

    async def run(self) -> None:
        """Follow, and acknowledge beside it."""
        acknowledging = asyncio.ensure_future(self._acknowledge())
        try:
            await super().run()
        finally:
            acknowledging.cancel()
            await asyncio.gather(acknowledging, return_exceptions=True)

    async def _acknowledge(self) -> None:
        while True:
            await asyncio.sleep(_PAUSE_S)
            cursor = self.cursor
            if cursor is None or cursor == self.acked:
                continue
            reply = await attempt(self._poster, "/ack", {"cursor": cursor, "client": self.name})
            if strange(reply):
                self.strange.append(f"{self.name}: /ack of {cursor} answered {reply}")
            if reply is not None and reply.status == _TAKEN:
                self.acked = cursor
