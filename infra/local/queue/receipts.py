"""Receipt handles: which message, of which queue, and which of its receives."""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from infra.local.queue import errors

_FORM: Final = struct.Struct(">qqi")
_CHECK_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a handle says. ``receive`` counts the message's receives from 1."""

    queue: int
    seq: int
    receive: int

    def handle(self) -> str:
        """Give it as an opaque text."""
        content = _FORM.pack(self.queue, self.seq, self.receive)
        return base64.urlsafe_b64encode(content + _check(content)).decode()


def read_handle(handle: str, queue: int) -> Receipt:
    """Read a handle that was given for this queue. Raises QueueError for any other text."""
    try:
        data = base64.b64decode(handle.encode("ascii"), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise errors.invalid_receipt() from None
    content, check = data[: _FORM.size], data[_FORM.size :]
    if len(content) != _FORM.size or check != _check(content):
        raise errors.invalid_receipt()
    receipt = Receipt(*_FORM.unpack(content))
    if receipt.queue != queue:
        raise errors.invalid_receipt()
    return receipt


def _check(content: bytes) -> bytes:
    """Give what tells a handle from bytes that happen to have its length; it is no secret."""
    return hashlib.blake2s(content, digest_size=_CHECK_BYTES).digest()
