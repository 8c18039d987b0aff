"""Where a push waits while the log cannot take it, and where its copy waits that confirms it."""

from __future__ import annotations

from shared.delivery import Delivery
from shared.sqs import SEND_TIMEOUT_S, OnQueue, Sqs


class DeliveryQueue(OnQueue):
    """The SQS FIFO queue in front of the log: the pushes of a topic keep their order among themselves."""

    async def put(self, delivery: Delivery, *, timeout_s: float = SEND_TIMEOUT_S) -> None:
        """Keep a push. Raises QueueUnavailableError; then it is not known to be kept, and may be put again."""
        await self._sqs.send(
            delivery.to_json(), group=delivery.group, dedupe_id=delivery.dedupe_id, timeout_s=timeout_s
        )


class Confirmation(OnQueue):
    """The SQS standard queue that gives each push back after ``delay_s``, to be appended a second time.

    Redis replicates without waiting: a failover may forget what was acknowledged. Then the copy restores it;
    otherwise it is known again and changes nothing. FIFO queues take no delay a message, so this one is none.
    """

    def __init__(self, sqs: Sqs, delay_s: int) -> None:
        super().__init__(sqs)
        self._delay_s = delay_s

    async def put(self, delivery: Delivery, *, timeout_s: float = SEND_TIMEOUT_S) -> None:
        """Keep the copy of a push. Raises QueueUnavailableError; then it is not known to be kept."""
        await self._sqs.send(delivery.to_json(), delay_s=self._delay_s, timeout_s=timeout_s)
