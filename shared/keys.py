"""Names of everything that Tidemark keeps in Redis, under one prefix a stage."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import NamedTuple


# The topics and users of a process are asked about again and again, with every reconcile.
@lru_cache(maxsize=16_384)
def digest(*parts: str) -> str:
    """Return what stands for somebody else's ids in a key."""
    # Ids of other people may hold anything, and may be personal: a key holds their hash.
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]


class Keys(NamedTuple):
    """Key and channel names of one stage."""

    stage: str

    @property
    def _prefix(self) -> str:
        return f"tidemark:{self.stage}:"

    @property
    def clock(self) -> str:
        """Where the highest position ever given out is kept."""
        return f"{self._prefix}clock"

    @property
    def born(self) -> str:
        """Where the beginning of the log's memory is kept."""
        return f"{self._prefix}born"

    @property
    def parked(self) -> str:
        """The list of pushes that can never be read."""
        return f"{self._prefix}parked"

    @property
    def revoked(self) -> str:
        """When the tokens of which users were revoked."""
        return f"{self._prefix}revoked"

    @property
    def probe(self) -> str:
        """A key that only shows whether Redis can be written to."""
        return f"{self._prefix}probe"

    def limit(self, quota: str) -> str:
        """Return what the counters of a rate limit begin with."""
        return f"{self._prefix}limit:{quota}"

    def log(self, topic: str) -> str:
        """Return the stream that holds a topic's entries."""
        return f"{self._prefix}log:{topic}"

    def last(self, topic: str) -> str:
        """Return where the position of a topic's last event is kept. It outlives the log, and so names nobody."""
        return f"{self._prefix}last:{digest(topic)}"

    def seen(self, subscription: str, message_id: str) -> str:
        """Return the dedupe key of a Pub/Sub message."""
        return f"{self._prefix}seen:{digest(subscription, message_id)}"

    def ack(self, user: str, client: str) -> str:
        """Return where the cursor that a user's client has acknowledged is kept."""
        return self.ack_of(digest(user), client)

    def ack_of(self, user: str, client: str) -> str:
        """Return the same for a user that is hashed already."""
        return f"{self._prefix}ack:{user}:{client}"

    def acks(self, user: str) -> str:
        """Return the pattern of a user's acks, whatever the clients."""
        return self.ack(user, "*")

    def slots(self, user: str) -> str:
        """Return where the slots of a user's open streams are kept."""
        return f"{self._prefix}slots:{digest(user)}"

    @property
    def taken_away(self) -> str:
        """Which slots were taken away from their streams, and when."""
        return f"{self._prefix}taken-away"

    @property
    def live_prefix(self) -> str:
        """What every live channel begins with; the topic follows."""
        return f"{self._prefix}live:"

    def live(self, topic: str) -> str:
        """Return the channel that announces a topic's events."""
        return f"{self.live_prefix}{topic}"
