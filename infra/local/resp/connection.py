"""Where a Redis listens, and how a connection to it is opened and lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit

import hiredis

from infra.local.resp.wire import Argument, Reply

_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.Protocol)

CONNECT_TIMEOUT_S: Final = 2.0
DEFAULT_PORT: Final = 6379


class RespConnectionError(ConnectionError):
    """Redis could not be reached, or would not let us in; no command was sent."""


class RespConnectionLostError(RespConnectionError):
    """The connection broke before the reply: the command may or may not have run."""


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a Redis listens, and how to log in there. A `path` (a Unix socket) wins over host and port."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    path: str | None = None
    username: str | None = None
    password: str | None = None
    db: int = 0
    only_primary: bool = False
    """Whether a connection there is worth nothing unless that Redis is a primary."""

    @classmethod
    def from_url(cls, url: str) -> RedisAddress:
        """Read `redis://[user][:password]@host:port/db` or `unix:///path/to/socket[?db=n]`.

        Raises ValueError for anything else, TLS (`rediss:`) included.
        """
        parts = urlsplit(url)
        username = unquote(parts.username) if parts.username else None
        password = unquote(parts.password) if parts.password else None
        if parts.scheme == "unix" and parts.path:
            db = parts.query.removeprefix("db=") or "0"
            return cls(path=unquote(parts.path), username=username, password=password, db=int(db))
        if parts.scheme == "redis":
            return cls(
                host=parts.hostname or "127.0.0.1",
                port=parts.port or DEFAULT_PORT,
                username=username,
                password=password,
                db=int(parts.path.strip("/") or "0"),
            )
        raise ValueError(f"not a Redis URL (redis://host:port/db or unix:///path): {parts.scheme}://…")

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    def greeting(self) -> list[tuple[Argument, ...]]:
        """List the commands that a new connection sends before any other."""
        commands: list[tuple[Argument, ...]] = []
        if self.password is not None:
            commands.append(("AUTH", *((self.username,) if self.username else ()), self.password))
        if self.db:
            commands.append(("SELECT", self.db))
        if self.only_primary:
            commands.append(("ROLE",))
        return commands

    def check_greeting(self, reply: Reply) -> None:
        """Look at one reply to the greeting. Raises RespConnectionError."""
        if isinstance(reply, hiredis.ReplyError):
            raise RespConnectionError(f"Redis at {self} refused us: {reply}")
        # Of all that a greeting asks, only ROLE is answered with a list.
        if isinstance(reply, list) and reply[:1] != [b"master"]:
            raise RespConnectionError(f"Redis at {self} is not the primary")


async def open_connection(address: RedisAddress, factory: Callable[[], _ProtocolT], timeout_s: float) -> _ProtocolT:
    """Open a socket to Redis. Raises RespConnectionError."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            if address.path is not None:
                _, protocol = await loop.create_unix_connection(factory, address.path)
            else:
                _, protocol = await loop.create_connection(factory, address.host, address.port)
    except TimeoutError:
        raise RespConnectionError(f"Redis at {address} did not accept within {timeout_s} s") from None
    except OSError as error:
        raise RespConnectionError(f"Redis at {address} is unreachable: {error.strerror or error}") from error
    except ValueError as error:  # no name of any host: it may come from a Sentinel
        raise RespConnectionError(f"Redis at {address} is unreachable: {error}") from error
    return protocol
