"""Where a part is: a scheme, a host and a port, on this machine or elsewhere."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

from infra.local.loopback import HOST

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Origin:
    """The address of a server, without a path."""

    host: str
    port: int
    tls: bool = False

    @classmethod
    def of(cls, url: str) -> Origin:
        """Read an http(s) URL. Raises ValueError."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise ValueError("must be an http(s) URL without a path")
        tls = parts.scheme == "https"
        return cls(parts.hostname, parts.port or (443 if tls else 80), tls)

    @classmethod
    def local(cls, port: int) -> Origin:
        """Give a port of this machine."""
        return cls(HOST, port)

    @property
    def authority(self) -> str:
        """What the Host header says."""
        return self.host if self.port == (443 if self.tls else 80) else f"{self.host}:{self.port}"

    async def connect(self) -> Streams:
        """Open a connection. Raises OSError, TimeoutError included."""
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return await asyncio.open_connection(self.host, self.port, ssl=_tls_context() if self.tls else None)


@cache
def _tls_context() -> ssl.SSLContext:
    return ssl.create_default_context()
