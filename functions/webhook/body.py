"""Reading a push's body without holding more of it than can be used."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from starlette.requests import Request

from shared.errors import BodyTooLargeError
from shared.push import MAX_PUSH_BYTES
from shared.request_body import stated_size

#: What is read at all: a Pub/Sub message is at most 10 MB, in base64 inside JSON.
MAX_READ_BYTES = 15 * 1024 * 1024
_HEAD_BYTES = 1024


class Body(NamedTuple):
    """A request body: all of it up to 256 KiB; of a larger one its size, hash and head."""

    kept: bytes
    size: int
    sha256: str

    @property
    def oversized(self) -> bool:
        """Whether there was more than a push may hold."""
        return self.size > MAX_PUSH_BYTES


async def read_body(request: Request) -> Body:
    """Read a request's body. Raises BodyTooLargeError beyond `MAX_READ_BYTES`, without reading on."""
    kept, size, digest = bytearray(), 0, hashlib.sha256()
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_READ_BYTES:
            raise BodyTooLargeError(f"A push is at most {MAX_PUSH_BYTES} bytes.")
        digest.update(chunk)
        if len(kept) <= MAX_PUSH_BYTES:
            kept += chunk
    if size > MAX_PUSH_BYTES:
        del kept[_HEAD_BYTES:]
    return Body(bytes(kept), size, digest.hexdigest())


async def check_size(request: Request) -> None:
    """Raise BodyTooLargeError if the body is larger than a push may be; of a larger one nothing more is read."""
    size = stated_size(request)
    if size <= MAX_PUSH_BYTES:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > MAX_PUSH_BYTES:
                break
    if size > MAX_PUSH_BYTES:
        raise BodyTooLargeError(f"A push is at most {MAX_PUSH_BYTES} bytes.")
