"""A client that follows a stream the way the contract says a client may, and records all that it was told.

It shares no code with `infra.local.follow`: it reads the wire by itself, comes back as a browser does, and what it
recorded can be judged.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import urlencode

from infra.chaos.event_stream import EventStreamReader, Frame
from infra.chaos.http_proxy import CONNECTION
from infra.chaos.origin import Origin
from infra.chaos.pushes import Key
from infra.local.loopback import shut
from shared.position import Position

_READ_BYTES = 65_536
_OK = 200
#: What it waits after an attempt that brought nothing, s.
_PAUSE_S = (0.05, 0.2)
#: Before a stream says what its heartbeat is.
_HEARTBEAT_S = 15
#: By the contract: a client that hears nothing for so many heartbeats reconnects.
_SILENT_HEARTBEATS = 3


@dataclass(frozen=True, slots=True)
class Arrival:
    """One event as it came, whether it was seen before or not. ``at`` is Unix seconds."""

    key: Key
    topic: str
    position: Position
    at: float


class End(Enum):
    """How a connection ended."""

    OPEN = "it has not"
    BODY = "the body came to its proper end"
    BROKEN = "it broke"
    REFUSED = "no connection was to be had"
    SILENCE = "nothing was heard for too long"
    LEFT = "the client left"


@dataclass(slots=True)
class Connection:
    """One connection: what was asked, and all that came. Times are Unix seconds."""

    cursor: str | None
    """What it resumed from, if anything."""
    asked_at: float
    name: str = ""
    status: int | None = None
    hello: dict[str, Any] | None = None
    hello_at: float = 0.0
    ids: list[Position] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    gaps: list[dict[str, Any]] = field(default_factory=list)
    byes: list[dict[str, Any]] = field(default_factory=list)
    retries: list[str] = field(default_factory=list)
    heartbeats: int = 0
    end: End = End.OPEN
    ended_at: float = 0.0
    inside_frame: bool = False
    """Whether it broke off inside a frame."""

    @property
    def closed(self) -> bool:
        """Whether it is over."""
        return self.end is not End.OPEN

    @property
    def left(self) -> bool:
        """Whether the client itself ended it."""
        return self.end is End.LEFT

    @property
    def ended(self) -> bool:
        """Whether the body came to its proper end."""
        return self.end is End.BODY


class Resume(Enum):
    """How a client says where it was."""

    HEADER = "Last-Event-ID"
    """As a native EventSource that comes back."""
    QUERY = "last_event_id"
    """As a new EventSource."""
    ACKED = "acked"
    """It leaves it to what it has acknowledged."""


class StreamClient:
    """Follows ``topics`` for as long as `run` runs.

    ``obeys_retry`` makes it wait as a browser would, instead of coming back at once. With ``leaves_after_s``, a
    range, it leaves by itself now and then, and comes back at once. ``asks`` is what else stands in its query.
    """

    def __init__(
        self,
        origin: Origin,
        topics: Sequence[str],
        *,
        name: str,
        token: str,
        headers: Mapping[str, str] | None = None,
        resume: Resume = Resume.QUERY,
        obeys_retry: bool = True,
        leaves_after_s: tuple[float, float] | None = None,
        cursor: str | None = None,
        start: str = "now",
        asks: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.topics = tuple(topics)
        self.connections: list[Connection] = []
        self.events: dict[Key, Arrival] = {}
        """The first arrival of each event."""
        self.cursor = cursor
        self.origin = origin
        self.resume = resume
        self._token = token
        self._headers = dict(headers or {})
        self._obeys_retry = obeys_retry
        self._leaves_after_s = leaves_after_s
        self._start = start
        self._asks = dict(asks or {})
        self._retry_ms = 2000
        self.acked: str | None = None
        """The last cursor that is known to be acknowledged, for a client that resumes from there."""

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
        """Follow, reconnecting, until cancelled or told not to come back. Raises ValueError for what is no stream."""
        while True:
            connection = await self.connect_once()
            if any(not bye["reconnect"] for bye in connection.byes):
                return
            if connection.end is End.LEFT:
                continue
            if self._obeys_retry:
                await asyncio.sleep(self._retry_ms / 1000)
            elif connection.hello is None:
                await asyncio.sleep(random.uniform(*_PAUSE_S))  # noqa: S311 - jitter, not a secret

    async def connect_once(self) -> Connection:
        """Follow on one connection until it ends."""
        number = len(self.connections)
        cursor = self.acked if self.resume is Resume.ACKED else self.cursor
        connection = Connection(cursor, time.time(), f"{self.name}-{number}")
        self.connections.append(connection)
        reader = EventStreamReader()
        try:
            bytes_in, bytes_out = await self.origin.connect()
        except OSError:
            connection.end, connection.ended_at = End.REFUSED, time.time()
            return connection
        end = End.LEFT  # if it is cancelled
        try:
            bytes_out.write(self._request(connection))
            end = await self._read(connection, reader, bytes_in)
        finally:
            connection.end, connection.ended_at = end, time.time()
            connection.status = reader.status
            connection.inside_frame = reader.inside_frame
            await shut(bytes_out)
        return connection

    def _request(self, connection: Connection) -> bytes:
        query = [("topic", topic) for topic in self.topics] + [("client", self.name), *self._asks.items()]
        resume: list[str] = []
        if self.cursor is None:
            query.append(("from", self._start))
        elif self.resume is Resume.QUERY:
            query.append(("last_event_id", self.cursor))
        elif self.resume is Resume.ACKED:
            query.append(("from", "acked"))
        else:
            resume = [f"Last-Event-ID: {self.cursor}"]
        lines = [
            f"GET /events?{urlencode(query)} HTTP/1.1",
            f"Host: {self.origin.authority}",
            "Accept: text/event-stream",
            f"Authorization: Bearer {self._token}",
            f"{CONNECTION}: {connection.name}",
            *resume,
            *(f"{name}: {value}" for name, value in self._headers.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode()

    async def _read(self, connection: Connection, reader: EventStreamReader, source: asyncio.StreamReader) -> End:
        """Read until the connection ends, and say how."""
        loop = asyncio.get_running_loop()
        leave_at = loop.time() + random.uniform(*self._leaves_after_s) if self._leaves_after_s else None  # noqa: S311
        while True:
            hello = connection.hello or {}
            silent_at = loop.time() + _SILENT_HEARTBEATS * hello.get("heartbeat_s", _HEARTBEAT_S)
            leaves_first = leave_at is not None and leave_at < silent_at
            try:
                async with asyncio.timeout_at(leave_at if leaves_first else silent_at):
                    data = await source.read(_READ_BYTES)
            except TimeoutError:
                return End.LEFT if leaves_first else End.SILENCE
            except OSError:
                return End.BROKEN
            if not data:
                return End.BODY if reader.ended else End.BROKEN
            frames = reader.feed(data)
            connection.status = reader.status
            if reader.status == _OK and reader.headers.get("content-type", "").startswith("text/event-stream"):
                for frame in frames:
                    self._take(connection, frame)
                # Who comes back at once would only meet the same process, which may be about to end.
                if reader.ended and self._obeys_retry:
                    return End.BODY
            elif reader.ended or reader.status != _OK:
                return End.BROKEN

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
        self.took(data)

    def took(self, envelope: Mapping[str, Any]) -> None:
        """Hear of an event that was taken."""
