"""The deliver function over real queues, a gateway and Redis, called as Lambda calls it.

    async with deliver_rig(directory, redis.url, gateway) as rig:
        rig.put(delivery)
        ran = await rig.run()          # one batch: received, handed over, and deleted as Lambda would
        rig.clock.now_s += 5           # the queues' time, and the function's

The queue server runs in a thread by a clock that the test moves: nothing waits for a time-out to pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from functions.deliver.app import Deliver, Deps
from infra.local.event_source import HIDDEN_S
from infra.local.queue.service import STARTING_ATTRIBUTES, STARTING_FIFO_ATTRIBUTES
from infra.local.queues import CONFIRMATION, DEAD_LETTERS, DELIVERY, QUEUES
from shared.delivery import DeadLetter, Delivery, Event
from shared.keys import Keys
from shared.settings import Function, Settings
from shared.start import Basis
from tests.support.faulty_gateway import cheap_tls
from tests.support.lambda_events import Reachable
from tests.support.log_rig import Redis, envelope, number_of, own_stage
from tests.support.queue_server import Clock, QueueServerThread

SUBSCRIPTION = "projects/p/subscriptions/s"
ACCEPTED_AT = "2026-11-23T14:00:00.000Z"
SCHEDULED = {"source": "aws.events", "detail-type": "Scheduled Event"}
_SYSTEM_ATTRIBUTES = ["All"]


def event(number: int | str, topic: str = "gmail:ann@example.com", **more: Any) -> Event:
    """Build the event of a push."""
    return Event(topic, envelope(number, topic=topic, **more), SUBSCRIPTION, str(number))


def delivery(number: int | str, topic: str = "gmail:ann@example.com", **more: Any) -> Delivery:
    """Build what the webhook puts into the queue for it."""
    return Delivery(event(number, topic, **more), ACCEPTED_AT)


def record(message: Mapping[str, Any], queue: str) -> dict[str, Any]:
    """Build the record of a received message ("Using Lambda with Amazon SQS")."""
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": {},
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:us-east-1:000000000000:{queue}",
        "awsRegion": "us-east-1",
    }


@dataclass(frozen=True, slots=True)
class Ran:
    """One batch: the bodies that were received, and those that are to come back, in the order of the batch."""

    received: Sequence[str]
    failed: Sequence[str]


class DeliverRig:
    """One stage with queues of its own. ``slept`` are the pauses that the function has made between tries."""

    def __init__(self, server: QueueServerThread, clock: Clock, gateway: Reachable, redis: Redis) -> None:
        self.server = server
        self.clock = clock
        self.redis = redis
        self.client = server.client()
        self.stage = own_stage()
        self.slept: list[float] = []
        self._gateway = gateway
        self._numbers = itertools.count()
        self._started: list[tuple[Deliver, Basis]] = []
        for name in QUEUES:
            self.create(name)

    def create(self, name: str) -> None:
        """Create a queue as a deployment has it."""
        fifo = name.endswith(".fifo")
        self.client.create_queue(QueueName=name, Attributes=STARTING_FIFO_ATTRIBUTES if fifo else STARTING_ATTRIBUTES)

    def settings(self, **more: str) -> dict[str, str]:
        """Give the settings of a function on all of this."""
        return {
            "UPSTASH_REDIS_REST_URL": self._gateway.url,
            "UPSTASH_REDIS_REST_TOKEN": self._gateway.token,
            "TIDEMARK_STAGE": self.stage,
            "TIDEMARK_PUSH_AUTH": "off",
            **self.server.environment,
            "TIDEMARK_QUEUE_URL": self.server.queue_url(DELIVERY),
            "TIDEMARK_DEAD_LETTER_URL": self.server.queue_url(DEAD_LETTERS),
            "TIDEMARK_CONFIRM_QUEUE_URL": self.server.queue_url(CONFIRMATION),
            **more,
        }

    def start(self, **more: str) -> Deliver:
        """Start the function anew; `run` and `scheduled` use the one that was started last."""
        settings = Settings.of(self.settings(**more), Function.DELIVER)
        with cheap_tls():
            basis = Basis.of(settings)
        deps = Deps.of(basis)

        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)

        deps.courier._now, deps.courier._sleep = self.clock, sleep
        deliver = Deliver(deps)
        self._started.append((deliver, basis))
        return deliver

    @property
    def basis(self) -> Basis:
        """What the function was built from that was started last."""
        return self._started[-1][1]

    # -- the queues

    def put(self, what: Delivery | str, *, queue: str = DELIVERY, group: str = "g", **more: Any) -> str:
        """Put a delivery into a queue as the webhook does, or any text; return the message's id."""
        body = what.to_json() if isinstance(what, Delivery) else what
        if queue == DELIVERY:
            more["MessageGroupId"] = what.group if isinstance(what, Delivery) else group
            more["MessageDeduplicationId"] = (
                what.dedupe_id if isinstance(what, Delivery) else f"d{next(self._numbers)}"
            )
        sent = self.client.send_message(QueueUrl=self.server.queue_url(queue), MessageBody=body, **more)
        message_id: str = sent["MessageId"]
        return message_id

    def receive(self, *, queue: str = DELIVERY, hidden_s: int = HIDDEN_S, most: int = 10) -> list[dict[str, Any]]:
        """Receive what can be received."""
        found = self.client.receive_message(
            QueueUrl=self.server.queue_url(queue),
            MaxNumberOfMessages=most,
            VisibilityTimeout=hidden_s,
            MessageSystemAttributeNames=_SYSTEM_ATTRIBUTES,
        )
        messages: list[dict[str, Any]] = found.get("Messages", [])
        return messages

    def held(self, queue: str = DELIVERY) -> int:
        """Count what a queue holds, hidden or not."""
        names = (
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        )
        url = self.server.queue_url(queue)
        told = self.client.get_queue_attributes(QueueUrl=url, AttributeNames=list(names))["Attributes"]
        return sum(int(told[name]) for name in names)

    def letters(self) -> list[DeadLetter]:
        """Return the dead letters that can be received now, and leave them where they are."""
        return [DeadLetter.parse(message["Body"]) for message in self.receive(queue=DEAD_LETTERS, hidden_s=0)]

    # -- the function

    async def run(self, *, queue: str = DELIVERY) -> Ran:
        """Hand over one batch, as an event source mapping does."""
        return await self.hand_over(self.receive(queue=queue), queue=queue)

    async def hand_over(self, messages: Sequence[Mapping[str, Any]], *, queue: str = DELIVERY) -> Ran:
        """Hand over received messages, and delete what is not reported as failed."""
        if not self._started:
            self.start()
        batch = {"Records": [record(message, queue) for message in messages]}
        answer = await asyncio.to_thread(self._started[-1][0], batch, None)
        told = [item["itemIdentifier"] for item in answer["batchItemFailures"]]
        bodies = {message["MessageId"]: message["Body"] for message in messages}
        for message in messages:
            if message["MessageId"] not in told:
                self.client.delete_message(
                    QueueUrl=self.server.queue_url(queue), ReceiptHandle=message["ReceiptHandle"]
                )
        return Ran(list(bodies.values()), [bodies[message_id] for message_id in bodies if message_id in told])

    async def scheduled(self) -> int:
        """Run the function by its schedule; return how many dead letters it has put back."""
        if not self._started:
            self.start()
        answer = await asyncio.to_thread(self._started[-1][0], SCHEDULED, None)
        returned: int = answer["returned"]
        return returned

    async def numbers(self, topic: str = "gmail:ann@example.com") -> list[str]:
        """Return which events the log of a topic holds, in its order."""
        entries = await self.redis("XRANGE", Keys(self.stage).log(topic), "-", "+")
        return [number_of(dict(zip(flat[::2], flat[1::2], strict=True))["e"]) for _, flat in entries]

    async def close(self) -> None:
        """Close what the function has open."""
        for deliver, basis in self._started:
            await asyncio.to_thread(_close, deliver, basis)
        self.client.close()


def _close(deliver: Deliver, basis: Basis) -> None:
    async def close() -> None:
        courier = deliver._deps.courier
        queues = [*deliver._deps.sources.values(), courier._dead_letters._sqs]
        queues += [] if courier._confirmation is None else [courier._confirmation._sqs]
        for queue in queues:
            await queue.close()
        await basis.upstash.close()

    deliver._loop.run_until_complete(close())
    deliver.close()


@contextlib.asynccontextmanager
async def deliver_rig(directory: Path, redis_url: str, gateway: Reachable) -> AsyncIterator[DeliverRig]:
    """Give a rig, and close all that it has opened."""
    clock = Clock(time.time())
    redis = Redis(redis_url)
    with QueueServerThread.running(directory / "queues.sqlite", clock=clock) as server:
        rig = DeliverRig(server, clock, gateway, redis)
        try:
            yield rig
        finally:
            await rig.close()
            await redis.close()


def message_ids(texts: Sequence[str]) -> list[str]:
    """Return which pushes deliveries are of."""
    return [json.loads(text)["event"]["message_id"] for text in texts]
