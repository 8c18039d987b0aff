"""What the deliver function does with an event: a batch of a queue, or its schedule."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from functions.deliver.backoff import hidden_s
from functions.deliver.courier import Courier, Parcel
from functions.deliver.ordered_batch import OrderedBatch
from functions.deliver.returning import Returning
from shared import error_reports
from shared.dead_letters import DeadLetters
from shared.delivery_queue import DeliveryQueue
from shared.errors import QueueUnavailableError
from shared.log import Log
from shared.sqs import Sqs
from shared.start import Basis
from shared.start_queues import confirmation

logger = logging.getLogger("tidemark.deliver")


class Deps(NamedTuple):
    """What the deliver function needs. ``sources`` are the queues that its batches come from, by name."""

    log: Log
    courier: Courier
    returning: Returning
    sources: Mapping[str, Sqs]

    @classmethod
    def of(cls, basis: Basis) -> Deps:
        """Build them from the settings of this process."""
        queues = basis.settings.queues
        assert queues is not None  # noqa: S101 - the settings of this function require them
        delivery, dead_letters = Sqs(queues.delivery, queues.access), Sqs(queues.dead_letters, queues.access)
        sources = {delivery.name: delivery}
        if queues.confirmation is not None:
            confirmations = Sqs(queues.confirmation, queues.access)
            sources[confirmations.name] = confirmations
        courier = Courier(
            basis.log,
            DeadLetters(dead_letters),
            basis.counts,
            confirmation=confirmation(basis),
            delivery_queue=delivery.name,
            dedupe_s=basis.settings.dedupe_s,
        )
        returning = Returning(basis.log, dead_letters, DeliveryQueue(delivery), basis.counts)
        return cls(basis.log, courier, returning, sources)


class Deliver:
    """The handler. It keeps one event loop, and so its warm clients, over invocations."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._loop = asyncio.new_event_loop()

    def __call__(self, event: Mapping[str, Any], _context: object) -> dict[str, Any]:
        """Handle a batch of SQS (answers ``batchItemFailures``) or a scheduled event (answers ``returned``).

        Raises ValueError for any other event.
        """
        records = event.get("Records")
        if isinstance(records, list):
            return self._deliver(records)
        if event.get("detail-type") == "Scheduled Event":
            return {"returned": self._loop.run_until_complete(self._return())}
        raise ValueError("neither a batch of SQS nor a scheduled event")

    def close(self) -> None:
        """Close the event loop; the handler is of no use any more."""
        self._loop.close()

    def _deliver(self, records: list[dict[str, Any]]) -> dict[str, Any]:
        batch = OrderedBatch(self._loop, self._deps.courier.deliver)
        with batch(records, batch.in_order):
            batch.async_process()
        self._loop.run_until_complete(self._finish(batch))
        return dict(batch.response())

    async def _finish(self, batch: OrderedBatch) -> None:
        """Say when the queue may give back what has failed, and leave nothing running."""
        parcels = [Parcel.of(record) for record in batch.failed]
        for source, sqs in self._deps.sources.items():
            hidden = hidden_s([parcel for parcel in parcels if parcel.source == source])
            if hidden:
                try:
                    await sqs.hide(hidden)
                except QueueUnavailableError as error:
                    # Then they come back when the queue itself thinks so: later.
                    logger.warning("the queue could not be told when to try again", extra={"reason": str(error)})
        await self._settle()

    async def _return(self) -> int:
        try:
            return await self._deps.returning.run()
        finally:
            await self._settle()

    async def _settle(self) -> None:
        await self._deps.log.settle()
        await self._deps.courier.settle()
        for sqs in self._deps.sources.values():
            await sqs.settle()
        await error_reports.settle()
