"""Whether a text of unknown form names a mailbox: in its words, or in base64 inside of it."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from typing import Final

#: A push holds its data in base64, and a queue's message holds the push so; one level more for good measure.
_DEPTH: Final = 3
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{16,}")
# What may stand in an address: the one looked for must not be a part of another.
_BEFORE: Final = r"(?<![A-Za-z0-9._%+'!#$&*/=?^`{|}~-])"
_AFTER: Final = r"(?![A-Za-z0-9_-])(?!\.[A-Za-z0-9])"


class Mentions:
    """Looks for one address, in any case, as a whole. What cannot be decoded cannot be looked through."""

    def __init__(self, address: str) -> None:
        self._address = re.compile(_BEFORE + re.escape(address) + _AFTER, re.IGNORECASE)

    def in_text(self, text: str) -> bool:
        """Return whether a text names the address."""
        return self.in_bytes(text.encode("utf-8", "surrogatepass"))

    def in_bytes(self, data: bytes) -> bool:
        """Return whether bytes name the address."""
        return any(self._address.search(text) for text in _texts(data, _DEPTH))


def _texts(data: bytes, depth: int) -> Iterator[str]:
    """Give what can be read in bytes: themselves, without JSON's escapes, and what is base64 in them."""
    plain = data.decode("utf-8", "replace")
    yield plain
    if "\\" in plain:
        try:
            unescaped = json.dumps(json.loads(plain), ensure_ascii=False)
        except (ValueError, RecursionError):
            # Cut off, or not JSON: a quote inside of quotes loses its escape, as does an @ written as one.
            unescaped = re.sub(r"\\u([0-9A-Fa-f]{4})", lambda match: chr(int(match[1], 16)), plain)
        yield unescaped.replace('\\"', '"')
        data += b"\n" + unescaped.encode("utf-8", "replace")
    if depth > 0:
        for run in _BASE64.finditer(data):
            yield from _texts(_decoded(run[0]), depth - 1)


def _decoded(run: bytes) -> bytes:
    """Decode a run of base64 or base64url as far as it goes."""
    plain = run.translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(plain[: len(plain) // 4 * 4] + _rest(plain))
    except binascii.Error:
        return b""


def _rest(plain: bytes) -> bytes:
    tail = plain[len(plain) // 4 * 4 :]
    return tail + b"=" * (4 - len(tail)) if len(tail) > 1 else b""
