"""The header that skips rate limits, for load tests."""

from __future__ import annotations

import hmac

from shared.counts import Counts

HEADER = "X-Tidemark-Bypass"


class Bypass:
    """Knows the secret; without one nothing skips. Counts ``bypass_used`` and ``bypass_refused``."""

    def __init__(self, secret: str | None, counts: Counts) -> None:
        self._secret = None if secret is None else secret.encode()
        self._counts = counts

    def allows(self, given: str | None) -> bool:
        """Tell whether the value of the header is the secret, in a time that does not depend on how much of it is."""
        if given is None or self._secret is None:
            return False
        same = hmac.compare_digest(given.encode(), self._secret)
        self._counts.count("bypass_used" if same else "bypass_refused")
        return same
