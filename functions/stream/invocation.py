"""What Lambda says of the invocation that a request is.

The Lambda Web Adapter sets both headers, whatever a client sends. Elsewhere a client that sends them shortens its own
stream, or gives way to another of its own.
"""

from __future__ import annotations

import json
import math

CONTEXT_HEADER = "x-amzn-lambda-context"
REQUEST_HEADER = "x-amzn-request-context"
#: A stream ends so long before the deadline: what it says last must be through, and its slot given back.
BEFORE_DEADLINE_S = 10.0


def deadline(context: str | None) -> float | None:
    """Return the deadline in Unix seconds that stands in an invocation's context (JSON), if one does."""
    return _seconds(context, "deadline")


def arrived_at(request_context: str | None) -> float | None:
    """Return when the request came to Lambda, in Unix seconds, if its context (JSON) says so.

    A process that has to start first hears of it seconds later.
    """
    return _seconds(request_context, "timeEpoch")


def _seconds(text: str | None, name: str) -> float | None:
    try:
        found_ms = json.loads(text or "null")[name]
        if isinstance(found_ms, bool) or not isinstance(found_ms, int | float):
            return None
        found_s = found_ms / 1000
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None
    return found_s if math.isfinite(found_s) else None
