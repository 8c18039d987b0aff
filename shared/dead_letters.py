"""Where messages end that cannot be delivered, so that acknowledging them loses nothing: an SQS standard queue."""

from __future__ import annotations

from shared.delivery import DeadLetter, Death, Delivery, RawPush
from shared.sqs import SEND_TIMEOUT_S, OnQueue


class DeadLetters(OnQueue):
    """The queue of dead letters. SQS keeps them for 14 days."""

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
