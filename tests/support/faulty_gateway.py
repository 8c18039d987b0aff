"""A gateway in the test's own event loop, with faults on the wire that a test switches on and off.

    async with FaultyGateway.running(redis.url) as gateway:
        upstash = plain_upstash(gateway)
        with gateway.holding("read") as held:      # the script ran, its answer waits
            reading = asyncio.ensure_future(log.read(...))
            await held.until_arrived()
        gateway.feed_fault = swallow               # what happens to each live message

Requests are known by what they ask: the name of a script of ours, or the command (``PING``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock
from urllib.parse import unquote

import uvicorn
from starlette.types import Message, Receive, Scope, Send

from infra.local.gateway import build_gateway
from shared.scripts import script
from shared.upstash import Upstash
from tests.support.gateway import NO_TLS

ARRIVAL_S = 10.0
_SCRIPTS = ("append", "read", "glance", "ack", "fence", "take")

#: What becomes of one live message (its channel, its payload): the payloads that are sent on instead.
FeedFault = Callable[[str, str], list[str]]


@contextlib.contextmanager
def cheap_tls() -> Iterator[None]:
    """Spare the clients that are built here the 50 ms in which each reads every CA certificate."""
    with mock.patch("httpx._transports.default.create_ssl_context", return_value=NO_TLS):
        yield


def plain_upstash(url: str, token: str, *, max_connections: int = 50, **more: Any) -> Upstash:
    """Build a warm client, without the cost of TLS."""
    with cheap_tls():
        return Upstash(url, token, max_connections=max_connections, **more)


@dataclass(slots=True)
class Held:
    """Requests that wait, the next ``count`` of them: ``arrived`` is set by the first."""

    count: int
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def until_arrived(self) -> None:
        """Return when the first of them is there."""
        async with asyncio.timeout(ARRIVAL_S):
            await self.arrived.wait()

    async def wait(self) -> None:
        """Wait, if it is this request's turn to do so."""
        if self.count > 0:
            self.count -= 1
            self.arrived.set()
            await self.released.wait()

    def release(self) -> None:
        """Let them go on, and those that follow."""
        self.released.set()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered with in the gateway's place."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ((b"content-type", b"application/json"),)

    @classmethod
    def error(cls, text: str) -> Answer:
        """Build an error as Redis gives it."""
        return cls(400, json.dumps({"error": text}).encode())


#: Decides about one request before it reaches Redis: an answer in its place, or None.
Refusal = Callable[[str], Answer | None]


