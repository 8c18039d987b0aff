"""The log: every event for its retention time, each topic on its own, one order over all of them.

Each operation is one atomic script and so one HTTP request, and may be repeated freely. The log watches its own
memory: it knows the highest position it has ever seen, sends it along with each script, and a Redis that has
fallen behind it (a failover, a restored copy) is fenced by that very script.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from shared.breaker import Breaker
from shared.coalesce import Coalescer
from shared.entry import FORMAT, Reading
from shared.errors import (
    CursorAheadError,
    LogDefectError,
    TokenRevokedError,
)
from shared.keys import Keys, digest
from shared.position import ZERO, Position
from shared.retention import Retention
from shared.signal import Ack, End
from shared.store import Store
from shared.upstash import Upstash
from shared.wire import topic_read

logger = logging.getLogger("tidemark.log")

APPEND_TIMEOUT_S = 1.5
#: After a failure, until Redis has answered once: who comes next waits less for nothing.
FAILING_TIMEOUT_S = 0.5
READ_TIMEOUT_S = 3.0
MAX_READ_BYTES = 1_000_000
MAX_READ_TOPICS = 500
#: A glance lists so many revocations; whoever gets as many asks again, for those after the last one.
MAX_REVOCATIONS = 1000
#: The same of slots taken away.
MAX_LOST = 1000
#: A glance asks for so many acks.
MAX_ACKS = 500
#: No token lives longer than a day, give or take a clock.
KEEP_REVOCATIONS_MS = 25 * 3600 * 1000
_NEVER_S = 2**43
_PARALLEL_READS = 8

#: Where a read may begin besides a position.
EARLIEST = "earliest"
NOW = "now"


class Appended(NamedTuple):
    """Where an event stands, and whether it stood there before."""

    position: Position
    duplicate: bool


class From(NamedTuple):
    """Where to read a topic from: a cursor, `EARLIEST` or `NOW`.

    ``born_told`` is the beginning of the log's memory that this reader was already told a gap for.
    """

    cursor: Position | str
    born_told: Position = ZERO


class Revocation(NamedTuple):
    """From when on the tokens that a user had before count no more. ``user`` is hashed; ``at_ms`` is Unix time."""

    user: str
    at_ms: int


class LostSlot(NamedTuple):
    """Whose slot was taken away and why, and when: Unix time of Redis, which may run a little ahead."""

    end: End
    at_ms: int


class Glance(NamedTuple):
    """The log's clock and when its memory begins, Redis's time, and what has happened since the moments asked for."""

    clock: Position
    born: Position
    at_ms: int
    revocations: tuple[Revocation, ...]
    lost: tuple[LostSlot, ...]
    acks: tuple[Ack, ...]


class _Query(NamedTuple):
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
        self._store = Store(upstash, breaker)
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

        return await self._store.run(
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
        args: list[str | int] = [
            str(self._seen),
            self._now_ms,
            sum(query.limit for query in queries),
            MAX_READ_BYTES,
            self._retention.memory_s,
            len(users),
            *users,
        ]
        for query in queries:
            for topic, start in query.topics:
                keys += [self._keys.log(topic), self._keys.last(topic)]
                args += [str(start.cursor), str(start.born_told)]

        def readings(answer: Any) -> list[Reading]:
            clock_text, born_text, topics, moments = answer
            clock, born = Position.parse(clock_text), Position.parse(born_text)
            asked = [of for query in queries for of in query.topics]
            read = iter(
                [
                    topic_read(topic, start.cursor, of, clock, born)
                    for (topic, start), of in zip(asked, topics, strict=True)
                ]
            )
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

        return await self._store.run("read", keys, args, readings, timeout_s=READ_TIMEOUT_S)

    async def glance(
        self, *, revoked_after_ms: int, lost_after_ms: int | None = None, acks: Sequence[tuple[str, str]] = ()
    ) -> Glance:
        """Ask how far the log is, and what a live feed may have said that was not heard.

        That is what was revoked after a moment, `MAX_REVOCATIONS` at most; which slots were taken away after another
        (no moment: none), `MAX_LOST` at most, both oldest first; and what was acknowledged by clients, each given by
        its user, hashed, and its name: `MAX_ACKS` at most.
        Raises LogUnavailableError or LogDefectError, and ValueError beyond `MAX_ACKS`.
        """
        if len(acks) > MAX_ACKS:
            raise ValueError(f"at most {MAX_ACKS} acks a glance")
        keys = self._keys

        def glance(answer: Any) -> Glance:
            clock, born, at_ms, revoked, lost, cursors = answer
            ends = zip(lost[::2], lost[1::2], strict=True)
            self.saw(Position.parse(clock))
            return Glance(
                Position.parse(clock),
                Position.parse(born),
                int(at_ms),
                tuple(Revocation(user, int(float(at))) for user, at in zip(revoked[::2], revoked[1::2], strict=True)),
                tuple(LostSlot(End.of(text), int(float(at))) for text, at in ends),
                tuple(
                    Ack(user, client, Position.parse(cursor))
                    for (user, client), cursor in zip(acks, cursors, strict=True)
                    if cursor
                ),
            )

        return await self._store.run(
            "glance",
            [keys.clock, keys.born, keys.revoked, keys.taken_away, *(keys.ack_of(*client) for client in acks)],
            [
                str(self._seen),
                self._now_ms,
                str(revoked_after_ms),
                MAX_REVOCATIONS,
                "" if lost_after_ms is None else str(lost_after_ms),
                MAX_LOST,
            ],
            glance,
            timeout_s=READ_TIMEOUT_S,
        )

    async def revoke(self, user: str) -> Revocation:
        """Let no token count any more that this user has now. Raises LogUnavailableError or LogDefectError."""
        return await self._store.run(
            "revoke",
            [self._keys.revoked],
            [digest(user), self._now_ms, KEEP_REVOCATIONS_MS],
            lambda moment: Revocation(digest(user), int(moment)),
            timeout_s=READ_TIMEOUT_S,
        )

    async def ack(self, user: str, client: str, cursor: Position, *, issued_at: float = math.inf) -> Position:
        """Keep a client's cursor for the retention time and return the one kept: it never moves backwards.

        A cursor that has moved is told to the client's stream, if it has one that wants to know. Upstash bills five
        commands for an ack, for one that has moved one more, and another for telling it. Raises CursorAheadError
        when it lies beyond the clock, and TokenRevokedError when the user's tokens were revoked after ``issued_at``,
        in Unix seconds.
        """

        def acked(answer: Any) -> tuple[str, Position | None]:
            kept, clock = answer
            self.saw(Position.parse(clock))
            return kept, Position.parse(kept) if kept and kept != "revoked" else None

        kept, position = await self._store.run(
            "ack",
            [
                self._keys.clock,
                self._keys.born,
                self._keys.ack(user, client),
                self._keys.revoked,
                self._keys.slots(user),
            ],
            [
                str(self._seen),
                self._now_ms,
                str(cursor),
                self._retention.keep_s,
                digest(user),
                str(min(issued_at, _NEVER_S) * 1000),
                client,
                self._keys.live_prefix,
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
        return await self._store.execute(
            ["GET", self._keys.ack(user, client)],
            lambda kept: None if kept is None else Position.parse(kept),
            timeout_s=READ_TIMEOUT_S,
        )

    async def fence(self, lost: Position) -> None:
        """Say that an event at ``lost`` was seen and is gone: every cursor up to now is told of a gap."""

        def fenced(answer: Any) -> None:
            clock, _born = answer
            self.saw(Position.parse(clock))

        await self._store.run(
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
        return await self._store.run("forget", keys, [self._retention.memory_s], int, timeout_s=READ_TIMEOUT_S)

    async def settle(self) -> None:
        """Wait until nothing is under way to Redis that nobody waits for."""
        await self._upstash.settle()

    async def close(self) -> None:
        """Close every connection to Redis."""
        await self._upstash.close()

    async def check(self, *, timeout_s: float = 1.0) -> None:
        """Raise LogUnavailableError unless Redis answers."""
        await self._upstash.ping(timeout_s=timeout_s)


def _revoked_at(moment_ms: str) -> float | None:
    return float(moment_ms) / 1000 if moment_ms else None
