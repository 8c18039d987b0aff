"""The client of ``upstash-redis``, over an HTTP client that it is given.

The library builds its own, without time-outs, and takes no other. That takes 0.05 s at cold start (httpcore, h11 and
every CA certificate), for a client that nobody would use.
"""

from __future__ import annotations

from typing import cast

import httpx
from upstash_redis.asyncio import Redis
from upstash_redis.http import AsyncHttpClient, make_headers

from shared.rest_client import RestClient


class _Exchange(AsyncHttpClient):
    """Commands for answers. No encoding: all that the log holds is ASCII. No retries: it repeats any failure."""

    def __init__(self, redis: Redis) -> None:
        # In place of the library's, which is the one that builds a client.
        self._encoding, self._retries, self._retry_interval = None, 0, 0.0
        # Each answer brings a token; the next request sends it, and so reads what was written.
        self._sync_token_cb = redis._update_sync_token  # noqa: SLF001

    def use(self, client: RestClient) -> None:
        """Send what comes from now on through this client."""
        # All that the library asks of it is to post, and to be closed.
        self._client = cast("httpx.AsyncClient", client)


class RestRedis(Redis):
    """The library's client; to be told its HTTP client by `use` before anything else."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._read_your_writes, self._sync_token = True, ""
        # No telemetry: it names the platform on each request.
        self._allow_telemetry = False
        self._headers = make_headers(token, None, allow_telemetry=False)
        self._exchange = self._http = _Exchange(self)

    def use(self, client: RestClient) -> None:
        """Send what comes from now on through this client. What is known beside (the sync token) stays."""
        self._exchange.use(client)
