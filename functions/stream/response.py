"""The ASGI response that carries a stream."""

from __future__ import annotations

import asyncio
import random

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from functions.stream.outlet import Outlet
from functions.stream.registry import Registry
from functions.stream.session import Stream
from functions.stream.slot import Slot
from shared import sse
from shared.errors import UnavailableError
from shared.hub import Hub
from shared.problem import problem
from shared.slots import Claim, Slots

#: What a refused EventSource waits before it comes back, ms: spread, so that they do not come back together.
RETRY_UNAVAILABLE_MS = (2_000, 8_000)

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]


class StreamResponse:
    """Opens a stream, sends it, and closes it whatever happens in between.

    Nothing is taken before the server calls this, so a response that is never sent leaks nothing. The slot that
    ``claim`` asks for is taken while the stream opens, and given back before the body ends: on Lambda nothing runs on
    after that.
    """

    def __init__(
        self, request: Request, stream: Stream, claim: Claim, *, registry: Registry, hub: Hub, slots: Slots
    ) -> None:
        self._accepts_sse = sse.CONTENT_TYPE in request.headers.get("accept", "").lower()
        self._stream = stream
        self._claim = claim
        self._registry = registry
        self._hub = hub
        self._slots = slots
        self._slot: Slot | None = None
        self._left = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        watcher = asyncio.ensure_future(self._watch(receive))
        try:
            # Before the slot: nobody is evicted for a stream that cannot be served.
            self._registry.add(self._stream)
            first = await self._open()
        except UnavailableError as error:
            await self._give_back()
            await self._refuse(error, scope, receive, send)
        else:
            await self._send(first, Outlet.of(scope, send), send)
        finally:
            watcher.cancel()
            self._registry.discard(self._stream)
            self._stream.close()
            await self._give_back()

    async def _open(self) -> bytes:
        first = await self._stream.open(joined=self._ask_along)
        if self._slot is None and not self._left:
            self._slot = Slot(self._slots, self._claim)
        if self._slot is not None:
            self._hub.took_slot(await self._slot.taken())
        return first

    def _ask_along(self) -> None:
        """Ask for the slot beside the first read: nobody is evicted for a stream that has no live feed."""
        # While the log fails one request tries for all: a second one beside it would be refused for nothing.
        if not self._left and not self._slots.is_failing:
            self._slot = Slot(self._slots, self._claim)

    async def _give_back(self) -> None:
        """Release the slot, unless there is none, or another stream has it."""
        if self._slot is not None and self._stream.has_slot:
            await self._slot.release()

    async def _send(self, first: bytes, body: Outlet, send: Send) -> None:
        await self._stream.until_writable(body)
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await body.write(first)
        await self._stream.run(body)
        await self._give_back()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _watch(self, receive: Receive) -> None:
        """End the stream when the client leaves (where that can be seen: not on Lambda)."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._left = True
        self._stream.end("gone")

    async def _refuse(self, error: UnavailableError, scope: Scope, receive: Receive, send: Send) -> None:
        Outlet.of(scope, send).let_through()
        if not self._accepts_sse:
            await problem(error)(scope, receive, send)
            return
        # Any status but 200 would end a native EventSource for good.
        wait_ms = random.randint(*RETRY_UNAVAILABLE_MS)  # noqa: S311 - jitter, not a secret
        body = sse.bye("unavailable", reconnect=True, retry_ms=wait_ms)
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": body, "more_body": False})
