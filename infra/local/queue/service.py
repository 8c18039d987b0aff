"""The queue service: all actions over one file, and the queues that it has from its start."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from infra.local.queue import errors, limits, queues
from infra.local.queue.core import Action, Answer, Asker, Core
from infra.local.queue.fields import Fields
from infra.local.queue.message_actions import MessageActions
from infra.local.queue.queue_actions import QueueActions
from infra.local.queue.receive_action import ReceiveAction

#: Attributes of the queues that the server is started with: those of a deployment.
STARTING_ATTRIBUTES: Final = {"MessageRetentionPeriod": "1209600", "VisibilityTimeout": "90"}
STARTING_FIFO_ATTRIBUTES: Final = {
    **STARTING_ATTRIBUTES,
    "FifoQueue": "true",
    "DeduplicationScope": "messageGroup",
    "FifoThroughputLimit": "perMessageGroupId",
}
#: Actions of SQS that are not here.
_NOT_HERE: Final = frozenset(
    {
        "AddPermission",
        "CancelMessageMoveTask",
        "ListDeadLetterSourceQueues",
        "ListMessageMoveTasks",
        "ListQueueTags",
        "RemovePermission",
        "StartMessageMoveTask",
        "TagQueue",
        "UntagQueue",
    }
)


class QueueService:
    """SQS's actions by name."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._actions: dict[str, Action] = {
            **QueueActions(core).by_name,
            **MessageActions(core).by_name,
            **ReceiveAction(core).by_name,
        }

    async def open(self, names: Sequence[str]) -> None:
        """Open the file, and create the queues of these names that are absent. Raises DatabaseError, QueueError."""
        self._core.database.open()

        def create(connection: sqlite3.Connection) -> None:
            for name in names:
                fifo = limits.is_fifo_name(name)
                limits.check_queue_name(name, fifo=fifo)
                if queues.look_up(connection, name) is None:
                    given = STARTING_FIFO_ATTRIBUTES if fifo else STARTING_ATTRIBUTES
                    queues.create_now(connection, name, given, self._core.now_s())

        await self._core.database.run(create)

    def stop_waiting(self) -> None:
        """Answer the long polls."""
        self._core.bells.stop()

    def close(self) -> None:
        """Close the file."""
        self._core.database.close()

    async def check(self) -> None:
        """Return when the file can be used. Raises DatabaseError."""
        await self._core.database.run(lambda connection: connection.execute("SELECT 1").fetchone())

    async def call(self, action: str, fields: Fields, asker: Asker) -> Answer:
        """Do what is asked. Raises QueueError, DatabaseError, ClientLeftError."""
        handler = self._actions.get(action)
        if handler is not None:
            return await handler(fields, asker)
        if action in _NOT_HERE:
            raise errors.unsupported(f"The action {action}")
        raise errors.unknown_operation(action)
