"""Where a push waits while the log cannot take it, and where its copy waits that confirms it."""

from __future__ import annotations

from shared.delivery import Delivery
from shared.sqs import SEND_TIMEOUT_S, Sqs


class DeliveryQueue:
    """The SQS FIFO queue in front of the log: the pushes of a topic keep their order among themselves."""

    def __init__(self, sqs: Sqs) -> None:
        self._sqs = sqs

    async def put(self, delivery: Delivery, *, timeout_s: float = SEND_TIMEOUT_S) -> None:
        """Keep a push. Raises QueueUnavailableError; then it is not known to be kept, and may be put again."""
        await self._sqs.send(
            delivery.to_json(), group=delivery.group, dedupe_id=delivery.dedupe_id, timeout_s=timeout_s
        )

    async def check(self, *, timeout_s: float = 1.0) -> None:
        """Raise QueueUnavailableError unless the queue answers."""
        await self._sqs.attributes(timeout_s=timeout_s)

    async def settle(self) -> None:
        """Wait until nothing is under way that nobody waits for."""
        await self._sqs.settle()

    async def close(self) -> None:
        """Close every connection."""
        await self._sqs.close()


class Confirmation:
    """The SQS standard queue that gives each push back after ``delay_s``, to be appended a second time.

    Redis replicates without waiting: a failover may forget what was acknowledged. Then the copy restores it;
    otherwise it is known again and changes nothing. FIFO queues take no delay a message, so this one is none.
    """

    def __init__(self, sqs: Sqs, delay_s: int) -> None:
        self._sqs = sqs
        self._delay_s = delay_s

    async def put(self, delivery: Delivery, *, timeout_s: float = SEND_TIMEOUT_S) -> None:
        """Keep the copy of a push. Raises QueueUnavailableError; then it is not known to be kept."""
        await self._sqs.send(delivery.to_json(), delay_s=self._delay_s, timeout_s=timeout_s)

    async def check(self, *, timeout_s: float = 1.0) -> None:
        """Raise QueueUnavailableError unless the queue answers."""
        await self._sqs.attributes(timeout_s=timeout_s)

    async def settle(self) -> None:
        """Wait until nothing is under way that nobody waits for."""
        await self._sqs.settle()

    async def close(self) -> None:
        """Close every connection."""
        await self._sqs.close()
