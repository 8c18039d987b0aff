"""Envelopes: the CloudEvents 1.0 JSON that clients receive, and how it is kept in the log.

The log's script gives an event its position, so an envelope is stored without one and `with_position` puts it
in when the event is read. Both forms are ASCII JSON on one line: nothing in them can end an SSE line.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from shared.position import Position

_LOW = "low"
_LOW_MEMBER = f'"priority":"{_LOW}"'


class Notification(NamedTuple):
    """A Gmail change as Pub/Sub delivered it. Addresses and ids are as sent; ``published_at`` is RFC 3339."""

    subscription: str
    message_id: str
    published_at: str
    email_address: str
    history_id: str
    topic: str
    low_key: str | None = None
    """The key of a notification of low priority: one of the same topic and key makes older ones needless."""


def envelope_of(note: Notification) -> str:
    """Build the stored envelope of a notification (CloudEvents 1.0, section 3.1 and JSON format 1.0.2).

    The extension attributes ``priority`` (``low``) and ``key`` are there only if the notification has a key.
    """
    extensions = {} if note.low_key is None else {"priority": _LOW, "key": note.low_key}
    return json.dumps(
        {
            "specversion": "1.0",
            "id": note.message_id,
            "source": f"//pubsub.googleapis.com/{note.subscription}",
            "type": "gmail.mailbox.changed",
            "subject": note.email_address.lower(),
            "time": note.published_at,
            "topic": note.topic,
            **extensions,
            "data": {"emailAddress": note.email_address, "historyId": note.history_id},
        },
        separators=(",", ":"),
    )


def low_priority_key(envelope: str) -> str | None:
    """Return the key of an event of low priority; None for any other, also for one that names no key."""
    if _LOW_MEMBER not in envelope:  # of nearly all: to read the JSON of each would cost more than all else
        return None
    decoded = json.loads(envelope)
    key = decoded.get("key")
    return key if decoded.get("priority") == _LOW and isinstance(key, str) else None


def with_position(envelope: str, position: Position) -> str:
    """Return the envelope with its position as the last member."""
    return f'{envelope[:-1]},"position":"{position}"}}'


def as_object(envelope: str, position: Position) -> dict[str, Any]:
    """Return the envelope with its position as a JSON object."""
    decoded: dict[str, Any] = json.loads(envelope)
    decoded["position"] = str(position)
    return decoded
