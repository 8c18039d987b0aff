"""A client that follows a stream the way the contract says a client may, and records all that it was told.

It shares no code with `infra.local.follow`: it reads the wire by itself, reconnects at once with the last ``id:``
of a complete frame, and drops envelopes (source and id) that it has seen. What it recorded is judged by `faults`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from infra.chaos.event_stream import EventStreamReader, Frame
from infra.local.loopback import HOST, shut
from shared.position import Position
from shared.tokens import mint
from tests.support.stack import BYPASS_SECRET, KID, TOKEN_KEY
from tests.support.waiting import until

#: What makes two deliveries the same event: CloudEvents' source and id.
Key = tuple[str, str]

_TOKEN_LIFE_S = 3600
_READ_BYTES = 65_536
#: What it waits after an attempt that brought nothing, s.
_PAUSE_S = (0.05, 0.2)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One event as it came, whether it was seen before or not. ``at`` is Unix seconds."""

    key: Key
    topic: str
    position: Position
    at: float


@dataclass(slots=True)
class Connection:
    """One connection: what was asked, and all that came. Times are Unix seconds."""

    cursor: str | None
    asked_at: float
    status: int | None = None
    hello: dict[str, Any] | None = None
    hello_at: float = 0.0
    ids: list[Position] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    gaps: list[dict[str, Any]] = field(default_factory=list)
    byes: list[dict[str, Any]] = field(default_factory=list)
    retries: list[str] = field(default_factory=list)
    heartbeats: int = 0
    ended: bool = False
    """Whether the body came to its proper end."""
    inside_frame: bool = False
    """Whether it broke off inside a frame."""
    closed: bool = False


class Recorder:
    """Follows ``topics`` through a port for as long as `run` runs.

    ``naive`` makes the mistake that the contract warns of: it resumes from the position of the last event it got.
    ``obeys_retry`` makes it wait as a browser would, instead of coming back at once. ``key`` signs its token (kid and
    secret).
    """

    def __init__(
        self,
        port: int,
        topics: Sequence[str],
        *,
        name: str,
        naive: bool = False,
        obeys_retry: bool = False,
        cursor: str | None = None,
        start: str = "now",
        key: tuple[str, str] = (KID, TOKEN_KEY),
    ) -> None:
        self.name = name
        self.topics = tuple(topics)
        self.connections: list[Connection] = []
        self.events: dict[Key, Arrival] = {}
        """The first arrival of each event."""
        self.cursor = cursor
        self.port = port
        self.naive = naive
        self._obeys_retry = obeys_retry
        self._start = start
        self._retry_ms = 2000
        kid, secret = key
        self._token = mint(name, self.topics, kid=kid, key=secret, ttl_s=_TOKEN_LIFE_S, now=time.time())

    @property
    def current(self) -> Connection:
        """The connection that is open, or was last."""
        return self.connections[-1]

    @property
    def greeted(self) -> bool:
        """Whether it has a cursor to come back with."""
        return self.cursor is not None

    @property
    def live(self) -> bool:
        """Whether its connection is open and was greeted."""
        return bool(self.connections) and self.current.hello is not None and not self.current.closed

    @property
    def gaps(self) -> list[dict[str, Any]]:
        """Every gap that it was told of."""
        return [gap for connection in self.connections for gap in connection.gaps]

    @property
    def byes(self) -> list[dict[str, Any]]:
        """Every goodbye that it was told."""
        return [bye for connection in self.connections for bye in connection.byes]

    async def run(self) -> None:
        """Follow, reconnecting, until cancelled or told not to come back."""
        while True:
            connection = await self.connect_once()
            if any(not bye["reconnect"] for bye in connection.byes):
                return
            if self._obeys_retry:
                await asyncio.sleep(self._retry_ms / 1000)
            elif connection.hello is None:
                await asyncio.sleep(random.uniform(*_PAUSE_S))

    async def connect_once(self) -> Connection:
        """Follow on one connection until it ends."""
        connection = Connection(self.cursor, time.time())
        self.connections.append(connection)
        reader = EventStreamReader()
        try:
            bytes_in, bytes_out = await asyncio.open_connection(HOST, self.port)
        except OSError:
            connection.closed = True
            return connection
        try:
            bytes_out.write(self._request())
            while data := await bytes_in.read(_READ_BYTES):
                for frame in reader.feed(data):
                    self._take(connection, frame)
        except OSError:
            pass  # cut
        finally:
            connection.closed = True
            connection.status = reader.status
            connection.ended = reader.ended
            connection.inside_frame = reader.inside_frame
            await shut(bytes_out)
        return connection

    def _request(self) -> bytes:
        query = [("topic", topic) for topic in self.topics] + [("client", self.name)]
        query.append(("from", self._start) if self.cursor is None else ("last_event_id", self.cursor))
        lines = [
            f"GET /events?{urlencode(query)} HTTP/1.1",
            f"Host: {HOST}:{self.port}",
            "Accept: text/event-stream",
            f"Authorization: Bearer {self._token}",
            # It comes back as often as the test's faults make it, which no browser would.
            f"X-Tidemark-Bypass: {BYPASS_SECRET}",
        ]
        return "\r\n".join([*lines, "", ""]).encode()

    def _take(self, connection: Connection, frame: Frame) -> None:
        if frame.id is not None:
            connection.ids.append(Position.parse(frame.id))
            self.cursor = frame.id
        if frame.retry is not None:
            connection.retries.append(frame.retry)
            self._retry_ms = int(frame.retry)
        if frame.data is None:
            return
        data = json.loads(frame.data)
        match frame.name:
            case "message":
                self._take_event(connection, data)
            case "tidemark.hello":
                connection.hello, connection.hello_at = data, time.time()
            case "tidemark.hb":
                connection.heartbeats += 1
            case "tidemark.gap":
                connection.gaps.append(data)
            case "tidemark.bye":
                connection.byes.append(data)
            case other:
                raise ValueError(f"an event that the contract does not know: {other}")

    def _take_event(self, connection: Connection, data: Mapping[str, Any]) -> None:
        position = Position.parse(data["position"])
        arrival = Arrival((data["source"], data["id"]), data["topic"], position, time.time())
        connection.arrivals.append(arrival)
        self.events.setdefault(arrival.key, arrival)
        if self.naive:
            self.cursor = data["position"]


