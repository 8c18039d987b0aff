"""How a push is taken: into the log, or into the queue before it while the log is away."""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

from shared.counts import Counts
from shared.delivery import Delivery, Event
from shared.delivery_queue import Confirmation, DeliveryQueue
from shared.envelope import Notification, envelope_of
from shared.errors import CircuitOpenError, LogDefectError, LogUnavailableError, QueueUnavailableError
from shared.log import Log
from shared.position import Position
from shared.sqs import SEND_TIMEOUT_S

logger = logging.getLogger("tidemark.intake")

_LEAST_S = 0.2


class Taken(NamedTuple):
    """Where a push is now: at a position of the log, or in the queue (``position`` is None)."""

    position: Position | None
    duplicate: bool = False


class Intake:
    """Takes pushes. Without a ``queue`` they are refused while the log is away, and sent again.

    Counts ``pushes_queued`` and ``pushes_refused`` (neither the log nor the queue took it).
    """

    def __init__(
        self,
        log: Log,
        counts: Counts,
        *,
        queue: DeliveryQueue | None = None,
        confirmation: Confirmation | None = None,
    ) -> None:
        self._log = log
        self._counts = counts
        self._queue = queue
        self._confirmation = confirmation

    async def take(self, note: Notification, *, received_at: str, until: float) -> Taken:
        """Keep a push, and return only then. ``until`` is when an answer must be there, on the event loop's clock.

        Raises LogUnavailableError, LogDefectError or QueueUnavailableError; then it is not known to be kept.
        """
        event = Event(note.topic, envelope_of(note), note.subscription, note.message_id)
        delivery = Delivery(event, accepted_at=received_at)
        if self._confirmation is None:
            return await self._keep(delivery, event, until)
        if self._queue is not None and self._log.is_failing:
            # What goes to the queue gets its copy when it is delivered. One that was sent now would come before that
            # after a long outage, and would bring the push into the log before those queued earlier.
            taken = await self._keep(delivery, event, until)
            if taken.position is not None:
                await self._confirm(self._confirmation, delivery, until)
            return taken
        confirming = asyncio.ensure_future(self._confirm(self._confirmation, delivery, until))
        try:
            taken = await self._keep(delivery, event, until)
        except BaseException:  # cancellation included: nothing may outlive the request
            confirming.cancel()
            await asyncio.gather(confirming, return_exceptions=True)
            raise
        # Whoever asked for confirmation was promised that a failover loses nothing: no copy, no answer.
        await confirming
        return taken

    async def settle(self) -> None:
        """Wait until nothing is under way that nobody waits for."""
        for queue in (self._queue, self._confirmation):
            if queue is not None:
                await queue.settle()

    async def close(self) -> None:
        """Close every connection to the queues."""
        for queue in (self._queue, self._confirmation):
            if queue is not None:
                await queue.close()

    @staticmethod
    async def _confirm(confirmation: Confirmation, delivery: Delivery, until: float) -> None:
        await confirmation.put(delivery, timeout_s=min(SEND_TIMEOUT_S, _left_s(until)))

    async def _keep(self, delivery: Delivery, event: Event, until: float) -> Taken:
        try:
            appended = await self._log.append(
                topic=event.topic,
                envelope=event.envelope,
                subscription=event.subscription,
                message_id=event.message_id,
                timeout_s=self._append_s(until),
            )
        except (LogUnavailableError, LogDefectError) as error:
            if self._queue is None:
                raise
            await self._enqueue(self._queue, delivery, error, until)
            return Taken(None)
        return Taken(appended.position, appended.duplicate)

    def _append_s(self, until: float) -> float:
        """Return how long the log may take: when Google's keys had to be fetched first, less is left for it."""
        most_s, left_s = self._log.append_timeout_s, _left_s(until)
        return min(most_s, left_s) if self._queue is None else max(_LEAST_S, min(most_s, left_s - SEND_TIMEOUT_S))

    async def _enqueue(
        self, queue: DeliveryQueue, delivery: Delivery, error: LogUnavailableError | LogDefectError, until: float
    ) -> None:
        try:
            await queue.put(delivery, timeout_s=min(SEND_TIMEOUT_S, max(_LEAST_S, _left_s(until))))
        except QueueUnavailableError as refusal:
            self._counts.count("pushes_refused")
            logger.warning("push taken by neither log nor queue", extra={**_why(error), "queue": str(refusal)})
            raise
        self._counts.count("pushes_queued")
        if not error.temporary:
            # A defect of ours holds up this push only, and is reported; refusing it would slow down every mailbox.
            logger.error("push queued", extra=_why(error), exc_info=error)
        elif not isinstance(error, CircuitOpenError):
            # That the breaker is open was logged once; a line a push would say no more.
            logger.warning("push queued", extra=_why(error))


def _left_s(until: float) -> float:
    return until - asyncio.get_running_loop().time()


def _why(error: LogUnavailableError | LogDefectError) -> dict[str, str]:
    trouble = {"trouble": error.trouble.value} if isinstance(error, LogUnavailableError) else {}
    return {"code": error.code, "reason": str(error), **trouble}
