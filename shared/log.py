"""The log: every event for its retention time, each topic on its own, one order over all of them.

Each operation is one atomic script and so one HTTP request, and may be repeated freely. The log watches its own
memory: it knows the highest position it has ever seen, sends it along with each script, and a Redis that has
fallen behind it (a failover, a restored copy) is fenced by that very script.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from shared.breaker import Breaker
from shared.coalesce import Coalescer
from shared.entry import FORMAT, READABLE_FORMATS, Entry, Gap, Reading, TopicRead
from shared.errors import (
    BadCursorError,
    CursorAheadError,
    LogDefectError,
    LogUnavailableError,
    TokenRevokedError,
    Trouble,
)
from shared.keys import Keys, digest
from shared.position import ZERO, Position
from shared.retention import Retention
from shared.scripts import script
from shared.upstash import Upstash

logger = logging.getLogger("tidemark.log")

T = TypeVar("T")

APPEND_TIMEOUT_S = 1.5
#: After a failure, until Redis has answered once: who comes next waits less for nothing.
FAILING_TIMEOUT_S = 0.5
READ_TIMEOUT_S = 3.0
MAX_READ_BYTES = 1_000_000
MAX_READ_TOPICS = 500
#: A glance lists so many revocations; whoever gets as many asks again, for those after the last one.
MAX_REVOCATIONS = 1000
#: No token lives longer than a day, give or take a clock.
KEEP_REVOCATIONS_MS = 25 * 3600 * 1000
_NEVER_S = 2**43
_PARALLEL_READS = 8

#: Where a read may begin besides a position.
EARLIEST = "earliest"
NOW = "now"


@dataclass(frozen=True, slots=True)
class Appended:
    """Where an event stands, and whether it stood there before."""

    position: Position
    duplicate: bool


@dataclass(frozen=True, slots=True)
class From:
    """Where to read a topic from: a cursor, `EARLIEST` or `NOW`.

    ``born_told`` is the beginning of the log's memory that this reader was already told a gap for.
    """

    cursor: Position | str
    born_told: Position = ZERO


@dataclass(frozen=True, slots=True)
class Revocation:
    """From when on the tokens that a user had before count no more. ``user`` is hashed; ``at_ms`` is Unix time."""

    user: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Glance:
    """The log's clock, when its memory begins, and what was revoked since the moment that was asked for."""

    clock: Position
    born: Position
    revocations: tuple[Revocation, ...]


@dataclass(frozen=True, slots=True)
class _Query:
    topics: tuple[tuple[str, From], ...]
    limit: int
    user: str | None

    @property
    def weight(self) -> int:
        return max(1, len(self.topics))