@contextlib.asynccontextmanager
async def following(*recorders: Recorder, greeted_in_s: float = 20.0) -> AsyncIterator[None]:
    """Run recorders; they follow when this begins, and have stopped when it ends."""
    tasks = [asyncio.ensure_future(recorder.run()) for recorder in recorders]
    try:
        await until(
            lambda: all(r.greeted for r in recorders) or any(task.done() for task in tasks),
            "every client has been greeted",
            timeout_s=greeted_in_s,
        )
        yield
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        # What a recorder could not read is a fault of the stream.
        if isinstance(end, Exception):
            raise end


def missing(recorder: Recorder, expected: Collection[Key]) -> set[Key]:
    """Give the events that a client should have and has not."""
    return set(expected) - recorder.events.keys()


def faults(recorder: Recorder, expected: Mapping[Key, str | None]) -> list[str]:
    """Judge what a client recorded; an empty list means that every promise was kept.

    ``expected`` are the events of its topics, each with the position that its push was answered with, if any.
    """
    found: list[str] = []
    name = recorder.name
    lost = missing(recorder, expected)
    if lost:
        found.append(f"{name}: {len(lost)} of {len(expected)} events never came, such as {min(lost)}")
    surplus = recorder.events.keys() - expected.keys()
    if surplus:
        found.append(f"{name}: {len(surplus)} events came that nobody sent, such as {min(surplus)}")
    found += [f"{name}: was told of a gap, {gap}" for gap in recorder.gaps]
    found += _faults_of_positions(recorder, expected)
    if not recorder.naive:
        found += _faults_of_cursors(recorder)
    return found


def _faults_of_positions(recorder: Recorder, expected: Mapping[Key, str | None]) -> list[str]:
    found: list[str] = []
    for number, connection in enumerate(recorder.connections):
        newest: dict[str, Position] = {}
        for arrival in connection.arrivals:
            if arrival.topic not in recorder.topics:
                found.append(f"{recorder.name}: an event of {arrival.topic}, which it does not follow")
            if arrival.topic in newest and arrival.position <= newest[arrival.topic]:
                found.append(
                    f"{recorder.name}: connection {number}: {arrival.position} after {newest[arrival.topic]}"
                )
            newest[arrival.topic] = arrival.position
            first = recorder.events[arrival.key].position
            if arrival.position != first:
                found.append(f"{recorder.name}: {arrival.key} stands at {first} and again at {arrival.position}")
            answered = expected.get(arrival.key)
            if answered is not None and answered != str(arrival.position):
                found.append(f"{recorder.name}: {arrival.key} came at {arrival.position}, acknowledged at {answered}")
    return found


def _faults_of_cursors(recorder: Recorder) -> list[str]:
    """Find ids that go back, on one connection or from one to the next, and a hello that is not the first id."""
    found: list[str] = []
    last: Position | None = None
    for number, connection in enumerate(recorder.connections):
        for cursor in connection.ids:
            if last is not None and cursor < last:
                found.append(f"{recorder.name}: connection {number}: the id went back from {last} to {cursor}")
            last = cursor
        if connection.hello is not None:
            greeted = connection.hello["cursor"]
            if greeted != str(connection.ids[0]):
                found.append(f"{recorder.name}: hello says {greeted}, its id {connection.ids[0]}")
            if connection.cursor not in (None, greeted) and not connection.gaps:
                found.append(f"{recorder.name}: resumed from {connection.cursor}, was greeted with {greeted}")
    return found


def resumes(recorders: Iterable[Recorder]) -> list[Connection]:
    """Give every connection that resumed from a cursor and was greeted."""
    return [c for recorder in recorders for c in recorder.connections if c.cursor is not None and c.hello is not None]


def live_resumes(recorders: Sequence[Recorder]) -> int:
    """Count the resumes during which an event of their topics was appended: after the request, before the greeting.

    A position tells when Redis appended it, by the clock of this machine.
    """
    appended: dict[str, set[int]] = {}
    for recorder in recorders:
        for arrival in recorder.events.values():
            appended.setdefault(arrival.topic, set()).add(arrival.position.ms)
    count = 0
    for recorder in recorders:
        times = [ms for topic in recorder.topics for ms in appended.get(topic, ())]
        for connection in resumes([recorder]):
            began, greeted = connection.asked_at * 1000, connection.hello_at * 1000
            count += any(began < ms < greeted for ms in times)
    return count
