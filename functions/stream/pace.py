"""How fast a stream may go: as fast as its client wants, and no faster than its socket drains."""

from __future__ import annotations

import math

#: What a client may ask for with ``max_rate``, events a second.
MIN_RATE = 0.01
MAX_RATE = 10_000.0
#: Events that may go at once after a pause, in seconds of the rate: less looks jerky, more breaks the rate.
_BURST_S = 0.1
#: A page of the log holds what goes out in so many seconds: fewer reads, and little that is read in vain.
PAGE_S = 2.0
MIN_PAGE = 10
_NEW_SHARE = 0.5


class Pace:
    """A token bucket: ``rate`` events a second. Times are seconds of one clock."""

    __slots__ = ("_most", "_tokens", "_updated_at", "rate")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._most = max(1.0, rate * _BURST_S)
        self._tokens = self._most
        self._updated_at = now

    def room(self, now: float) -> int:
        """How many events may go now."""
        self._tokens = min(self._most, self._tokens + max(0.0, now - self._updated_at) * self.rate)
        self._updated_at = now
        # A sum of many small parts may fall short of the whole that it is.
        return int(self._tokens + 1e-9)

    def spend(self, events: int) -> None:
        """Note that events have gone out."""
        self._tokens -= events

    def page(self, most: int) -> int:
        """How many events the next page of the log should hold."""
        return max(MIN_PAGE, min(most, int(self.rate * PAGE_S)))

    def next_at(self) -> float:
        """When the next event may go."""
        return self._updated_at + max(0.0, 1.0 - self._tokens) / self.rate


class Drain:
    """How fast a socket has taken what was written, while it could not take all: bytes a second.

    An infinite rate is one that never had to wait.
    """

    __slots__ = ("_event_bytes", "_rate")

    def __init__(self) -> None:
        self._rate = math.inf
        self._event_bytes = 0.0

    def took(self, size: int, seconds: float) -> None:
        """Note that so many bytes left in so many seconds of waiting."""
        rate = size / max(seconds, 1e-3)
        self._rate = rate if math.isinf(self._rate) else self._rate + _NEW_SHARE * (rate - self._rate)

    def wrote(self, size: int, events: int) -> None:
        """Note how large the events of a page were."""
        self._event_bytes = size / events

    def page(self, most: int) -> int:
        """How many events the next page of the log should hold: `PAGE_S` of what the socket takes."""
        if math.isinf(self._rate) or not self._event_bytes:
            return most
        return max(MIN_PAGE, min(most, int(self._rate * PAGE_S / self._event_bytes)))