class _Feed:
    """One open subscription."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.left = asyncio.Event()
        self.muted = False


class FaultyGateway:
    """The gateway's own application behind a middleware that breaks things."""

    def __init__(self, redis_url: str) -> None:
        self.token = secrets.token_urlsafe(24)
        self.url = ""
        self.asked: Counter[str] = Counter()
        """How many requests there were, by what they asked."""
        self.feeds_opened: list[str] = []
        """The path of each feed that was ever opened."""
        self.feeds_tried = 0
        self.feed_fault: FeedFault | None = None
        self.refuse: Refusal = lambda _name: None
        self.refuse_feeds = False
        self.close_feeds_at_once = False
        """Each feed that is opened ends as soon as it has confirmed its subscription."""
        self.rewrite: Callable[[list[Any]], list[Any]] | None = None
        """Changes a command on its way to Redis."""
        self._held_before: dict[str, Held] = {}
        self._held_after: dict[str, Held] = {}
        self._lost_answers: Counter[str] = Counter()
        self._feeds: set[_Feed] = set()
        self._app = build_gateway(redis_url, self.token)
        self._names = {script(name): name for name in _SCRIPTS}

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, redis_url: str) -> AsyncIterator[FaultyGateway]:
        """Serve in this event loop."""
        gateway = cls(redis_url)
        # The protocol is named, or asyncio does not switch Nagle's algorithm off: 40 ms a request.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        gateway.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            gateway, lifespan="off", log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=1
        )
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        async with gateway._app.router.lifespan_context(gateway._app):
            # Not `serve`: it takes the signals, and looks only every 0.1 s whether it is to stop.
            await server.startup(sockets=[listener])
            try:
                yield gateway
            finally:
                gateway.release_all()
                gateway._app.state.end_feeds()
                gateway.cut_feeds()
                await _close(server)

    @property
    def headers(self) -> dict[str, str]:
        """What a plain client sends."""
        return {"authorization": f"Bearer {self.token}"}

    @property
    def open_feeds(self) -> int:
        """How many subscriptions are open now."""
        return len(self._feeds)

    def total(self, *names: str) -> int:
        """How many requests asked for one of these; without a name, all of them."""
        return sum(self.asked[name] for name in names) if names else self.asked.total()

    # -- faults

    @contextlib.contextmanager
    def holding(self, name: str, *, before: bool = False, count: int = 1_000_000) -> Iterator[Held]:
        """Hold the next requests: their answers, or with ``before`` the requests themselves. The end lets go."""
        held = Held(count)
        table = self._held_before if before else self._held_after
        table[name] = held
        try:
            yield held
        finally:
            table.pop(name, None)
            held.release()

    def lose_answers(self, name: str, count: int = 1) -> None:
        """Run the next requests of this name, and close their connections instead of answering."""
        self._lost_answers[name] += count

    def mute_feeds(self) -> None:
        """Let every open feed fall silent without closing it. Feeds opened from now on speak."""
        for feed in self._feeds:
            feed.muted = True

    def cut_feeds(self) -> None:
        """Close every open feed."""
        for feed in self._feeds:
            feed.left.set()

    def release_all(self) -> None:
        """Let everything that is held go on."""
        for held in (*self._held_before.values(), *self._held_after.values()):
            held.release()

    # -- the middleware

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path = scope.get("raw_path") or scope["path"].encode()
        if path.startswith((b"/subscribe/", b"/psubscribe/")):
            await self._feed(unquote(path.decode()), scope, receive, send)
        else:
            await self._command(scope, receive, send)

    async def _command(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _body(receive)
        command = json.loads(body) if body else []
        name = self._name_of(command)
        self.asked[name] += 1
        if (held := self._held_before.get(name)) is not None:
            await held.wait()
        if (answer := self.refuse(name)) is not None:
            await send({"type": "http.response.start", "status": answer.status, "headers": list(answer.headers)})
            await send({"type": "http.response.body", "body": answer.body})
            return
        if self.rewrite is not None:
            command = self.rewrite(command)
            body = json.dumps(command).encode()
        messages: list[Message] = []

        async def take(message: Message) -> None:
            messages.append(message)

        # The request's length may have changed on the way; the gateway does not look at it.
        await self._app(scope, _replayed(body), take)
        if (held := self._held_after.get(name)) is not None:
            await held.wait()
        if self._lost_answers[name] > 0:
            self._lost_answers[name] -= 1
            messages = messages[:1]  # the head without its body: the server closes such a connection
        for message in messages:
            await send(message)

    def _name_of(self, command: Any) -> str:
        if not isinstance(command, list) or not command:
            return "?"
        if command[0] == "EVAL":
            return self._names.get(command[1], "EVAL")
        return str(command[0])

    async def _feed(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        self.feeds_tried += 1
        if self.refuse_feeds:
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        feed = _Feed(path)
        self._feeds.add(feed)
        self.feeds_opened.append(path)
        leaving = asyncio.ensure_future(_until_left(receive, feed))

        async def until_left() -> Message:
            await feed.left.wait()
            return {"type": "http.disconnect"}

        first, refused = True, False

        async def receive_instead() -> Message:
            nonlocal first
            if first:
                first = False
                return {"type": "http.request", "body": b"", "more_body": False}
            return await until_left()

        async def pass_on(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start":
                refused = message["status"] != 200
            elif message.get("body") and not refused:
                message = {**message, "body": b"".join(self._faulty(feed, message["body"]))}
                if not message["body"]:
                    return
                if self.close_feeds_at_once:
                    feed.left.set()
            await send(message)

        try:
            await self._app(scope, receive_instead, pass_on)
        finally:
            self._feeds.discard(feed)
            leaving.cancel()

    def _faulty(self, feed: _Feed, body: bytes) -> Iterator[bytes]:
        for block in body.split(b"\n\n"):
            text = block.removeprefix(b"data: ").decode()
            kind, _, rest = text.partition(",")
            if kind not in ("message", "pmessage"):
                if block:
                    yield block + b"\n\n"
                continue
            if feed.muted:
                continue
            head, _, rest = rest.partition(",") if kind == "pmessage" else ("", "", rest)
            channel, _, payload = rest.partition(",")
            payloads = [payload] if self.feed_fault is None else self.feed_fault(channel, payload)
            start = f"{kind},{head},{channel}" if kind == "pmessage" else f"{kind},{channel}"
            for changed in payloads:
                yield f"data: {start},{changed}\n\n".encode()


async def _close(server: uvicorn.Server) -> None:
    """Close what a server has open, without the waits of its own shutdown."""
    for listening in server.servers:
        listening.close()
    for connection in list(server.server_state.connections):
        connection.shutdown()
    async with asyncio.timeout(ARRIVAL_S):
        while server.server_state.connections or server.server_state.tasks:  # noqa: ASYNC110 - uvicorn has no event
            await asyncio.sleep(0.001)


async def _until_left(receive: Receive, feed: _Feed) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    feed.left.set()


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _replayed(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


class FaultyWorld:
    """An event loop with a faulty gateway in it, for property tests: one for all examples."""

    def __init__(self, runner: asyncio.Runner, gateway: FaultyGateway) -> None:
        self._runner = runner
        self._gateway = gateway

    @classmethod
    @contextlib.contextmanager
    def running(cls, redis_url: str) -> Iterator[FaultyWorld]:
        """Start the gateway in a loop of its own, and close both."""
        with asyncio.Runner() as runner:
            stack = contextlib.AsyncExitStack()
            gateway = runner.run(stack.enter_async_context(FaultyGateway.running(redis_url)))
            try:
                yield cls(runner, gateway)
            finally:
                runner.run(stack.aclose())

    def run(self, example: Callable[[FaultyGateway], Coroutine[Any, Any, None]]) -> None:
        """Run one example, with no fault left over from the one before."""
        gateway = self._gateway
        gateway.feed_fault = gateway.rewrite = None
        gateway.refuse_feeds = gateway.close_feeds_at_once = False
        gateway.refuse = lambda _name: None
        self._runner.run(example(gateway))
