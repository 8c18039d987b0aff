"""Batches of SQS by Powertools: failures are reported one by one, and a group keeps its order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from aws_lambda_powertools.utilities.batch import AsyncBatchProcessor, EventType
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

Handle = Callable[[SQSRecord], Awaitable[None]]


class HeldBackError(Exception):
    """A message was not tried, because one before it in its group has failed."""


class OrderedBatch(AsyncBatchProcessor):
    """Handles one batch: groups side by side, the messages of one in order, and none after one that has failed.

    Powertools' own FIFO processor is synchronous: ten groups would wait for Redis ten times.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, handle: Handle) -> None:
        # A batch that has failed whole is reported like any other: raising would hide it for the queue's own time.
        super().__init__(event_type=EventType.SQS, raise_on_entire_batch_failure=False)
        self._loop = loop
        self._handle = handle
        self._last: dict[str, asyncio.Task[None]] = {}

    @property
    def failed(self) -> Sequence[SQSRecord]:
        """The records that are to come back, in the order of the batch."""
        return [record for record in self.fail_messages if isinstance(record, SQSRecord)]

    def async_process(self) -> list[tuple]:  # type: ignore[type-arg]  # Powertools does not say of what
        """Handle every record, on the loop that the clients belong to."""

        async def every() -> list[tuple]:  # type: ignore[type-arg]
            return list(await asyncio.gather(*[self._async_process_record(record) for record in self.records]))

        return self._loop.run_until_complete(every())

    async def in_order(self, record: SQSRecord) -> None:
        """Handle a record after the ones before it in its group. Raises HeldBackError, or what handling raises."""
        group = record.attributes.message_group_id
        if group is None:
            await self._handle(record)
            return
        before = self._last.get(group)
        task = self._last[group] = asyncio.ensure_future(self._after(before, record))
        await task

    async def _after(self, before: asyncio.Task[None] | None, record: SQSRecord) -> None:
        if before is not None:
            await asyncio.wait([before])
            if before.exception() is not None:
                raise HeldBackError
        await self._handle(record)
