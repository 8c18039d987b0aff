"""Slots: how many streams a user may have open, wherever they run.

A slot is taken when a stream opens, given back when it ends, and expires soon after the stream must have ended: what
a dead process held frees itself, and an open stream costs nothing. A stream of the same client takes the place of
its predecessor at once. Who loses a slot is told by a signal on the live feed (`shared.signal`), and finds out by the
next reconcile if that is lost.

Upstash bills six commands for a slot that is taken, seven more when that takes another one away, and one for a slot
that is given back.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from shared.breaker import Breaker
from shared.coalesce import Coalescer
from shared.errors import (
    LogDefectError,
    LogUnavailableError,
    OvertakenError,
    TidemarkError,
    TokenRevokedError,
    TooManyStreamsError,
)
from shared.keys import Keys, digest
from shared.signal import End
from shared.slot_limit import SlotLimit
from shared.store import Command, Store, evaluate
from shared.upstash import Upstash

logger = logging.getLogger("tidemark.slots")

TAKE_TIMEOUT_S = 3.0
RELEASE_TIMEOUT_S = 1.0
#: A slot outlives the longest life of its stream by so much.
GRACE_S = 10.0
#: What was taken away is kept for twice the longest interval between two reconciles, but not more than so many.
KEEP_TAKEN_AWAY_MS = 2 * 3600 * 1000
MOST_TAKEN_AWAY = 10_000
_PAUSE_S = 0.1
_PARALLEL_TAKES = 8
_PARALLEL_RELEASES = 2
_MOST_TAKES, _MOST_RELEASES = 100, 1000
_MOST_NAMED = 20
_NEVER_S = 2**43
#: Lambda's front end, for all processes the same.
_FRONT_CLOCK = "lambda"


class Asked(NamedTuple):
    """When a stream was asked for, in Unix milliseconds, and by whose clock."""

    at_ms: int
    clock: str


class Claim(NamedTuple):
    """What a stream asks for.

    ``topic`` is one that it follows; ``ends_in_s`` is how long it can live; ``issued_at`` is of its token, in Unix
    seconds.
    """

    user: str
    client: str
    connection: str
    topic: str
    asked: Asked
    ends_in_s: float
    wants_acks: bool
    issued_at: float = math.inf


class Taken(NamedTuple):
    """A slot was taken, at this Unix time of Redis; these streams have lost theirs to it."""

    at_ms: int
    away: tuple[End, ...]


class Slots:
    """The slots of one stage. ``now`` gives Unix seconds; ``now_ms`` replaces the server's time; it is for tests."""

    def __init__(
        self,
        upstash: Upstash,
        keys: Keys,
        limit: SlotLimit,
        *,
        breaker: Breaker | None = None,
        now: Callable[[], float] = time.time,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        self._store = Store(upstash, breaker)
        self._breaker = breaker
        self._keys = keys
        self._limit = limit
        self._now = now
        self._now_ms = now_ms
        self._own_clock = secrets.token_hex(4)
        self._asked_ms = 0
        self._takes: Coalescer[Command, Taken | TidemarkError] = Coalescer(
            self._take_together, parallel=_PARALLEL_TAKES, weight=lambda _command: 1, most=_MOST_TAKES
        )
        self._releases: Coalescer[tuple[str, str], None] = Coalescer(
            self._release_together, parallel=_PARALLEL_RELEASES, weight=lambda _slot: 1, most=_MOST_RELEASES
        )
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def is_failing(self) -> bool:
        """Whether the last request to Redis that showed anything has failed."""
        return self._breaker is not None and self._breaker.is_failing

    def asked(self, at: float | None = None) -> Asked:
        """Say that a stream is asked for now; with ``at``, in Unix seconds, when Lambda's front end heard of it.

        A request may be late: a process has to start first, the log does not answer, and meanwhile the client has
        given up and come back. The stream that was asked for later is the one that somebody listens to.
        """
        now_ms = int(self._now() * 1000)
        if at is not None:
            return Asked(min(int(at * 1000), now_ms), _FRONT_CLOCK)
        # Rises strictly: within a process nothing is asked for at the same time.
        self._asked_ms = max(now_ms, self._asked_ms + 1)
        return Asked(self._asked_ms, self._own_clock)

    async def take(self, claim: Claim) -> Taken:
        """Take a slot; those that are in its way are taken away, by the policy.

        Raises TooManyStreamsError, which says what to close; OvertakenError when a later stream of the same client
        has its slot already; TokenRevokedError, LogUnavailableError and LogDefectError. After any of the last two the
        slot may be taken or not.
        """
        command = self._command(claim)
        try:
            outcome = await self._takes.call(command)
        except LogDefectError:
            # It may be that of another, taken together with this one.
            (outcome,) = await self._take_together([command])
        if isinstance(outcome, TidemarkError):
            raise outcome
        return outcome

    async def release(self, user: str, connection: str) -> None:
        """Give a slot back, whether it was taken or not. Never raises and takes a second at most: slots expire."""
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                await self._releases.call((self._keys.slots(user), connection))
        except (LogUnavailableError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            logger.info("a slot was not released, and will expire", extra={"reason": reason})
        except LogDefectError:
            logger.exception("a slot could not be released")

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do what must be done even if the caller is cancelled; `settle` waits for it."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def settle(self) -> None:
        """Wait until nothing is under way that runs now: all of it has bounds."""
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        await self._takes.settle()
        await self._releases.settle()

    def _command(self, claim: Claim) -> Command:
        keys = self._keys
        return evaluate(
            "take",
            [keys.slots(claim.user), keys.taken_away, keys.revoked],
            [
                "" if self._now_ms is None else str(self._now_ms()),
                claim.connection,
                claim.client,
                claim.topic,
                max(0, int((claim.ends_in_s + GRACE_S) * 1000)),
                "1" if claim.wants_acks else "0",
                self._limit.most,
                self._limit.policy.value,
                claim.asked.clock,
                max(0, claim.asked.at_ms),
                keys.live_prefix,
                digest(claim.user),
                str(min(claim.issued_at, _NEVER_S) * 1000),
                KEEP_TAKEN_AWAY_MS,
                MOST_TAKEN_AWAY,
            ],
        )

    async def _take_together(self, commands: Sequence[Command]) -> Sequence[Taken | TidemarkError]:
        if len(commands) > 1:
            return await self._store.execute_all(commands, self._outcome, timeout_s=TAKE_TIMEOUT_S)
        return [await self._store.execute(commands[0], self._outcome, timeout_s=TAKE_TIMEOUT_S)]

    def _outcome(self, answer: Any) -> Taken | TidemarkError:
        """Read an answer of take.lua. Raises ValueError and the like for what is none."""
        word, at_ms, *more = answer
        match word:
            case "taken":
                (away,) = more
                ends = zip(_names(away)[::2], _names(away)[1::2], strict=True)
                return Taken(int(at_ms), tuple(End(*end) for end in ends))
            case "full":
                first_ms, clients = more
                wait_s = max(1, math.ceil((int(first_ms) - int(at_ms)) / 1000))
                return self._refusal(wait_s, _names(clients))
            case "overtaken":
                return OvertakenError("A later stream of this client is open.")
            case "revoked":
                return TokenRevokedError("The tokens that this user had were revoked.")
        raise ValueError(f"a slot was {word}")

    def _refusal(self, wait_s: int, clients: Sequence[str]) -> TooManyStreamsError:
        names = ", ".join(clients[:_MOST_NAMED]) + (", …" if len(clients) > _MOST_NAMED else "")
        return TooManyStreamsError(
            f"A user may have {self._limit.most} streams open. Close that of one of these clients: {names}. "
            f"The first of them ends by itself in {wait_s} s at the latest.",
            wait_s,
        )

    async def _release_together(self, slots: Sequence[tuple[str, str]]) -> Sequence[None]:
        by_user: dict[str, list[str]] = defaultdict(list)
        for key, connection in slots:
            by_user[key].append(connection)
        commands = [["HDEL", key, *connections] for key, connections in by_user.items()]
        if len(commands) == 1:
            await self._store.execute(commands[0], int, timeout_s=RELEASE_TIMEOUT_S)
            return [None] * len(slots)
        try:
            await self._store.execute_all(commands, int, timeout_s=RELEASE_TIMEOUT_S)
        except LogUnavailableError:
            # One command is tried again by itself, several are not; and a process that ends gives many back in one.
            await asyncio.sleep(_PAUSE_S)
            await self._store.execute_all(commands, int, timeout_s=RELEASE_TIMEOUT_S)
        return [None] * len(slots)


def _names(answer: Any) -> Sequence[str]:
    """Return what is a list of texts. Raises ValueError for anything else."""
    if not isinstance(answer, list) or not all(isinstance(name, str) for name in answer):
        raise ValueError("no list of names")
    return answer
