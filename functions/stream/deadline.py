"""When Lambda ends the invocation that a request is."""

from __future__ import annotations

import json
import math

#: The Lambda Web Adapter sets it, whatever a client sends. Elsewhere a client can shorten its own stream with it.
CONTEXT_HEADER = "x-amzn-lambda-context"
#: A stream ends so long before: what it says last must be through, and its slot given back.
BEFORE_DEADLINE_S = 10.0


def deadline(context: str | None) -> float | None:
    """Return the deadline in Unix seconds that stands in an invocation's context (JSON), if one does."""
    try:
        found = json.loads(context or "null")
        deadline_ms = found["deadline"]
        if isinstance(deadline_ms, bool) or not isinstance(deadline_ms, int | float):
            return None
        deadline_s = deadline_ms / 1000
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None
    return deadline_s if math.isfinite(deadline_s) else None
