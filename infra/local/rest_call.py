"""One HTTP request to the REST API over ASGI: its path, query and body, and how it is answered."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from starlette.types import Receive, Scope, Send

from infra.local.rest_refusal import MAX_REQUEST_BYTES, RefusedError, too_large

_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class ClientLeftError(Exception):
    """The client went away before its request was complete; there is nobody to answer."""


class Call:
    """One HTTP request: what of it matters here, and how it is answered."""

    __slots__ = ("_receive", "_send", "base64", "headers", "method", "path", "query")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path = raw_path(scope)
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.query = _query(scope["query_string"])
        self.base64 = self.headers.get(b"upstash-encoding") == b"base64"
        self._receive = receive
        self._send = send

    def segments(self) -> list[bytes]:
        """Split the path and decode each part. Raises RefusedError for a broken escape."""
        if _BAD_ESCAPE.search(self.path):
            raise RefusedError(400, "ERR invalid URL escape in path")
        return [unquote_to_bytes(part) for part in self.path.strip(b"/").split(b"/")]

    async def body(self) -> bytes:
        """Read the whole body. Raises RefusedError above Upstash's limit, but reads on to the end first."""
        parts: list[bytes] = []
        size = 0
        more = True
        while more:
            message = await self._receive()
            if message["type"] != "http.request":
                raise ClientLeftError
            part: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            size += len(part)
            if size <= MAX_REQUEST_BYTES:
                parts.append(part)
        if size > MAX_REQUEST_BYTES:
            raise RefusedError(400, too_large(size))
        return b"".join(parts)

    async def until_left(self) -> None:
        """Return when the client has closed the connection; what it still sends is dropped."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def answer(self, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
        """Answer with a JSON body, which may be empty."""
        head = [
            (b"content-type", b"application/json; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            *headers,
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": head})
        # uvicorn drops the body of an answer to HEAD.
        await self._send({"type": "http.response.body", "body": body})

    async def start_feed(self, *headers: tuple[bytes, bytes]) -> None:
        """Answer with server-sent events, which `write` sends and `end` ends."""
        head = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache"), *headers]
        await self._send({"type": "http.response.start", "status": 200, "headers": head})

    async def write(self, data: bytes) -> None:
        """Send a part of a feed."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """End a feed."""
        await self._send({"type": "http.response.body", "body": b""})


def raw_path(scope: Scope) -> bytes:
    """Give the path before decoding: a %2F inside an argument is not a separator."""
    raw: bytes | None = scope.get("raw_path")
    return raw if raw is not None else quote(scope["path"]).encode()


def _query(query_string: bytes) -> list[tuple[bytes, bytes | None]]:
    """Split a query into decoded pairs; a key without `=` (such as `?NX`) has no value."""
    if not query_string:
        return []
    pairs: list[tuple[bytes, bytes | None]] = []
    for part in query_string.split(b"&"):
        if part:
            key, equals, value = part.replace(b"+", b" ").partition(b"=")
            pairs.append((unquote_to_bytes(key), unquote_to_bytes(value) if equals else None))
    return pairs
