"""Where a stream's bytes go: ASGI's ``send``, and what the server tells of the socket behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, cast

from starlette.types import Scope, Send

#: Where a server that tells of its sockets puts one into ASGI's scope.
EXTENSION: Final = "tidemark.outlet"
#: How long a client that does not read may take to fetch the last word of its stream, s.
LINGER_S: Final = 10.0


class Socket(Protocol):
    """A client's connection, as `functions.stream.server.StreamProtocol` shows it."""

    @property
    def paused(self) -> bool:
        """Whether a write would wait for the client."""
        ...

    @property
    def unsent(self) -> int:
        """How many bytes wait for the client on this side of the kernel."""
        ...

    def on_room(self, callback: Callable[[], None]) -> None:
        """Have a function called when a write need not wait any more."""
        ...

    def let_through(self, *, linger_s: float) -> None:
        """Let further writes through, and drop the connection after so many seconds."""
        ...


class Outlet:
    """The body of one response.

    Under a server that does not tell of its sockets it is never paused: a write waits for as long as it takes.
    """

    __slots__ = ("_send", "_socket")

    def __init__(self, send: Send, socket: Socket | None) -> None:
        self._send = send
        self._socket = socket

    @classmethod
    def of(cls, scope: Scope, send: Send) -> Outlet:
        """Find what the server tells."""
        return cls(send, cast("Socket | None", (scope.get("extensions") or {}).get(EXTENSION)))

    @property
    def paused(self) -> bool:
        """Whether the client has to read before more is written."""
        return self._socket is not None and self._socket.paused

    @property
    def unsent(self) -> int:
        """How many bytes wait for the client here."""
        return 0 if self._socket is None else self._socket.unsent

    def on_room(self, callback: Callable[[], None]) -> None:
        """Have a function called when it is not paused any more."""
        if self._socket is not None:
            self._socket.on_room(callback)

    def let_through(self) -> None:
        """Let the last word through, whether there is room for it or not."""
        if self._socket is not None and self._socket.paused:
            self._socket.let_through(linger_s=LINGER_S)

    async def write(self, data: bytes) -> None:
        """Send a part of the body."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
