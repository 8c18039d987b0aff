"""Where unreadable pushes wait when there is no queue of dead letters: outside Lambda that is allowed."""

from __future__ import annotations

import base64
import json

from shared.delivery import RawPush
from shared.keys import Keys
from shared.log import APPEND_TIMEOUT_S
from shared.scripts import script
from shared.upstash import Upstash

MAX_PARKED = 1000
KEPT_S = 14 * 86_400


class Parking:
    """A bounded list in Redis, newest first; the oldest of more than `MAX_PARKED` make room."""

    def __init__(self, upstash: Upstash, keys: Keys) -> None:
        self._upstash = upstash
        self._keys = keys

    async def park(
        self, push: RawPush, *, reason: str, received_at: str, timeout_s: float = APPEND_TIMEOUT_S
    ) -> None:
        """Keep a push. Raises LogUnavailableError or LogDefectError; then it is not known to be kept."""
        body = json.dumps(
            {
                "reason": reason,
                "received_at": received_at,
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

    async def settle(self) -> None:
        """Wait until nothing is under way that nobody waits for."""
        await self._upstash.settle()
