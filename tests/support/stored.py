"""One stage behind a gateway, with queues: what commands and functions are told, and a direct look. It blocks."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from shared.delivery import Delivery, Event
from shared.keys import Keys
from shared.log import Log
from shared.position import Position
from tests.support.faulty_gateway import plain_upstash
from tests.support.lambda_events import Reachable, environment, redis_command
from tests.support.log_rig import KEEP, own_stage
from tests.support.queue_set import QueueSet


class Stored:
    """A stage of one's own."""

    def __init__(self, gateway: Reachable, queues: QueueSet) -> None:
        self._gateway = gateway
        self.stage = own_stage()
        self.keys = Keys(self.stage)
        self.queues = queues
        self.settings = environment(gateway, self.stage, **queues.settings)

    def redis(self, *words: str | int) -> Any:
        """Run one command."""
        return redis_command(self._gateway, *words)

    def names(self, pattern: str = "*") -> list[str]:
        """Return the names of this stage's keys that match."""
        found: list[str] = self.redis("KEYS", f"tidemark:{self.stage}:{pattern}")
        return found

    def messages(self, mailbox: str) -> list[str]:
        """Return the ids of the events in a mailbox's log, in its order."""
        found = self.redis("XRANGE", self.keys.log(f"gmail:{mailbox}"), "-", "+")
        envelopes = [dict(zip(flat[::2], flat[1::2], strict=True))["e"] for _, flat in found]
        return [json.loads(envelope)["id"] for envelope in envelopes]

    def append(self, *deliveries: Delivery) -> list[Position]:
        """Append events as the webhook does; return their positions."""

        async def every() -> list[Position]:
            upstash = plain_upstash(self._gateway.url, self._gateway.token)
            log = Log(upstash, self.keys, KEEP)
            positions = []
            for content in (delivery.content for delivery in deliveries):
                assert isinstance(content, Event)
                appended = await log.append(
                    topic=content.topic,
                    envelope=content.envelope,
                    subscription=content.subscription,
                    message_id=content.message_id,
                )
                positions.append(appended.position)
            await upstash.close()
            return positions

        return asyncio.run(every())
