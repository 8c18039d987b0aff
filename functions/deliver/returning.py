"""Dead letters that died of the log's absence: once it is back they are put back, a few times."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from time import monotonic

from shared.counts import Counts
from shared.delivery import DeadLetter, Death, Delivery, UnreadableDeliveryError
from shared.delivery_queue import DeliveryQueue
from shared.errors import LogUnavailableError
from shared.log import Log
from shared.sqs import Message, Sqs

logger = logging.getLogger("tidemark.deliver")

MAX_RETURNS = 3
#: One run looks at so many letters, for so long. SQS gives out a standard queue's in no order, so that the next run
#: sees others; where thousands wait for somebody, that may take a few runs.
MAX_LOOKED_AT = 2000
MAX_RUN_S = 25.0
#: While a run looks, what it has seen stays hidden; if it dies, they show again after this.
_HIDDEN_S = 120


class Returning:
    """Puts temporary dead letters back into the delivery queue.

    ``clock`` is monotonic seconds. Counts ``returned``.
    """

    def __init__(
        self,
        log: Log,
        dead_letters: Sqs,
        queue: DeliveryQueue,
        counts: Counts,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._log = log
        self._dead_letters = dead_letters
        self._queue = queue
        self._counts = counts
        self._clock = clock

    async def run(self) -> int:
        """Put back what may be, if the log is healthy, and return how many. Raises QueueUnavailableError."""
        try:
            await self._log.check()
        except LogUnavailableError as error:
            logger.info("dead letters stay: the log is away", extra={"reason": str(error)})
            return 0
        until = self._clock() + MAX_RUN_S
        kept: list[str] = []
        looked_at = returned = 0
        try:
            while looked_at < MAX_LOOKED_AT and self._clock() < until:
                messages = await self._dead_letters.receive(hidden_s=_HIDDEN_S, wait_s=1)
                if not messages:
                    break
                looked_at += len(messages)
                back = [message for message in messages if await self._put_back(message)]
                returned += len(back)
                kept += [message.receipt for message in messages if message not in back]
                if back:
                    await self._dead_letters.delete([message.receipt for message in back])
        finally:
            await asyncio.shield(self._dead_letters.hide(dict.fromkeys(kept, 0)))
        self._counts.count("returned", returned)
        return returned

    async def _put_back(self, message: Message) -> bool:
        try:
            letter = DeadLetter.parse(message.body)
            delivery = Delivery.parse(letter.message)
        except UnreadableDeliveryError:
            return False
        if letter.death is not Death.TEMPORARY or delivery.returns >= MAX_RETURNS:
            return False
        await self._queue.put(delivery.put_back(secrets.token_hex(8), unasked=True))
        return True
