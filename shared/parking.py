"""Where pushes wait that are genuine and can never be read, so that acknowledging them loses nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.keys import Keys
from shared.log import APPEND_TIMEOUT_S
from shared.scripts import script
from shared.upstash import Upstash

MAX_PARKED = 1000
KEPT_S = 14 * 86_400


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A push that cannot be read: why, when it came (RFC 3339), its size and hash, and its body or the head of it.

    ``pubsub`` holds the headers that an unwrapped push carries its metadata in.
    """

    reason: str
    received_at: str
    size: int
    sha256: str
    head: bytes
    pubsub: Mapping[str, str] = field(default_factory=dict)


class Parking:
    """A bounded list in Redis, newest first; the oldest of more than `MAX_PARKED` make room."""

    def __init__(self, upstash: Upstash, keys: Keys) -> None:
        self._upstash = upstash
        self._keys = keys

    async def park(self, push: Unreadable, *, timeout_s: float = APPEND_TIMEOUT_S) -> None:
        """Keep a push. Raises LogUnavailableError or LogDefectError; then it is not known to be kept."""
        body = json.dumps(
            {
                "reason": push.reason,
                "received_at": push.received_at,
                "size": push.size,
                "sha256": push.sha256,
                "head": base64.b64encode(push.head).decode(),
                "pubsub": dict(push.pubsub),
            }
        )
        # Parked twice by a retry is better than not at all.
        await self._upstash.execute(
            ["EVAL", script("park"), 1, self._keys.parked, body, MAX_PARKED, KEPT_S],
            timeout_s=timeout_s,
        )
