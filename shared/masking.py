"""What must not stand in a log: mailbox addresses, tokens."""

from __future__ import annotations

import re
import string
from typing import Any

# %40 is the @ of a query.
_AT = re.compile(r"(?:@|%40)(?=[A-Za-z0-9-])")
_LOCAL_PART = frozenset(string.ascii_letters + string.digits + "_.!#$&'*+/=?^`{|}~-")
# A JWT (its header is a JSON object, and so begins with ey), whole or cut off.
_JWT = re.compile(r"\bey[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,2}")
_CREDENTIALS = re.compile(r"(?i)(\bbearer\s+|[?&]_?token=)[^\s\"'&]+")


def mask(text: str) -> str:
    """Return a text without the addresses and tokens in it."""
    text = _JWT.sub("***", text)
    text = _CREDENTIALS.sub(r"\1***", text)
    return _mask_addresses(text)


def _mask_addresses(text: str) -> str:
    """Take out the local part of each address; the domain stays, for whoever looks for a pattern.

    From each @ backwards: a pattern that looks for the local part first takes a time that grows with the square of
    the text.
    """
    parts: list[str] = []
    end = 0
    for at in _AT.finditer(text):
        start = at.start()
        while start > end and text[start - 1] in _LOCAL_PART:
            start -= 1
        if start < at.start():
            parts += [text[end:start], "***"]
        else:
            parts.append(text[end:start])
        end = at.start()
    return "".join([*parts, text[end:]])


def mask_all(value: Any) -> Any:
    """Return a value of JSON's kinds with every text in it masked; whatever else it holds is left as it is."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {mask_all(name): mask_all(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [mask_all(held) for held in value]
    return value
