"""Looks through a whole queue of SQS, and leaves what it does not delete as it was.

    async with sweeping(sqs, say) as sweep:
        async for messages in sweep.batches():
            await sweep.delete([message for message in messages if …])

SQS gives ten messages at a time and has no list. So each one is hidden until the whole queue was seen, and then shown
again. In a FIFO queue the first ten of a group stand for the rest of it: SQS gives no more of a group while one of
its messages is hidden, and gives them as soon as those are deleted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

from shared.errors import QueueUnavailableError
from shared.sqs import MAX_BATCH, Message, Sqs

#: A sweep that dies leaves what it has seen hidden for so long. One that takes longer sees messages again.
HIDDEN_S: Final = 300
#: With a second's wait SQS asks all of its servers; a standard queue may hold something back all the same.
_WAIT_S: Final = 1
_EMPTY: Final = 3


class Sweep:
    """One look through one queue; made by `sweeping`. Every method raises QueueUnavailableError."""

    def __init__(self, sqs: Sqs) -> None:
        self._sqs = sqs
        self._receipts: dict[str, str] = {}
        """What is hidden, by id."""
        self._seen: set[str] = set()
        self.unfinished = False
        """Whether it was still seeing messages again when it ended, because it took longer than they stay hidden."""

    async def batches(self) -> AsyncIterator[Sequence[Message]]:
        """Give every message once, up to ten at a time."""
        empty = 0
        while empty < _EMPTY:
            messages = await self._receive()
            new = {message.id: message for message in messages if message.id not in self._seen}
            self._seen |= new.keys()
            if new:
                empty = 0
                yield list(new.values())
            elif not messages and await self.waiting() == 0:
                return
            else:
                empty += 1
                self.unfinished = bool(messages)

    async def _receive(self) -> Sequence[Message]:
        """Receive, and whatever happens meanwhile know what was received: it is hidden now."""

        async def receive() -> Sequence[Message]:
            messages = await self._sqs.receive(hidden_s=HIDDEN_S, wait_s=_WAIT_S)
            self._receipts |= {message.id: message.receipt for message in messages}
            return messages

        receiving = asyncio.ensure_future(receive())
        try:
            return await asyncio.shield(receiving)
        finally:
            await asyncio.wait([receiving])

    async def delete(self, messages: Sequence[Message]) -> None:
        """Delete messages of this sweep."""
        if messages:
            await self._sqs.delete([self._receipts[message.id] for message in messages])
            for message in messages:
                del self._receipts[message.id]

    async def waiting(self) -> int:
        """Return how many messages could be received now, as far as SQS knows."""
        return number_of(await self._sqs.attributes(), "ApproximateNumberOfMessages")

    async def elsewhere(self) -> int:
        """Return how many messages somebody else has in hand, which nobody can look at."""
        attributes = await self._sqs.attributes()
        return max(0, number_of(attributes, "ApproximateNumberOfMessagesNotVisible") - len(self._receipts))

    async def show(self) -> int:
        """Show what is hidden, and return how many messages could not be: they show by themselves."""
        receipts, failed = list(self._receipts.values()), 0
        self._receipts.clear()
        for start in range(0, len(receipts), MAX_BATCH):
            batch = receipts[start : start + MAX_BATCH]
            try:
                await self._sqs.hide(dict.fromkeys(batch, 0))
            except QueueUnavailableError:
                failed += len(batch)
        return failed


@contextlib.asynccontextmanager
async def sweeping(sqs: Sqs, say: Callable[[str], None]) -> AsyncIterator[Sweep]:
    """Give a sweep of a queue. At the end, whatever ends it, what was not deleted is shown again.

    ``say`` is told if that fails.
    """
    sweep = Sweep(sqs)
    try:
        yield sweep
    finally:
        failed = await asyncio.shield(sweep.show())
        if failed:
            say(f"{sqs.name}: {failed} messages cannot be shown again now; they show by themselves in {HIDDEN_S} s")


def number_of(attributes: Mapping[str, str], name: str) -> int:
    """Return a number among the attributes of a queue. Raises QueueUnavailableError when it is none."""
    try:
        return int(attributes[name])
    except (LookupError, TypeError, ValueError):
        raise QueueUnavailableError(f"the queue does not tell its {name}") from None
