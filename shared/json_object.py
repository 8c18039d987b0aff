"""JSON objects that others have sent: read with a bound on how deep they go."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

#: Objects and lists inside each other. What we take needs three; the parser's own bound is its stack.
MAX_DEPTH = 32


class NotAnObjectError(ValueError):
    """A text is not a JSON object that we read; it says why, to be put behind the text's name."""


def parse_object(text: bytes | bytearray) -> dict[str, Any]:
    """Return the JSON object that a text holds. Raises NotAnObjectError, also for one deeper than `MAX_DEPTH`."""
    try:
        decoded = json.loads(text)
    except ValueError:
        raise NotAnObjectError("is not JSON") from None
    except RecursionError:
        raise NotAnObjectError("is nested too deeply") from None
    # Most texts have too few brackets to be deep, and are not looked through.
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and _is_deep(decoded):
        raise NotAnObjectError("is nested too deeply")
    if not isinstance(decoded, dict):
        raise NotAnObjectError("is not a JSON object")
    return decoded


def _is_deep(decoded: Any) -> bool:
    layer = [decoded]
    for _ in range(MAX_DEPTH):
        layer = [held for outer in layer for held in _members(outer)]
    return any(isinstance(held, dict | list) for held in layer)


def _members(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