class Log:
    """The log of one stage, behind an Upstash client and, where one is given, a circuit breaker.

    While the breaker is open every operation raises CircuitOpenError, a LogUnavailableError, at once.
    """

    def __init__(
        self, upstash: Upstash, keys: Keys, retention: Retention, *, breaker: Breaker | None = None, now_ms: str = ""
    ) -> None:
        """``now_ms`` replaces the server's time in every script; it is for tests."""
        self._upstash = upstash
        self._breaker = breaker
        self._keys = keys
        self._retention = retention
        self._now_ms = now_ms
        self._seen = ZERO
        self._reads = Coalescer(
            self._read_together, parallel=_PARALLEL_READS, weight=lambda query: query.weight, most=MAX_READ_TOPICS
        )

    @property
    def is_failing(self) -> bool:
        """Whether the last operation that showed anything has failed."""
        return self._breaker is not None and self._breaker.is_failing

    @property
    def append_timeout_s(self) -> float:
        """How long an append may take just now."""
        return FAILING_TIMEOUT_S if self.is_failing else APPEND_TIMEOUT_S

    def hear_of_life(self) -> None:
        """Note that Redis has answered elsewhere (on the live feed): an open breaker lets the next call try."""
        if self._breaker is not None:
            self._breaker.hear_of_life()

    def saw(self, position: Position) -> None:
        """Note a position that this log gave out, learned elsewhere (from the live feed)."""
        self._seen = max(self._seen, position)

    async def append(
        self, *, topic: str, envelope: str, subscription: str, message_id: str, timeout_s: float = APPEND_TIMEOUT_S
    ) -> Appended:
        """Append an event unless this message of this subscription was appended within the dedupe time.

        Raises LogUnavailableError or LogDefectError; then it may or may not be stored, and may be sent again.
        """
        keys = self._keys

        def appended(answer: Any) -> Appended:
            position, before, clock = answer
            self.saw(Position.parse(clock))
            return Appended(Position.parse(position), duplicate=before == "1")

        return await self._run(
            "append",
            [keys.clock, keys.born, keys.log(topic), keys.last(topic), keys.seen(subscription, message_id)],
            [
                str(self._seen),
                FORMAT,
                envelope,
                keys.live(topic),
                self._retention.dedupe_s,
                self._retention.topic_max_events,
                self._retention.keep_s,
                self._retention.memory_s,
                self._now_ms,
            ],
            appended,
            timeout_s=timeout_s,
        )

    async def read(self, topics: Mapping[str, From], *, limit: int, user: str | None = None) -> Reading:
        """Read what topics hold after their cursors: about ``limit`` entries at most, and 1 MB.

        With a ``user`` the reading says when that user's tokens were revoked.
        Reads that pile up are made together, so a topic may bring some more entries than the limit. Raises
        LogUnavailableError or LogDefectError, and ValueError beyond `MAX_READ_TOPICS`.
        """
        if len(topics) > MAX_READ_TOPICS:
            raise ValueError(f"at most {MAX_READ_TOPICS} topics a read")
        query = _Query(tuple(topics.items()), limit, user)
        try:
            return await self._reads.call(query)
        except LogDefectError:
            # It may be that of another read, made together with this one.
            return (await self._read_together([query]))[0]

    async def _read_together(self, queries: Sequence[_Query]) -> list[Reading]:
        """Run the read script once for several queries."""
        users = [digest(query.user) for query in queries if query.user is not None]
        keys = [self._keys.clock, self._keys.born, self._keys.revoked]
        args = self._read_args(sum(query.limit for query in queries), users)
        for query in queries:
            for topic, start in query.topics:
                keys += [self._keys.log(topic), self._keys.last(topic)]
                args += [str(start.cursor), str(start.born_told)]

        def readings(answer: Any) -> list[Reading]:
            clock_text, born_text, topics, moments, _ = answer
            clock, born = Position.parse(clock_text), Position.parse(born_text)
            named = [topic for query in queries for topic, _ in query.topics]
            read = iter([_topic_read(topic, of, clock, born) for topic, of in zip(named, topics, strict=True)])
            revoked_at = dict(zip(users, [_revoked_at(moment) for moment in moments], strict=True))
            self.saw(clock)
            return [
                Reading(
                    clock,
                    born,
                    tuple(islice(read, len(query.topics))),
                    None if query.user is None else revoked_at[digest(query.user)],
                )
                for query in queries
            ]

        return await self._run("read", keys, args, readings, timeout_s=READ_TIMEOUT_S)

    async def glance(self, *, revoked_after_ms: int) -> Glance:
        """Ask how far the log is, and what was revoked after a moment, oldest first: `MAX_REVOCATIONS` at most.

        Raises LogUnavailableError or LogDefectError.
        """

        def glance(answer: Any) -> Glance:
            clock, born, _, _, found = answer
            revocations = tuple(
                Revocation(user, int(float(at))) for user, at in zip(found[::2], found[1::2], strict=True)
            )
            self.saw(Position.parse(clock))
            return Glance(Position.parse(clock), Position.parse(born), revocations)

        return await self._run(
            "read",
            [self._keys.clock, self._keys.born, self._keys.revoked],
            self._read_args(1, [], revoked_after_ms=str(revoked_after_ms)),
            glance,
            timeout_s=READ_TIMEOUT_S,
        )

    def _read_args(self, limit: int, users: Sequence[str], *, revoked_after_ms: str = "") -> list[str | int]:
        return [
            str(self._seen),
            self._now_ms,
            limit,
            MAX_READ_BYTES,
            self._retention.memory_s,
            revoked_after_ms,
            MAX_REVOCATIONS,
            len(users),
            *users,
        ]

    async def revoke(self, user: str) -> Revocation:
        """Let no token count any more that this user has now. Raises LogUnavailableError or LogDefectError."""
        return await self._run(
            "revoke",
            [self._keys.revoked],
            [digest(user), self._now_ms, KEEP_REVOCATIONS_MS],
            lambda moment: Revocation(digest(user), int(moment)),
            timeout_s=READ_TIMEOUT_S,
        )

    async def ack(self, user: str, client: str, cursor: Position, *, issued_at: float = math.inf) -> Position:
        """Keep a client's cursor for the retention time and return the one kept: it never moves backwards.

        Raises CursorAheadError when it lies beyond the clock, and TokenRevokedError when the user's tokens were
        revoked after ``issued_at``, in Unix seconds.
        """

        def acked(answer: Any) -> tuple[str, Position | None]:
            kept, clock = answer
            self.saw(Position.parse(clock))
            return kept, Position.parse(kept) if kept and kept != "revoked" else None

        kept, position = await self._run(
            "ack",
            [self._keys.clock, self._keys.born, self._keys.ack(user, client), self._keys.revoked],
            [
                str(self._seen),
                self._now_ms,
                str(cursor),
                self._retention.keep_s,
                digest(user),
                str(min(issued_at, _NEVER_S) * 1000),
            ],
            acked,
            timeout_s=READ_TIMEOUT_S,
        )
        if position is not None:
            return position
        if kept:
            raise TokenRevokedError("The tokens that this user had were revoked.")
        raise CursorAheadError(f"The log has not come to {cursor} yet.")

    async def acked(self, user: str, client: str) -> Position | None:
        """Return the cursor that a client has acknowledged, if one is kept."""
        return await self._execute(
            ["GET", self._keys.ack(user, client)],
            lambda kept: None if kept is None else Position.parse(kept),
            timeout_s=READ_TIMEOUT_S,
        )

    async def fence(self, lost: Position) -> None:
        """Say that an event at ``lost`` was seen and is gone: every cursor up to now is told of a gap."""

        def fenced(answer: Any) -> None:
            clock, _born = answer
            self.saw(Position.parse(clock))

        await self._run(
            "fence",
            [self._keys.clock, self._keys.born],
            [str(self._seen), self._now_ms, str(lost)],
            fenced,
            timeout_s=READ_TIMEOUT_S,
        )

    async def forget(self, topic: str) -> int:
        """Erase what a topic holds and return how many events that were. Every older cursor is told of a gap.

        Raises LogUnavailableError or LogDefectError; then it may or may not be erased, and may be tried again.
        """
        keys = [self._keys.log(topic), self._keys.last(topic)]
        return await self._run("forget", keys, [self._retention.memory_s], int, timeout_s=READ_TIMEOUT_S)

    async def settle(self) -> None:
        """Wait until nothing is under way to Redis that nobody waits for."""
        await self._upstash.settle()

    async def close(self) -> None:
        """Close every connection to Redis."""
        await self._upstash.close()

    async def check(self, *, timeout_s: float = 1.0) -> None:
        """Raise LogUnavailableError unless Redis answers."""
        await self._upstash.ping(timeout_s=timeout_s)

    async def _run(
        self, name: str, keys: Sequence[str], args: Sequence[str | int], read: Callable[[Any], T], *, timeout_s: float
    ) -> T:
        return await self._execute(["EVAL", script(name), len(keys), *keys, *args], read, timeout_s=timeout_s)

    async def _execute(self, command: Sequence[str | int], read: Callable[[Any], T], *, timeout_s: float) -> T:
        """Run a command and read its answer: one that cannot be ours is no sign of life for the breaker."""

        async def work() -> T:
            answer = await self._upstash.execute(command, timeout_s=timeout_s)
            with _readable():
                return read(answer)

        return await (work() if self._breaker is None else self._breaker.call(work))


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Read an answer inside of this. Raises LogUnavailableError for one that our script cannot have given.

    Then something else has answered in Redis's place: whatever it was, it is no fault of the caller's request.
    """
    try:
        yield
    except (BadCursorError, ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise LogUnavailableError("Redis answered with something unreadable", Trouble.UNREADABLE) from error


def _revoked_at(moment_ms: str) -> float | None:
    return float(moment_ms) / 1000 if moment_ms else None


def _topic_read(topic: str, answer: Sequence[Any], clock: Position, born: Position) -> TopicRead:
    start_text, after, resume, more, *found = answer
    start = Position.parse(start_text)
    gap = Gap(topic, Position.parse(after), Position.parse(resume), born) if after else None
    truncated = more == "1"
    entries: list[Entry] = []
    unreadable: Position | None = None
    for position_text, fmt, prev, envelope in found:
        position = Position.parse(position_text)
        if fmt in READABLE_FORMATS:
            entries.append(Entry(topic, position, Position.parse(prev), envelope))
        elif entries:
            # A later version wrote this one. Stop before it, so that the next read begins with its gap.
            truncated = True
            break
        else:
            logger.warning("an entry of a later format was skipped", extra={"format": fmt})
            unreadable = position
    if unreadable is not None:
        gap = Gap(topic, gap.after if gap else start, unreadable, born)
    if not truncated:
        end = clock
    elif entries:
        end = entries[-1].position
    else:
        end = unreadable or start
    return TopicRead(topic, start, gap, tuple(entries), end, truncated)


def parse_live(topic: str, message: str) -> Entry:
    """Read a live message ``<format> <prev> <position> <envelope>``. Raises ValueError if it is not one."""
    fmt, prev, position, envelope = message.split(" ", 3)
    if fmt not in READABLE_FORMATS:
        raise ValueError(f"live message of format {fmt}")
    return Entry(topic, Position.parse(position), Position.parse(prev), envelope)
