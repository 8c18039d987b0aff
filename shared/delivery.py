"""What the queues hold: pushes that wait for the log, and dead letters, as JSON text.

A release reads what it writes, and what the one before it and the one after it do: a queue outlives a deployment, or
going back, by up to 14 days. So a format changes over two releases: the first one reads the new one and still writes
the old one, the second one writes the new one. A third one may read the old one no more after 14 days, with no dead
letters left. What is not read all the same ends among the dead letters, unchanged, and can be put back later.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from shared.json_object import NotAnObjectError, parse_object

#: The form of what is written now, and the ones that are read: see above.
FORMAT = "1"
READABLE_FORMATS = frozenset({FORMAT})


class UnreadableDeliveryError(ValueError):
    """A queue's message is not one of ours, or was written by a later version; its text is the reason."""


class Event(NamedTuple):
    """An event on its way to the log; the same call of `Log.append` stores it, however often it is made."""

    topic: str
    envelope: str
    subscription: str
    message_id: str


class RawPush(NamedTuple):
    """A push that could not be read, as it came: its size and hash, and its body or, of a too large one, the head.

    ``pubsub`` holds the headers that an unwrapped push carries its metadata in.
    """

    size: int
    sha256: str
    head: bytes
    pubsub: Mapping[str, str]

    @property
    def is_whole(self) -> bool:
        """Whether all of its body is here, so that it can be read again."""
        return len(self.head) == self.size


class Delivery(NamedTuple):
    """One message of the delivery queue or the confirmation queue.

    ``accepted_at`` is when the push came, RFC 3339. ``returns`` counts how often it was put back from the dead
    letters without being asked to; ``nonce`` is new whenever it is put back, so that the queue takes it again.
    """

    content: Event | RawPush
    accepted_at: str
    returns: int = 0
    nonce: str = ""

    @property
    def group(self) -> str:
        """What keeps its order among itself: one topic. A hash, for AWS allows 128 characters.

        A push that could not be read belongs to no topic, and holds up nobody.
        """
        content = self.content
        return _hash("push", content.sha256) if isinstance(content, RawPush) else _hash(content.topic)

    @property
    def dedupe_id(self) -> str:
        """What the queue knows a second copy by: the message of the subscription, and how often it was put back."""
        content = self.content
        if isinstance(content, RawPush):
            return _hash(content.sha256, self.accepted_at, self.nonce)
        return _hash(content.subscription, content.message_id, self.nonce)

    def put_back(self, nonce: str, *, unasked: bool) -> Delivery:
        """Return it as it goes to the queue again. Unasked returns are counted; being asked for starts anew."""
        return self._replace(nonce=nonce, returns=self.returns + 1 if unasked else 0)

    def to_json(self) -> str:
        """Write it."""
        content = self.content
        if isinstance(content, RawPush):
            named: dict[str, Any] = {
                "push": {
                    "size": content.size,
                    "sha256": content.sha256,
                    "head": base64.b64encode(content.head).decode(),
                    "pubsub": dict(content.pubsub),
                }
            }
        else:
            named = {
                "event": {
                    "topic": content.topic,
                    "envelope": content.envelope,
                    "subscription": content.subscription,
                    "message_id": content.message_id,
                }
            }
        return _dump(
            {"format": FORMAT, **named, "accepted_at": self.accepted_at, "returns": self.returns, "nonce": self.nonce}
        )

    @classmethod
    def parse(cls, text: str) -> Delivery:
        """Read one. Raises UnreadableDeliveryError."""
        told = _object(text)
        event, push = told.get("event"), told.get("push")
        content: Event | RawPush
        if isinstance(event, dict):
            content = Event(*(_word(event, name) for name in ("topic", "envelope", "subscription", "message_id")))
        elif isinstance(push, dict):
            content = _raw_push(push)
        else:
            raise UnreadableDeliveryError("neither an event nor a push")
        return cls(content, _moment(told, "accepted_at"), _number(told, "returns"), _word(told, "nonce"))


class Death(StrEnum):
    """Why a message ended among the dead letters: it decides what becomes of it."""

    TEMPORARY = "temporary"
    """The log was away for too long: put back by itself once it is healthy, a few times."""
    UNKNOWN = "unknown"
    """It failed each time for a reason that should not be: put back by somebody who has mended it."""
    POISON = "poison"
    """It can never be delivered as it is."""


class DeadLetter(NamedTuple):
    """A message that could not be delivered. ``message`` is its text as the queue held it; times are RFC 3339."""

    death: Death
    reason: str
    first_seen: str
    died_at: str
    attempts: int
    message: str

    def to_json(self) -> str:
        """Write it."""
        return _dump(
            {
                "format": FORMAT,
                "death": self.death.value,
                "reason": self.reason,
                "first_seen": self.first_seen,
                "died_at": self.died_at,
                "attempts": self.attempts,
                "message": self.message,
            }
        )

    @classmethod
    def parse(cls, text: str) -> DeadLetter:
        """Read one. Raises UnreadableDeliveryError."""
        told = _object(text)
        try:
            death = Death(_word(told, "death"))
        except ValueError as error:
            raise UnreadableDeliveryError(str(error)) from None
        return cls(
            death,
            _word(told, "reason"),
            _word(told, "first_seen"),
            _word(told, "died_at"),
            _number(told, "attempts"),
            _word(told, "message"),
        )


def _raw_push(told: Mapping[str, Any]) -> RawPush:
    pubsub = told.get("pubsub")
    if not isinstance(pubsub, dict) or not all(isinstance(value, str) for value in pubsub.values()):
        raise UnreadableDeliveryError("no pubsub")
    try:
        head = base64.b64decode(_word(told, "head"), validate=True)
    except binascii.Error as error:
        raise UnreadableDeliveryError("head is not base64") from error
    return RawPush(_number(told, "size"), _word(told, "sha256"), head, pubsub)


def _object(text: str) -> Mapping[str, Any]:
    try:
        told = parse_object(text.encode("utf-8", "surrogatepass"))
    except NotAnObjectError as error:
        raise UnreadableDeliveryError(str(error)) from None
    if told.get("format") not in READABLE_FORMATS:
        raise UnreadableDeliveryError("of a format that this version does not read")
    return told


def _word(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name)
    if not isinstance(value, str):
        raise UnreadableDeliveryError(f"no {name}")
    return value


def _moment(told: Mapping[str, Any], name: str) -> str:
    value = _word(told, name)
    if not _is_moment(value):
        raise UnreadableDeliveryError(f"no {name}")
    return value


def _is_moment(value: str) -> bool:
    try:
        moment = datetime.fromisoformat(value)
        moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return False
    return moment.tzinfo is not None


def _number(told: Mapping[str, Any], name: str) -> int:
    value = told.get(name)
    if type(value) is not int or value < 0:
        raise UnreadableDeliveryError(f"no {name}")
    return value


def _dump(value: Mapping[str, Any]) -> str:
    # ASCII: SQS refuses some characters that JSON may hold.
    return json.dumps(value, separators=(",", ":"))


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
