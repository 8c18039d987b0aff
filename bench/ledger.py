"""The account of one turn: when each push was sent, answered and delivered, and whatever went wrong."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence

_MESSAGE_ID = re.compile(rb'"id":"([0-9]+)"')


class Ledger:
    """Pushes of a turn by their number. Message ids are ``first_id + number``; times are `time.perf_counter_ns`."""

    def __init__(
        self,
        first_id: int,
        mailboxes: Sequence[int],
        *,
        follows: Callable[[int], int] = lambda stream: stream,
        followers: Callable[[int], int] = lambda _mailbox: 1,
    ) -> None:
        """``mailboxes`` says whom each push is for, ``follows`` which mailbox a stream follows."""
        count = len(mailboxes)
        self.first_id = first_id
        self.mailboxes = mailboxes
        self.sent = [0] * count
        self.answered = [0] * count
        self.arrived: list[list[int]] = [[] for _ in range(count)]
        self.doubled = 0
        self.faults: list[str] = []
        self.complete = asyncio.Event()
        self._follows = follows
        self._deliveries = sum(map(followers, mailboxes))
        self._had: set[tuple[int, int | None]] = set()
        self._awaited = count + self._deliveries

    def answer(self, number: int, fault: str | None) -> None:
        """Note that a push was answered, with what was wrong about it."""
        self.answered[number] = time.perf_counter_ns()
        if fault is not None:
            self.fault(fault)
        self._one_less()

    def arrive(self, frame: bytes, stream: int | None) -> None:
        """Note that an event was read, by which stream if that matters."""
        now = time.perf_counter_ns()
        found = _MESSAGE_ID.search(frame)
        number = int(found[1]) - self.first_id if found else -1
        if not 0 <= number < len(self.sent):
            self.fault(f"an event that was not sent in this turn: {frame[:120]!r}")
        elif stream is not None and self.mailboxes[number] != self._follows(stream):
            self.fault(f"an event of mailbox {self.mailboxes[number]} came to stream {stream}")
        elif (number, stream) in self._had:
            self.doubled += 1
        else:
            self._had.add((number, stream))
            self.arrived[number].append(now)
            self._one_less()

    def fault(self, what: str) -> None:
        """Note something that makes the turn worthless."""
        self.faults.append(what)

    @property
    def lost(self) -> int:
        """How many deliveries never came."""
        return self._deliveries - len(self._had)

    @property
    def unanswered(self) -> int:
        """How many pushes were never answered."""
        return self.answered.count(0)

    def latencies_ms(self) -> list[float]:
        """Return push to client, ms, of everything that came."""
        return [(at - sent) / 1e6 for sent, arrived in zip(self.sent, self.arrived, strict=True) for at in arrived]

    def answers_ms(self) -> list[float]:
        """Return push to its answer, ms, of everything that was answered."""
        return [(answered - sent) / 1e6 for sent, answered in zip(self.sent, self.answered, strict=True) if answered]

    def _one_less(self) -> None:
        self._awaited -= 1
        if not self._awaited:
            self.complete.set()
