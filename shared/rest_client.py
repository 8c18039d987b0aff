"""What ``upstash-redis`` needs of an HTTP client, on our pool: POST of JSON, and nothing else.

httpx's own client takes 0.1 ms for a request and its answer (URLs, cookies, redirects, codecs), and a push makes two:
more than all else that the webhook function does for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import httpx

from shared.http_pool import Headers, PooledTransport, joined


class RestAnswer:
    """An answer as the library reads it."""

    __slots__ = ("_body", "headers", "status_code")

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status_code = status
        self.headers = RestHeaders(headers)
        self._body = body

    def json(self) -> Any:
        """Return the body as JSON, whatever its status. Raises ValueError."""
        return json.loads(self._body)


class RestHeaders:
    """The headers of an answer; their names in any case."""

    __slots__ = ("_raw",)

    def __init__(self, raw: Headers) -> None:
        self._raw = raw

    def get(self, name: str) -> str | None:
        """Return the value of a header, None without it."""
        wanted = name.lower().encode("ascii")
        return next((value.decode("latin-1") for key, value in self._raw if key.lower() == wanted), None)


class RestClient:
    """Posts to the server at ``url``. Raises what httpx raises; time-outs but that of connecting are the caller's."""

    def __init__(self, url: str, transport: PooledTransport, *, connect_timeout_s: float) -> None:
        self._transport = transport
        self._connect_timeout_s = connect_timeout_s
        self._host = b"Host: %b" % httpx.URL(url).netloc

    async def post(self, url: str, *, headers: Mapping[str, str], json: Any) -> RestAnswer:
        """Post a JSON value to a URL of that server and return the answer, read whole."""
        content = _encoded(json)
        lines = [b"POST %b HTTP/1.1" % _target(url), self._host]
        lines += [f"{name}: {value}".encode("latin-1") for name, value in headers.items()]
        lines += [b"Content-Type: application/json", b"Content-Length: %d" % len(content)]
        return RestAnswer(*await self._transport.exchange(joined(lines, content), connect_s=self._connect_timeout_s))

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()


@cache
def _target(url: str) -> bytes:
    """Return the path of a URL; the library knows two or three."""
    return httpx.URL(url).raw_path


def _encoded(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")
