"""A client that stops reading, and what it gets when it reads again."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

from bench.raw_http import BrokenConnectionError, EventStream

#: What its kernel holds for it: as little as there may be, so that the rest is held by the server.
_RECEIVE_BYTES = 4096
_QUIET_S = 2.0
_PATIENCE_S = 45.0
_POLL_S = 0.05


class SlowClient:
    """Opens a stream, reads the greeting, and then nothing until it is told to."""

    def __init__(self, is_event: Callable[[bytes], bool], is_greeting: Callable[[bytes], bool]) -> None:
        self.events = 0
        #: Frames that are neither events nor the greeting: what it was told.
        self.told: list[bytes] = []
        self._is_event = is_event
        self._is_greeting = is_greeting
        self._heard_at = 0.0
        self._stream: EventStream | None = None

    async def open(self, port: int, data: bytes) -> None:
        """Open the stream; returns when it is greeted and reads no more. Raises BrokenConnectionError."""
        loop = asyncio.get_running_loop()
        connected = socket.socket()
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        connected.setblocking(False)
        await loop.sock_connect(connected, ("127.0.0.1", port))
        _, self._stream = await loop.create_connection(lambda: EventStream(data, self._take), sock=connected)
        try:
            await asyncio.wait_for(self._stream.opened, 10.0)
        except TimeoutError:
            raise BrokenConnectionError("the slow client was not greeted") from None

    async def resume(self, expected: int) -> str:
        """Read on until all events are there, the stream has ended or fallen silent; say what came of it."""
        assert self._stream is not None
        self._heard_at = began = time.perf_counter()
        self._stream.read(on=True)
        while self.events < expected and self._stream.ended is None:
            now = time.perf_counter()
            if now - began > _PATIENCE_S or now - self._heard_at > _QUIET_S:
                break
            await asyncio.sleep(_POLL_S)
        return self._outcome(expected)

    def close(self) -> None:
        """Close the stream."""
        if self._stream is not None:
            self._stream.close()

    def _outcome(self, expected: int) -> str:
        assert self._stream is not None
        told = b" ".join(self.told)
        if self.events >= expected:
            doubled = f", {self.events - expected} of them twice" if self.events > expected else ""
            return f"every event{doubled}"
        if b"tidemark.gap" in told:
            return f"{self.events:,} events and a gap"
        if b"slow_consumer" in told:
            return f"{self.events:,} events, and bye slow_consumer"
        ended = f", and the stream ended ({self._stream.ended})" if self._stream.ended else ""
        return f"{self.events:,} of {expected:,} events{ended}"

    def _take(self, stream: EventStream, frame: bytes) -> None:
        self._heard_at = time.perf_counter()
        if self._is_event(frame):
            self.events += 1
        elif self._is_greeting(frame):
            if not stream.opened.done():
                stream.read(on=False)
                stream.opened.set_result(None)
        else:
            self.told.append(frame)
