"""Dead letters, as people and scripts are shown them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shared.delivery import DeadLetter, Delivery, Event, RawPush, UnreadableDeliveryError
from shared.push import UnreadablePushError, parse_push, rfc3339
from shared.sqs import Message

_MAILBOX = "gmail:"


@dataclass(frozen=True, slots=True)
class Letter:
    """A message of the dead letter queue, as far as it can be read. ``fault`` says why it is no letter of ours."""

    id: str
    body: str
    sent_ms: int
    dead: DeadLetter | None
    delivery: Delivery | None
    fault: str

    @classmethod
    def of(cls, message: Message) -> Letter:
        """Read a message."""
        dead = delivery = None
        fault = ""
        try:
            dead = DeadLetter.parse(message.body)
            delivery = Delivery.parse(dead.message)
        except UnreadableDeliveryError as error:
            fault = f"{'its message' if dead else 'it'} cannot be read: {error}"
        return cls(message.id, message.body, message.sent_ms, dead, delivery, fault)

    @property
    def reason(self) -> str:
        """Why it is here."""
        return self.fault if self.dead is None else self.dead.reason

    @property
    def mailbox(self) -> str | None:
        """Whose it is, if that can be told."""
        content = None if self.delivery is None else self.delivery.content
        if isinstance(content, Event):
            return content.topic.removeprefix(_MAILBOX)
        address = None if content is None else _json(_data(content)).get("emailAddress")
        return address if isinstance(address, str) else None

    def summary(self) -> dict[str, Any]:
        """Return what one line of a list holds."""
        dead = self.dead
        return {
            "id": self.id,
            "death": None if dead is None else dead.death.value,
            "reason": self.reason,
            "first_seen": None if dead is None else dead.first_seen,
            "died_at": rfc3339(datetime.fromtimestamp(self.sent_ms / 1000, UTC)) if dead is None else dead.died_at,
            "attempts": None if dead is None else dead.attempts,
            "returns": None if self.delivery is None else self.delivery.returns,
            "mailbox": self.mailbox,
            "bytes": len(self.body.encode("utf-8", "surrogatepass")),
        }

    def whole(self) -> dict[str, Any]:
        """Return all that there is."""
        if self.delivery is None:
            return {**self.summary(), "message": self.body if self.dead is None else self.dead.message}
        content = self.delivery.content
        told = {**self.summary(), "accepted_at": self.delivery.accepted_at}
        if isinstance(content, RawPush):
            return {**told, "push": _push(content)}
        event = {"topic": content.topic, "subscription": content.subscription, "message_id": content.message_id}
        return {**told, "event": {**event, "envelope": _json(content.envelope.encode()) or content.envelope}}

    def refusal(self) -> str | None:
        """Return why it cannot be put back, if it cannot."""
        if self.delivery is None:
            return self.fault
        push = self.delivery.content
        if not isinstance(push, RawPush):
            return None
        if not push.is_whole:
            return f"only the head of the push was kept, {len(push.head)} of its {push.size} bytes"
        try:
            parse_push(push.head, push.pubsub, received_at=datetime.now(UTC))
        except UnreadablePushError as error:
            return f"this version cannot read the push either: {error}"
        return None


def _push(push: RawPush) -> dict[str, Any]:
    data = _data(push)
    return {
        "size": push.size,
        "sha256": push.sha256,
        "whole": push.is_whole,
        "pubsub": dict(push.pubsub),
        "body": _shown(push.head),
        "data": None if data is None else _shown(data),
    }


def _data(push: RawPush) -> bytes | None:
    """Return the data inside of a push, as far as they can be had."""
    if "x-goog-pubsub-message-id" in push.pubsub:
        return push.head
    message = _json(push.head).get("message")
    data = message.get("data") if isinstance(message, dict) else None
    if not isinstance(data, str):
        return None
    plain = data.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        return None


def _json(data: bytes | None) -> Mapping[str, Any]:
    try:
        told = json.loads(data or b"")
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _shown(data: bytes) -> Any:
    """Return bytes as JSON, if they are, else as text, else as base64."""
    try:
        return _json(data) or data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
