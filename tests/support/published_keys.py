"""Key servers that nobody runs: what fetches keys is answered by respx."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import httpx
import respx


@contextlib.contextmanager
def published() -> Iterator[respx.MockRouter]:
    """Give a router that answers in the place of every key server; what it has no route for is an error."""
    router = respx.MockRouter(assert_all_called=False)

    def transport(_url: str, **_options: Any) -> httpx.MockTransport:
        return httpx.MockTransport(router.async_handler)

    with mock.patch("shared.jwks.PooledTransport", transport):
        yield router
