"""Google Pub/Sub push requests, and the Gmail notification inside.

Sources: Pub/Sub "Push subscriptions" (wrapped and unwrapped form) and Gmail API "Push notifications". Everything
here takes bytes and returns values.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeGuard

from shared.envelope import Notification
from shared.errors import BadTopicError
from shared.json_object import NotAnObjectError, parse_object
from shared.topic import gmail_topic

#: Larger pushes are not read.
MAX_PUSH_BYTES = 256 * 1024

_MAX_HISTORY_ID = 2**64 - 1  # uint64 in the Gmail API
_ID = re.compile(r"[\x20-\x7e]{1,256}", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)


class UnreadablePushError(ValueError):
    """A push that no retry can mend; its text is the reason."""


def parse_push(body: bytes, headers: Mapping[str, str], *, received_at: datetime) -> Notification:
    """Read a push in wrapped or unwrapped form. Raises UnreadablePushError.

    ``headers`` have lower-case names. ``received_at`` stands in for a missing publish time.
    """
    if "x-goog-pubsub-message-id" in headers:
        subscription: Any = headers.get("x-goog-pubsub-subscription-name")
        message_id: Any = headers["x-goog-pubsub-message-id"]
        published_at: Any = headers.get("x-goog-pubsub-publish-time")
        attributes: Any = headers
        data = body
    else:
        wrapped = _object(body, "body")
        message = wrapped.get("message")
        if not isinstance(message, dict):
            raise UnreadablePushError("no message")
        subscription = wrapped.get("subscription")
        message_id = message.get("messageId") or message.get("message_id")
        published_at = message.get("publishTime") or message.get("publish_time")
        attributes = message.get("attributes")
        data = _base64(message.get("data"))
    return _notification(
        subscription=_id(subscription, "subscription"),
        message_id=_id(message_id, "messageId"),
        published_at=published_at if _is_time(published_at) else None,
        gmail=_object(data, "data"),
        low_key=_low_key(attributes),
        received_at=received_at,
    )


def _notification(
    *,
    subscription: str,
    message_id: str,
    published_at: str | None,
    gmail: Mapping[str, Any],
    low_key: str | None,
    received_at: datetime,
) -> Notification:
    address = gmail.get("emailAddress")
    if not isinstance(address, str) or not address:
        raise UnreadablePushError("no emailAddress")
    try:
        topic = gmail_topic(address)
    except BadTopicError:
        raise UnreadablePushError("emailAddress cannot be a topic") from None
    return Notification(
        subscription=subscription,
        message_id=message_id,
        published_at=published_at or rfc3339(received_at),
        email_address=address,
        history_id=_history_id(gmail.get("historyId")),
        topic=topic,
        low_key=low_key,
    )


def rfc3339(moment: datetime) -> str:
    """Write a moment as RFC 3339 in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _object(text: bytes, what: str) -> dict[str, Any]:
    try:
        return parse_object(text)
    except NotAnObjectError as error:
        raise UnreadablePushError(f"{what} {error}") from None


def _is_time(value: Any) -> TypeGuard[str]:
    if not isinstance(value, str) or _TIME.fullmatch(value) is None:
        return False
    try:
        datetime.fromisoformat(value[:19])  # up to the seconds: no month 13, no hour 25
    except ValueError:
        return False
    return True


def _id(value: Any, name: str) -> str:
    if not isinstance(value, str) or _ID.fullmatch(value) is None:
        raise UnreadablePushError(f"no {name}")
    return value


def _base64(value: Any) -> bytes:
    """Decode base64 or base64url, padded or not: Gmail's guide and its practice differ."""
    if not isinstance(value, str) or not value:
        raise UnreadablePushError("no data")
    plain = value.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise UnreadablePushError("bad base64") from None


def _low_key(attributes: Any) -> str | None:
    """Return the key of a message of low priority; what is marked in any other way counts as every message does.

    CloudEvents' binding for Pub/Sub gives the attributes of an event the prefix ``ce-``. Unwrapped, attributes are
    headers.
    """
    if not isinstance(attributes, Mapping) or attributes.get("ce-priority") != "low":
        return None
    key = attributes.get("ce-key")
    return key if isinstance(key, str) and _ID.fullmatch(key) is not None else None


def _history_id(value: Any) -> str:
    """Return a history id as text: it is a number in practice, a string in the guide, and up to 64 bits long."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,20}", value, re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_HISTORY_ID:
        raise UnreadablePushError("no historyId")
    return str(value)
