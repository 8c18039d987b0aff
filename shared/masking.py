"""What must not stand in a log: mailbox addresses, tokens."""

from __future__ import annotations

import re
from typing import Any

# The local part goes; the domain stays, for whoever looks for a pattern. %40 is the @ of a query.
_ADDRESS = re.compile(r"[\w.!#$&'*+/=?^`{|}~-]+(?=(?:@|%40)[A-Za-z0-9-])", re.ASCII)
# A JWT (its header is a JSON object, and so begins with ey), whole or cut off.
_JWT = re.compile(r"\bey[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,2}")
_CREDENTIALS = re.compile(r"(?i)(\bbearer\s+|[?&]_?token=)[^\s\"'&]+")


def mask(text: str) -> str:
    """Return a text without the addresses and tokens in it."""
    text = _JWT.sub("***", text)
    text = _CREDENTIALS.sub(r"\1***", text)
    return _ADDRESS.sub("***", text)


def mask_all(value: Any) -> Any:
    """Return a value of JSON's kinds with every text in it masked; whatever else it holds is left as it is."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {mask_all(name): mask_all(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [mask_all(held) for held in value]
    return value
