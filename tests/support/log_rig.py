"""What the tests of the log, the hub and the streams share: names of one's own, logs, direct looks at Redis."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import hiredis

from infra.local.resp import Argument, RespClient, RespConnectionLostError
from shared.entry import Gap, Reading
from shared.errors import LogUnavailableError
from shared.keys import Keys
from shared.log import Appended, From, Log
from shared.position import Position
from shared.retention import Retention
from shared.upstash import Upstash
from tests.support.faulty_gateway import plain_upstash

DAY_S = 86_400
KEEP = Retention(keep_s=DAY_S, topic_max_events=1000, dedupe_s=DAY_S)
SUBSCRIPTION = "projects/p/subscriptions/s"


def own_stage() -> str:
    """Give a stage that no other test has."""
    return f"t{uuid.uuid4().hex[:12]}"


def envelope(number: int | str, *, topic: str = "", size: int = 0) -> str:
    """Build a stored envelope that tells which event it is."""
    data: dict[str, Any] = {"id": str(number), "topic": topic}
    if size:
        data["filler"] = "x" * size
    return json.dumps(data, separators=(",", ":"))


def number_of(text: str) -> str:
    """Return what `envelope` was built from."""
    told: str = json.loads(text)["id"]
    return told


class Redis:
    """Redis itself, past the gateway. An error reply raises."""

    def __init__(self, url: str) -> None:
        self._client = RespClient(url)

    async def __call__(self, *command: Argument) -> Any:
        """Run one command; strings come as text."""
        return _text(await self.raw(*command))

    async def raw(self, *command: Argument) -> Any:
        """Run one command; strings come as bytes."""
        try:
            reply = await self._client.execute(*command)
        except RespConnectionLostError:  # the test has killed the server and started it again
            reply = await self._client.execute(*command)
        if isinstance(reply, hiredis.ReplyError):
            raise AssertionError(f"{command[0]!r}: {reply}")  # noqa: TRY004 - it fails the test
        return reply

    async def gone(self, key: str) -> None:
        """Let a key expire; return when it has."""
        await self("PEXPIRE", key, 1)
        while await self("EXISTS", key):
            pass

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()


def _text(reply: Any) -> Any:
    if isinstance(reply, bytes):
        return reply.decode()
    if isinstance(reply, list):
        return [_text(item) for item in reply]
    return reply


class DirectUpstash(Upstash):
    """The same commands past HTTP: for tests that fill a log quickly and are about something else."""

    def __init__(self, redis: Redis) -> None:
        self._redis_itself = redis

    async def execute(self, command: Sequence[str | int], *, timeout_s: float, idempotent: bool = True) -> Any:
        """Run one command. ``timeout_s`` and ``idempotent`` mean nothing here."""
        del timeout_s, idempotent
        return await self._redis_itself(*command)


_RESTORE = """
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end
for n = 2, #ARGV, 2 do redis.call('RESTORE', ARGV[n], 0, ARGV[n + 1]) end
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry as it lies in Redis."""

    position: Position
    prev: Position
    number: str


@dataclass(slots=True)
class Rig:
    """One stage: its keys, a client, and logs over it."""

    redis: Redis
    upstash: Upstash
    keys: Keys = field(default_factory=lambda: Keys(own_stage()))
    retention: Retention = KEEP
    _count: int = 0

    def on_new_stage(self) -> Rig:
        """Give the same on a stage that nobody has used."""
        return Rig(self.redis, self.upstash, retention=self.retention)

    async def warm_up(self, connections: int = 50) -> None:
        """Open so many connections, so that the test's own requests do not wait for them."""
        await asyncio.gather(*(self.upstash.ping(timeout_s=10) for _ in range(connections)))

    def log(self, *, now_ms: int | str = "", retention: Retention | None = None) -> Log:
        """Build a log that has seen nothing yet, as a new process would."""
        return Log(self.upstash, self.keys, retention or self.retention, now_ms=str(now_ms))

    def quick(self, *, now_ms: int | str = "", retention: Retention | None = None) -> Log:
        """Build a log that goes to Redis directly."""
        return Log(DirectUpstash(self.redis), self.keys, retention or self.retention, now_ms=str(now_ms))

    async def append_foreign(self, topic: str, *fields: str) -> Position:
        """Append an entry as a later version might write it, with these fields, and announce it."""
        clock = await self.position_at(self.keys.clock)
        position = Position(clock.ms, clock.seq + 1)
        prev = await self.redis("GET", self.keys.last(topic)) or "0-0"
        await self.redis("XADD", self.keys.log(topic), str(position), *fields)
        await self.redis("SET", self.keys.last(topic), str(position))
        await self.redis("SET", self.keys.clock, str(position))
        await self.redis("PUBLISH", self.keys.live(topic), f"9 {prev} {position} of a later version")
        return position

    async def append(self, log: Log, topic: str, number: int | str | None = None, *, size: int = 0) -> Appended:
        """Append an event that was never appended before, or the event of that number."""
        if number is None:
            self._count += 1
            number = self._count
        return await log.append(
            topic=topic,
            envelope=envelope(number, topic=topic, size=size),
            subscription=SUBSCRIPTION,
            message_id=str(number),
        )

    async def push(self, log: Log, topic: str, number: int | str) -> Appended:
        """Append as Pub/Sub does: again, until it is answered. For tests that keep a loaded machine busy."""
        for _ in range(20):
            with contextlib.suppress(LogUnavailableError):
                return await self.append(log, topic, number)
        return await self.append(log, topic, number)

    async def positions(self, log: Log, topic: str, count: int) -> list[Position]:
        """Append so many events one after the other."""
        return [(await self.append(log, topic)).position for _ in range(count)]

    def seen_key(self, number: int | str) -> str:
        """Return the dedupe key of an event."""
        return self.keys.seen(SUBSCRIPTION, str(number))

    async def snapshot(self) -> dict[str, bytes]:
        """Copy everything of this stage, as a backup or a replica that lags behind would."""
        names = await self.redis("KEYS", f"tidemark:{self.keys.stage}:*")
        return {name: await self.redis.raw("DUMP", name) for name in names}

    async def restore(self, copy: Mapping[str, bytes]) -> None:
        """Put an older copy in the place of everything, at once."""
        flat = [part for item in copy.items() for part in item]
        await self.redis("EVAL", _RESTORE, 0, f"tidemark:{self.keys.stage}:*", *flat)

    async def stored(self, topic: str) -> list[Stored]:
        """Return what the log of a topic holds."""
        found = await self.redis("XRANGE", self.keys.log(topic), "-", "+")
        entries = []
        for position, flat in found:
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            entries.append(Stored(Position.parse(position), Position.parse(fields["p"]), number_of(fields["e"])))
        return entries

    async def position_at(self, key: str) -> Position:
        """Return the position that a key holds."""
        return Position.parse(await self.redis("GET", key))


@asynccontextmanager
async def rig(redis_url: str, gateway_url: str, token: str, **more: Any) -> AsyncIterator[Rig]:
    """Give a rig with a stage of its own, and close what it holds."""
    redis = Redis(redis_url)
    upstash = plain_upstash(gateway_url, token)
    try:
        yield Rig(redis, upstash, **more)
    finally:
        await upstash.close()
        await redis.close()


def since(*topics: str, cursor: Position | str) -> dict[str, From]:
    """Ask for topics after one cursor, as a new client does."""
    return dict.fromkeys(topics, From(cursor))


def gaps_of(reading: Reading) -> list[Gap]:
    """Return the gaps of a reading."""
    return [topic.gap for topic in reading.topics if topic.gap is not None]


def found(reading: Reading) -> Mapping[str, list[Position]]:
    """Return the positions that a reading brought, by topic."""
    return {topic.topic: [entry.position for entry in topic.entries] for topic in reading.topics}


def rises(positions: Iterable[Position]) -> bool:
    """Tell whether positions rise strictly."""
    return all(a < b for a, b in itertools.pairwise(positions))
