"""What is in the queues of a stack, asked without a proxy between."""

from __future__ import annotations

from infra.chaos.origin import Origin
from infra.local.queues import queue_settings
from shared.delivery import DeadLetter
from shared.errors import QueueUnavailableError
from shared.settings import Function, Settings
from shared.sqs import Sqs

#: Messages that wait, are being handled, or are not due yet.
_COUNTS = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
_HIDDEN_S = 60


class QueueWatch:
    """Asks the queue server at an origin, whose requests are signed with ``secret``."""

    def __init__(self, origin: Origin, secret: str) -> None:
        environment = {
            **queue_settings(f"http://{origin.authority}", secret),
            "UPSTASH_REDIS_REST_URL": "http://127.0.0.1",
            "UPSTASH_REDIS_REST_TOKEN": "none",
        }
        queues = Settings.of(environment, Function.DELIVER).queues
        assert queues is not None  # noqa: S101 - the settings of that function require them
        assert queues.confirmation is not None  # noqa: S101 - named above
        self._working = [Sqs(queues.delivery, queues.access), Sqs(queues.confirmation, queues.access)]
        self._dead_letters = Sqs(queues.dead_letters, queues.access)

    async def drained(self) -> bool:
        """Say whether nothing waits to be delivered or confirmed."""
        try:
            told = [await sqs.attributes() for sqs in self._working]
        except QueueUnavailableError:
            return False
        return all(attributes.get(count) == "0" for attributes in told for count in _COUNTS)

    async def dead_letters(self) -> list[DeadLetter]:
        """Return every dead letter. Raises QueueUnavailableError, or UnreadableDeliveryError for what is none."""
        found: list[DeadLetter] = []
        while messages := await self._dead_letters.receive(hidden_s=_HIDDEN_S):
            found += [DeadLetter.parse(message.body) for message in messages]
        return found

    async def close(self) -> None:
        """Close every connection."""
        for sqs in (*self._working, self._dead_letters):
            await sqs.close()
