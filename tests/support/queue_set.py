"""The three queues of one deployment on a running queue server, under names of one's own.

    queues = QueueSet(server)
    queues.bury(letter(1))
    with mock.patch.dict(os.environ, queues.settings): …

Everything here blocks.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import Any

from infra.local.queue_server import REGION
from shared.delivery import DeadLetter, Death, Delivery, Event, RawPush
from shared.settings import AwsAccess
from tests.support.queue_server import QueueServerProcess

SUBSCRIPTION = "projects/p/subscriptions/s"
CAME_AT = "2026-11-23T14:00:00.000Z"
KEPT_S = "1209600"
_ATTRIBUTES = {"MessageRetentionPeriod": KEPT_S, "VisibilityTimeout": "90"}
_FIFO = {"FifoQueue": "true", "DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}


class QueueSet:
    """Three queues, made as a deployment makes them."""

    def __init__(self, server: QueueServerProcess) -> None:
        self.server = server
        self.client = server.client()
        suffix = secrets.token_hex(6)
        self.delivery = self._create(f"delivery-{suffix}.fifo", **_FIFO)
        self.dead_letters = self._create(f"dead-{suffix}")
        self.confirmation = self._create(f"confirmation-{suffix}")

    @property
    def access(self) -> AwsAccess:
        """Whose requests the server takes."""
        return AwsAccess(REGION, self.server.access_key, self.server.secret_key, None)

    @property
    def settings(self) -> dict[str, str]:
        """What a command or a function is told of them."""
        return {
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": self.server.access_key,
            "AWS_SECRET_ACCESS_KEY": self.server.secret_key,
            "TIDEMARK_QUEUE_URL": self.delivery,
            "TIDEMARK_DEAD_LETTER_URL": self.dead_letters,
            "TIDEMARK_CONFIRM_QUEUE_URL": self.confirmation,
        }

    def put(self, message: Delivery | str, *, group: str | None = None) -> str:
        """Send to the delivery queue; return the message's id."""
        body = message if isinstance(message, str) else message.to_json()
        dedupe_id = secrets.token_hex(8) if isinstance(message, str) else message.dedupe_id
        if not isinstance(message, str):
            group = message.group
        return self._send(self.delivery, body, MessageGroupId=group or "g", MessageDeduplicationId=dedupe_id)

    def bury(self, message: DeadLetter | str) -> str:
        """Send to the dead letters; return the message's id."""
        return self._send(self.dead_letters, message if isinstance(message, str) else message.to_json())

    def confirm(self, message: Delivery, *, delay_s: int = 0) -> str:
        """Send to the confirmation queue; return the message's id."""
        return self._send(self.confirmation, message.to_json(), DelaySeconds=delay_s)

    def count(self, url: str) -> tuple[int, int, int]:
        """Return how many messages of a queue can be received, are in flight, are delayed."""
        names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
        told = self.client.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        waiting, in_flight, delayed = (int(told[name]) for name in names)
        return waiting, in_flight, delayed

    def take(self, url: str, *, hidden_s: int = 60) -> list[dict[str, Any]]:
        """Receive up to ten messages, and hide them."""
        found: list[dict[str, Any]] = self.client.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=hidden_s, AttributeNames=["All"]
        ).get("Messages", [])
        return found

    def bodies(self, url: str) -> list[str]:
        """Return what can be received, without changing anything, of a queue whose groups hold ten at most."""
        found: list[dict[str, Any]] = []
        while taken := self.take(url):
            found += taken
        for message in found:
            self.client.change_message_visibility(
                QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
            )
        return [message["Body"] for message in found]

    def set(self, url: str, **attributes: str) -> None:
        """Change attributes of a queue."""
        self.client.set_queue_attributes(QueueUrl=url, Attributes=attributes)

    def _create(self, name: str, **attributes: str) -> str:
        url: str = self.client.create_queue(QueueName=name, Attributes={**_ATTRIBUTES, **attributes})["QueueUrl"]
        return url

    def _send(self, url: str, body: str, **more: Any) -> str:
        message_id: str = self.client.send_message(QueueUrl=url, MessageBody=body, **more)["MessageId"]
        return message_id


def event(number: int | str, mailbox: str = "ann@example.com", **more: Any) -> Delivery:
    """Build the delivery of an event."""
    topic = f"gmail:{mailbox}"
    envelope = json.dumps({"id": str(number), "topic": topic, "subject": mailbox}, separators=(",", ":"))
    return Delivery(Event(topic, envelope, SUBSCRIPTION, f"m-{number}"), CAME_AT, **more)


def raw_push(body: bytes, pubsub: Mapping[str, str] | None = None, *, size: int | None = None) -> Delivery:
    """Build the delivery of a push that could not be read; with a ``size`` only its head was kept."""
    digest = hashlib.sha256(body).hexdigest()
    return Delivery(RawPush(len(body) if size is None else size, digest, body, pubsub or {}), CAME_AT)


def wrapped(data: object, message_id: str = "m-1") -> bytes:
    """Build the body of a push around its data: JSON, or bytes as they are."""
    plain = data if isinstance(data, bytes) else json.dumps(data).encode()
    message = {"data": base64.b64encode(plain).decode(), "messageId": message_id, "publishTime": CAME_AT}
    return json.dumps({"message": message, "subscription": SUBSCRIPTION}).encode()


def letter(
    message: Delivery | str, *, death: Death = Death.UNKNOWN, reason: str = "it went wrong", attempts: int = 3
) -> DeadLetter:
    """Build a dead letter."""
    text = message if isinstance(message, str) else message.to_json()
    return DeadLetter(death, reason, CAME_AT, "2026-11-23T14:05:00.000Z", attempts, text)
