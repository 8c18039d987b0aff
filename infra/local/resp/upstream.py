"""Which Redis a new connection should lead to: always the same, or whichever is the primary now."""

from __future__ import annotations

from typing import Final, Protocol

from infra.local.resp.connection import CONNECT_TIMEOUT_S, RedisAddress


class Upstream(Protocol):
    """Knows where the Redis is that commands belong to."""

    @property
    def moves(self) -> bool:
        """Whether that may change while this process runs."""
        ...

    @property
    def connect_timeout_s(self) -> float:
        """How long it may take to connect, and to log in."""
        ...

    async def address(self) -> RedisAddress:
        """Find out where it is now. Raises RespConnectionError."""
        ...

    def is_current(self, address: RedisAddress) -> bool:
        """Tell whether, as far as is known, that Redis is still the right one."""
        ...


class OneRedis:
    """A Redis that stays where it is."""

    moves: Final = False
    connect_timeout_s: Final[float] = CONNECT_TIMEOUT_S

    def __init__(self, address: RedisAddress) -> None:
        self._address = address

    @classmethod
    def at(cls, url: str) -> OneRedis:
        """Take a URL. Raises ValueError."""
        return cls(RedisAddress.from_url(url))

    async def address(self) -> RedisAddress:
        """Give its address."""
        return self._address

    def is_current(self, address: RedisAddress) -> bool:
        """Tell whether it is this one."""
        return address == self._address
