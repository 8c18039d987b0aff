"""How much the log keeps."""

from __future__ import annotations

from typing import NamedTuple

#: The position of a topic's last event outlives its log by this much, so that a quiet topic is not taken for a
#: lost one. A cursor older than both cannot be vouched for.
MEMORY_BEYOND_RETENTION_S = 30 * 86_400


class Retention(NamedTuple):
    """Seconds and events kept a topic, and seconds for which a message is known again."""

    keep_s: int
    topic_max_events: int
    dedupe_s: int

    @property
    def memory_s(self) -> int:
        """Seconds after which every cursor is too old."""
        return self.keep_s + MEMORY_BEYOND_RETENTION_S
