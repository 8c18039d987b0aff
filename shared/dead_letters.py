"""Where messages end that cannot be delivered, so that acknowledging them loses nothing: an SQS standard queue."""

from __future__ import annotations

from shared.delivery import DeadLetter, Death, Delivery, RawPush
from shared.sqs import SEND_TIMEOUT_S, Sqs


class DeadLetters:
    """The queue of dead letters. SQS keeps them for 14 days."""

    def __init__(self, sqs: Sqs) -> None:
        self._sqs = sqs

    async def bury(self, letter: DeadLetter, *, timeout_s: float = SEND_TIMEOUT_S) -> None:
        """Keep a dead letter. Raises QueueUnavailableError; then it is not known to be kept."""
        await self._sqs.send(letter.to_json(), timeout_s=timeout_s)

    async def park(self, push: RawPush, *, reason: str, received_at: str, timeout_s: float) -> None:
        """Keep a push that cannot be read. Raises QueueUnavailableError; then it is not known to be kept."""
        letter = DeadLetter(
            death=Death.POISON,
            reason=reason,
            first_seen=received_at,
            died_at=received_at,
            attempts=1,
            message=Delivery(push, received_at).to_json(),
        )
        await self.bury(letter, timeout_s=timeout_s)

    async def check(self, *, timeout_s: float = 1.0) -> None:
        """Raise QueueUnavailableError unless the queue answers."""
        await self._sqs.attributes(timeout_s=timeout_s)

    async def settle(self) -> None:
        """Wait until nothing is under way that nobody waits for."""
        await self._sqs.settle()

    async def close(self) -> None:
        """Close every connection."""
        await self._sqs.close()
