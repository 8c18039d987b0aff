"""Lambda's event source mapping, locally: polls the queues and hands batches to the deliver function.

    python -m infra.local.event_source

Its settings are the deliver function's. As on Lambda a batch is at most ten messages of one queue, what the function
does not report as failed is deleted, and what it reports comes back when its time is over; a schedule calls the
function, too. Each worker is an environment of its own: one handler, one batch at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

from functions.deliver.app import Deliver, Deps
from shared.errors import QueueUnavailableError
from shared.settings import Function, Settings
from shared.sqs import Message, Sqs
from shared.start import Basis, start

logger = logging.getLogger("tidemark.event_source")

#: How long a message stays hidden while it is handled: longer than the function may take. If a worker dies with it,
#: or the answer that brought it is lost, it comes back after that.
HIDDEN_S = 90
_WAIT_S = 5
_PAUSE_S = 0.5
_STOP_S = 3.0
#: What Lambda is scheduled to do every five minutes happens more often where somebody watches.
SCHEDULE_S = 15.0


class _Worker:
    """Polls one queue, in a thread and an event loop of its own."""

    def __init__(
        self, settings: Settings, queue_url: str, stopping: threading.Event, *, hidden_s: int, scheduled: bool
    ) -> None:
        assert settings.queues is not None  # noqa: S101 - the settings of this function require them
        self._queue = Sqs(queue_url, settings.queues.access)
        self._stopping = stopping
        self._hidden_s = hidden_s
        self._scheduled = scheduled
        self._loop = asyncio.new_event_loop()
        self._deliver = Deliver(Deps.of(Basis.of(settings, max_connections=10)))
        self._called_at = time.monotonic()
        self.busy = False

    def run(self) -> None:
        """Poll until told to stop. A queue that is away is asked again."""
        while not self._stopping.is_set():
            try:
                messages = self._loop.run_until_complete(self._queue.receive(hidden_s=self._hidden_s, wait_s=_WAIT_S))
                if messages:
                    self._hand_over(messages)
                if self._scheduled and time.monotonic() - self._called_at > SCHEDULE_S:
                    self._called_at = time.monotonic()
                    self._deliver({"source": "aws.events", "detail-type": "Scheduled Event"}, None)
            except QueueUnavailableError as error:
                logger.warning("the queue is away", extra={"reason": str(error)})
                self._stopping.wait(_PAUSE_S)
            except Exception:
                # On Lambda an invocation has failed, and the batch comes back.
                logger.exception("the deliver function has failed")
                self._stopping.wait(_PAUSE_S)

    def _hand_over(self, messages: Sequence[Message]) -> None:
        self.busy = True
        try:
            answer = self._deliver({"Records": [self._record(message) for message in messages]}, None)
            failed = {item["itemIdentifier"] for item in answer["batchItemFailures"]}
            done = [message.receipt for message in messages if message.id not in failed]
            if done:
                self._loop.run_until_complete(self._queue.delete(done))
        finally:
            self.busy = False

    def _record(self, message: Message) -> dict[str, Any]:
        """Build a record of a batch, as Lambda does ("Using Lambda with Amazon SQS")."""
        attributes = {
            "ApproximateReceiveCount": str(message.receives),
            "SentTimestamp": str(message.sent_ms),
            "SenderId": "local",
            "ApproximateFirstReceiveTimestamp": str(message.sent_ms),
        }
        if message.group is not None:
            attributes["MessageGroupId"] = message.group
        return {
            "messageId": message.id,
            "receiptHandle": message.receipt,
            "body": message.body,
            "attributes": attributes,
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": f"arn:aws:sqs:us-east-1:000000000000:{self._queue.name}",
            "awsRegion": "us-east-1",
        }


def main(argv: Sequence[str] | None = None) -> None:
    """Poll until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.event_source")
    parser.add_argument(
        "--concurrency", type=int, default=2, metavar="N", help="batches of the delivery queue at once"
    )
    parser.add_argument(
        "--hidden-s", type=int, default=HIDDEN_S, metavar="S", help="how long a message is hidden while it is handled"
    )
    options = parser.parse_args(argv)
    settings = start(Function.DELIVER).settings
    queues = settings.queues
    assert queues is not None  # noqa: S101 - the settings of this function require them
    stopping = threading.Event()
    urls = [queues.delivery] * options.concurrency + ([queues.confirmation] if queues.confirmation else [])
    workers = [
        _Worker(settings, url, stopping, hidden_s=options.hidden_s, scheduled=n == 0) for n, url in enumerate(urls)
    ]
    # Daemons: one that waits for a message has nothing to lose.
    threads = [threading.Thread(target=worker.run, daemon=True) for worker in workers]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    for thread in threads:
        thread.start()
    while not stopping.wait(1.0):
        if not all(thread.is_alive() for thread in threads):
            raise SystemExit("a worker has ended")
    until = time.monotonic() + _STOP_S
    while any(worker.busy for worker in workers) and time.monotonic() < until:
        time.sleep(0.02)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
