"""What is in the queues of a stack, seen without a proxy between, and without receiving anything."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from infra.chaos.origin import Origin
from infra.local.queues import DEAD_LETTERS, queue_settings
from shared.delivery import DeadLetter
from shared.errors import QueueUnavailableError
from shared.settings import Function, Settings
from shared.sqs import Sqs

#: Messages that wait, are being handled, or are not due yet.
_COUNTS = tuple(f"ApproximateNumberOfMessages{which}" for which in ("", "NotVisible", "Delayed"))
_BODIES = """
SELECT contents.body FROM contents JOIN messages ON messages.seq = contents.seq
JOIN queues ON queues.id = messages.queue WHERE queues.name = ?
"""


class QueueWatch:
    """Watches the queue server at an origin, whose requests are signed with ``secret`` and whose data is a file."""

    def __init__(self, origin: Origin, secret: str, file: Path) -> None:
        log = {"UPSTASH_REDIS_REST_URL": "http://127.0.0.1", "UPSTASH_REDIS_REST_TOKEN": "none"}
        environment = {**queue_settings(f"http://{origin.authority}", secret), **log}
        queues = Settings.of(environment, Function.DELIVER).queues
        assert queues is not None  # noqa: S101 - the settings of that function require them
        urls = [queues.delivery, *([queues.confirmation] if queues.confirmation else [])]
        self._working = [Sqs(url, queues.access) for url in urls]
        self._file = file

    async def drained(self) -> bool:
        """Say whether nothing waits to be delivered or confirmed."""
        try:
            told = [await sqs.attributes() for sqs in self._working]
        except QueueUnavailableError:
            return False
        return all(attributes.get(count) == "0" for attributes in told for count in _COUNTS)

    async def dead_letters(self) -> list[DeadLetter]:
        """Return every dead letter, once the server is gone, which has the file for itself.

        Received they would not be found for sure: the deliver function looks through them as well, and hides them.
        Raises UnreadableDeliveryError for what is none.
        """
        return [DeadLetter.parse(body) for body in await asyncio.to_thread(self._bodies)]

    async def close(self) -> None:
        """Close every connection."""
        for sqs in self._working:
            await sqs.close()

    def _bodies(self) -> list[str]:
        with closing(sqlite3.connect(self._file)) as connection:
            return [body for (body,) in connection.execute(_BODIES, (DEAD_LETTERS,)).fetchall()]
