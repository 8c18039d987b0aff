"""uvicorn's HTTP protocol, which also tells an application how its client takes what is written.

ASGI's ``send`` waits while the client does not read, and says nothing: neither that it waits, nor for how long, nor
does it let a last word through. A stream has to know (see `functions.stream.session`). So the protocol puts itself
into the scope's extensions as `EXTENSION`.

A request that comes while another is being answered is not served, and the connection ends with that answer (RFC
9112, section 9.3.2: whoever sends ahead must expect that). uvicorn would put it in line, and then would not tell the
stream before it that its client has left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from functions.stream.outlet import EXTENSION


class StreamProtocol(HttpToolsProtocol):
    """One connection. For uvicorn's ``--http``; what is added here is `functions.stream.outlet.Socket`."""

    _on_room: Callable[[], None] | None = None
    _lost = False
    #: Whether a request has come before the one before it was answered.
    _ahead = False

    def data_received(self, data: bytes) -> None:
        """Take bytes, unless nothing that comes is answered any more."""
        if not self._ahead:
            super().data_received(data)

    def on_message_begin(self) -> None:
        """Begin a request."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._ahead = True
            self.cycle.keep_alive = False
            return
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: self}  # type: ignore[dict-item]

    def on_headers_complete(self) -> None:
        """Serve the request, unless it came ahead of its time."""
        if not self._ahead:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of its body."""
        if not self._ahead:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Take its end."""
        if not self._ahead:
            super().on_message_complete()

    @property
    def paused(self) -> bool:
        """Whether a write would wait for the client."""
        return self.flow.write_paused

    @property
    def unsent(self) -> int:
        """How many bytes wait here until the client takes what the kernel holds for it."""
        return 0 if self._lost else self.transport.get_write_buffer_size()

    def on_room(self, callback: Callable[[], None]) -> None:
        """Have a function called whenever writing need not wait any more, also when the client has gone."""
        self._on_room = callback

    def let_through(self, *, linger_s: float) -> None:
        """Let all further writes through though nobody reads, and drop the connection if that is so after some time.

        Without that a client that never reads would hold the connection, and what waits for it, for ever. No other
        answer follows on it: its writes would be let through as well.
        """
        self.cycle.keep_alive = False
        self.flow.resume_writing()
        asyncio.get_running_loop().call_later(linger_s, self._drop_unless_read)

    def _drop_unless_read(self) -> None:
        if self.unsent:
            self.transport.abort()

    def resume_writing(self) -> None:
        """Hear from the transport that there is room."""
        super().resume_writing()
        self._tell_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hear from the transport that the connection is gone: nobody waits for it any more."""
        self._lost = True
        super().connection_lost(exc)
        self._tell_room()

    def _tell_room(self) -> None:
        if self._on_room is not None:
            self._on_room()
