"""Puts dead letters back into the delivery queue, when somebody asks for it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from infra.letters import Letter
from infra.sweep import Sweep
from shared.delivery_queue import DeliveryQueue
from shared.errors import QueueUnavailableError
from shared.sqs import Message


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one dead letter. ``why`` says what is not as it should be."""

    id: str
    redriven: bool
    why: str | None = None


class Redrive:
    """Puts back the letters of these ids, or, without ids, every one whose reason holds a text.

    A letter is deleted only after it was put back. Whatever happens in between, it is there twice rather than not
    at all, and the log knows each push.
    """

    def __init__(self, queue: DeliveryQueue, *, ids: Collection[str], reason: str) -> None:
        self._queue = queue
        self._ids = ids
        self._reason = reason
        self._nonces: set[str] = set()
        self.failure: QueueUnavailableError | None = None
        """Why the delivery queue took one no more; to go on is of no use then."""

    async def put_back(self, sweep: Sweep, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Put back those that are meant. Raises QueueUnavailableError when it is not known what became of them."""
        letters = [letter for letter in map(Letter.of, messages) if self._is_meant(letter)]
        outcomes = await asyncio.gather(*(self._put(letter) for letter in letters))
        done = {outcome.id for outcome in outcomes if outcome.redriven}
        await sweep.delete([message for message in messages if message.id in done])
        return outcomes

    def _is_meant(self, letter: Letter) -> bool:
        if self._ids:
            return letter.id in self._ids
        return self._reason in letter.reason

    async def _put(self, letter: Letter) -> Outcome:
        why = letter.refusal()
        if why is not None or letter.delivery is None:
            return Outcome(letter.id, redriven=False, why=why)
        if letter.delivery.nonce in self._nonces:
            # Put back a moment ago: to go on would never end.
            return Outcome(letter.id, redriven=False, why=f"it was put back and has died again: {letter.reason}")
        nonce = secrets.token_hex(8)
        self._nonces.add(nonce)
        try:
            await self._queue.put(letter.delivery.put_back(nonce, unasked=False))
        except QueueUnavailableError as error:
            self.failure = error
            return Outcome(letter.id, redriven=False, why=f"not known to be put back: {error}")
        return Outcome(letter.id, redriven=True)
