"""Simulated mail: Pub/Sub pushes as Google sends them for Gmail."""

from __future__ import annotations

import base64
import itertools
import json
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from shared.push import rfc3339

SUBSCRIPTION = "projects/tidemark-local/subscriptions/gmail"


def push_body(mailbox: str, history_id: int, message_id: str, *, subscription: str = SUBSCRIPTION) -> dict[str, Any]:
    """Build the JSON body of a wrapped push, published now."""
    data = json.dumps({"emailAddress": mailbox, "historyId": history_id}, separators=(",", ":")).encode()
    published = rfc3339(datetime.now(UTC))
    return {
        "message": {
            "data": base64.b64encode(data).decode(),
            "messageId": message_id,
            "message_id": message_id,
            "publishTime": published,
            "publish_time": published,
        },
        "subscription": subscription,
    }


def fresh_message_id() -> str:
    """Return a message id that no push has had: digits, as Google's are."""
    return f"{time.time_ns()}{secrets.randbelow(1000):03}"


def history_ids(first: int | None = None) -> Iterator[int]:
    """Count history ids upwards from ``first``, or from one that rises with time."""
    return itertools.count(time.time_ns() // 1_000_000 if first is None else first)
