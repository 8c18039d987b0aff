"""Refusals of the REST API, in Upstash's words."""

from __future__ import annotations

from typing import Final

# It holds for a request and for each reply.
MAX_REQUEST_BYTES: Final = 10 * 1024 * 1024

_DOCS: Final = "https://upstash.com/docs/redis"


class RefusedError(Exception):
    """The request is answered with this status and `{"error": text}`; no text means an empty body."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def not_available(name: str) -> str:
    """Say that Upstash does not have a command."""
    return f"ERR Command is not available: '{name}'. See {_DOCS}/overall/rediscompatibility for details"


def too_large(size: int) -> str:
    """Say that a request or a reply has more bytes than MAX_REQUEST_BYTES."""
    return (
        f"ERR max request size exceeded. Limit: {MAX_REQUEST_BYTES} bytes, Actual: {size} bytes. "
        f"See {_DOCS}/troubleshooting/max_request_size_exceeded for details"
    )
