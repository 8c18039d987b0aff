"""Processes of the stream function without the HTTP server in front: requests are made to the application itself.

async with StreamApp.running(gateway, stage) as app:
    visit = app.visit("ann", client="tab")
    await visit.greeted()
    visit.leave()
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.types import ASGIApp, Message, Scope

from functions.stream.app import REQUEST_CONNECTIONS, Deps, build_app
from functions.stream.outlet import EXTENSION, Socket
from functions.stream.session import Stream
from shared.keys import Keys
from shared.settings import Function, Settings
from shared.slots import Slots
from shared.start import Basis
from shared.tokens import TokenVerifier, mint
from tests.support.faulty_gateway import cheap_tls, plain_upstash
from tests.support.lambda_events import KID, TOKEN_KEY, Reachable, environment
from tests.support.stream_rig import eventually

TOPIC = "gmail:ann@example.com"
BYPASS = "b" * 32
_BYPASS_HEADER = ("x-tidemark-bypass", BYPASS)


class Visit:
    """One request for a stream, and what came of it."""

    def __init__(self, app: ASGIApp, scope: Scope) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = b""
        self.complete = False
        """Whether the server was told that this was all."""
        self.on_write: Callable[[Visit], None] = lambda _visit: None
        self._left = asyncio.Event()
        self._asked = False
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))

    @property
    def blocks(self) -> list[dict[str, str]]:
        """The fields of each block of the body."""
        return [
            dict(line.split(": ", 1) for line in block.split("\n")) for block in self.body.decode().split("\n\n")[:-1]
        ]

    def named(self, name: str) -> list[dict[str, Any]]:
        """Return the data of the frames ``tidemark.<name>``."""
        return [json.loads(block["data"]) for block in self.blocks if block.get("event") == f"tidemark.{name}"]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The data events."""
        return [json.loads(block["data"]) for block in self.blocks if "data" in block and "event" not in block]

    @property
    def byes(self) -> list[tuple[str, bool]]:
        """The reason of each goodbye, and whether the client is to come back."""
        return [(bye["reason"], bye["reconnect"]) for bye in self.named("bye")]

    @property
    def connection(self) -> str:
        """What the stream's connection is called."""
        told: str = self.named("hello")[0]["connection"]
        return told

    @property
    def over(self) -> bool:
        """Whether the request has ended; raises what ended it."""
        return self.task.done() and (self.task.result() is None)

    async def greeted(self) -> Visit:
        """Wait for the first bytes of a stream."""
        await eventually(lambda: self.over or bool(self.named("hello")), "it is greeted")
        assert self.named("hello"), (self.status, self.body)
        return self

    async def ended(self, *, timeout_s: float = 10.0) -> Visit:
        """Wait for the end of the request."""
        await eventually(lambda: self.over, "it has ended", timeout_s=timeout_s)
        return self

    def leave(self) -> None:
        """Go away, as a closed tab does."""
        self._left.set()

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")
            self.complete = not message.get("more_body", False)
        self.on_write(self)


class StreamApp:
    """One process: its application and what that is built from."""

    def __init__(self, deps: Deps) -> None:
        self.deps = deps
        self.app = build_app(deps)
        self.visits: list[Visit] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls,
        gateway: Reachable,
        stage: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        now_ms: Callable[[], int] | None = None,
        **settings: str,
    ) -> AsyncIterator[StreamApp]:
        """Start one that never reconciles by itself unless it is told to; every visit ends with it."""
        environ = environment(
            gateway, stage, **{"TIDEMARK_RECONCILE_S": "3600", "TIDEMARK_BYPASS_SECRET": BYPASS, **settings}
        )
        read = Settings.of(environ, Function.STREAM)
        upstash = plain_upstash(read.redis_url, read.redis_token, max_connections=REQUEST_CONNECTIONS)
        with cheap_tls():
            basis = Basis.of(read, upstash=upstash)
            deps = Deps.of(basis)._replace(
                slots=Slots(upstash, Keys(stage), read.slot_limit, breaker=basis.breaker, now=now, now_ms=now_ms),
                verifier=TokenVerifier(read.token_keys, now=now),
                clock=clock,
                now=now,
            )
        process = cls(deps)
        async with process.app.router.lifespan_context(process.app):
            try:
                yield process
            finally:
                for visit in process.visits:
                    visit.leave()
                    visit.task.cancel()
                await asyncio.gather(*(visit.task for visit in process.visits), return_exceptions=True)
        await upstash.close()

    def visit(self, user: str = "ann", *topics: str, **asked: Any) -> Visit:
        """Ask for a stream, as `scope` has it."""
        visit = Visit(self.app, self.scope(user, *topics, **asked))
        self.visits.append(visit)
        return visit

    def scope(
        self,
        user: str,
        *topics: str,
        client: str | None = None,
        method: str = "GET",
        accept: str = "text/event-stream",
        ttl_s: int = 3600,
        headers: Mapping[str, str] | None = None,
        socket: Socket | None = None,
        **query: str,
    ) -> Scope:
        """Build what an ASGI server makes of a request for a stream."""
        topics = topics or (TOPIC,)
        token = mint(user, topics, kid=KID, key=TOKEN_KEY, ttl_s=ttl_s, now=self.deps.now())
        asked = [("topic", topic) for topic in topics] + list(query.items())
        asked += [("client", client)] if client is not None else []
        sent = {"authorization": f"Bearer {token}", "accept": accept, **dict([_BYPASS_HEADER]), **(headers or {})}
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": "/events",
            "raw_path": b"/events",
            "query_string": urlencode(asked).encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "extensions": {} if socket is None else {EXTENSION: socket},
        }

    async def reconcile(self) -> None:
        """Reconcile now."""
        await self.deps.hub.reconcile()

    def tick(self) -> None:
        """Have every stream look at the clock, as it would when its alarm rings."""
        for follower in self.deps.hub._audience:
            assert isinstance(follower, Stream)
            follower._wake()
