"""The routes of the REST API: who may pass, what each does with Redis, and what is counted on the way."""

from __future__ import annotations

import asyncio
import hmac
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

import hiredis
from starlette.types import Receive, Scope, Send

from infra.local.resp import (
    Argument,
    RespClient,
    RespConnectionError,
    SentinelPrimary,
    Subscriber,
    Upstream,
)
from infra.local.rest_call import Call, ClientLeftError, raw_path
from infra.local.rest_command import Intake, Taken
from infra.local.rest_refusal import RefusedError
from infra.local.rest_wire import error_text, event, outcome, read_command, read_commands, to_json

# Browsers do not talk to this API, so a preflight (OPTIONS) is a wrong method like any other.
_METHODS: Final = frozenset({"HEAD", "GET", "POST", "PUT"})
_FEED_METHODS: Final = frozenset({"GET", "POST"})

_UNAUTHORIZED: Final = "WRONGPASS invalid or missing auth token"


class Connection:
    """One TCP connection of a client, and whether it has been counted."""

    __slots__ = ("counted",)

    def __init__(self) -> None:
        self.counted = False


class Gateway:
    """The state behind the routes: the shared connection to Redis, the open feeds, the counters."""

    def __init__(self, upstream: Upstream, token: str) -> None:
        self._upstream = upstream
        self._token = token.encode()
        self._redis = RespClient(upstream)
        if isinstance(upstream, SentinelPrimary):
            upstream.on_move = self._primary_moved
        self._intake = Intake()
        self._feeds: set[Subscriber] = set()
        self._stopping = False
        self._answers_given = 0
        self._requests = Counter[str]()
        self._connections_seen = 0
        self._peers_seen: set[Any] = set()
        self._delivered = 0

    # -- what every request passes

    def see_connection(self, scope: Scope) -> None:
        """Count the client's connection, once."""
        connection = scope.get("state", {}).get("connection")
        if isinstance(connection, Connection):
            if not connection.counted:
                connection.counted = True
                self._connections_seen += 1
        elif scope.get("client") not in self._peers_seen:
            # Another server than ours runs the app: its address and port are the best there is.
            self._peers_seen.add(scope.get("client"))
            self._connections_seen += 1

    def authorize(self, call: Call) -> None:
        """Compare the token, from `?_token=` or else the Authorization header. Raises RefusedError."""
        token: bytes | None = next((value for key, value in call.query if key == b"_token"), None)
        if token is None:
            scheme, _, rest = call.headers.get(b"authorization", b"").partition(b" ")
            token = rest.strip() if scheme.lower() == b"bearer" else b""
        if not hmac.compare_digest(token, self._token):
            raise RefusedError(401, _UNAUTHORIZED)
        # Upstash offers RESP2 bytes too; nothing here asks for them.
        if call.headers.get(b"upstash-response-format", b"json") != b"json":
            raise RefusedError(400, "ERR Upstash-Response-Format: only json is supported")

    def sync_token(self) -> tuple[bytes, bytes]:
        """Give the header that clients send back to read their own writes; one Redis always lets them."""
        self._answers_given += 1
        return (b"upstash-sync-token", b"%x" % self._answers_given)

    # -- routes

    async def command_in_body(self, call: Call) -> None:
        """`/`: one command as a JSON array."""
        self._requests["command"] += 1
        await self._one(call, read_command(await call.body()))

    async def command_in_path(self, call: Call) -> None:
        """`/set/key?EX=100`: segments, then the body, then the query parameters."""
        self._requests["command"] += 1
        command: list[Argument] = [*call.segments()]
        body = await call.body()
        if body and call.method in {"POST", "PUT"}:
            command.append(body)
        for key, value in call.query:
            if key != b"_token":
                command += [key] if value is None else [key, value]
        await self._one(call, command)

    async def pipeline(self, call: Call) -> None:
        """`/pipeline`: commands in order, each with a result or an error of its own."""
        self._requests["pipeline"] += 1
        taken = [self._intake.take(command) for command in read_commands(await call.body())]
        sent = [command.wire for command in taken if isinstance(command, Taken)]
        replies = iter(await self._redis.execute_many(sent))
        answers = [
            outcome(next(replies), command.instead, base64=call.base64)
            if isinstance(command, Taken)
            else {"error": command}
            for command in taken
        ]
        await call.answer(200, to_json(answers), self.sync_token())

    async def multi_exec(self, call: Call) -> None:
        """`/multi-exec`: the same, as one transaction, all or nothing."""
        self._requests["multi_exec"] += 1
        transaction: list[Taken] = []
        for command in read_commands(await call.body()):
            taken = self._intake.take(command)
            if not isinstance(taken, Taken):
                raise RefusedError(400, taken)
            transaction.append(taken)
        sent: list[list[Argument]] = [["MULTI"], *(taken.wire for taken in transaction), ["EXEC"]]
        *queued, executed = await self._redis.execute_many(sent)
        if not isinstance(executed, list):
            # EXECABORT names no reason; the first command that was not queued does.
            errors = [reply for reply in (*queued, executed) if isinstance(reply, hiredis.ReplyError)]
            raise RefusedError(400, error_text(errors[0]) if errors else "ERR transaction discarded")
        answers = [
            outcome(reply, taken.instead, base64=call.base64)
            for taken, reply in zip(transaction, executed, strict=True)
        ]
        await call.answer(200, to_json(answers), self.sync_token())

    async def subscribe(self, call: Call) -> None:
        """`/subscribe/<channel>[/<channel>…]`: a feed of server-sent events."""
        await self._feed(call, pattern=False)

    async def psubscribe(self, call: Call) -> None:
        """`/psubscribe/<pattern>[/<pattern>…]`: the same for patterns."""
        await self._feed(call, pattern=True)

    async def stats(self, call: Call) -> None:
        """`/_gateway/stats`: counters for tests and benchmarks; not part of Upstash."""
        if call.segments()[1:] != [b"stats"]:
            raise RefusedError(404, "ERR the gateway has /_gateway/stats, and nothing else")
        counters = {
            "requests": {
                **{kind: self._requests[kind] for kind in ("command", "pipeline", "multi_exec", "subscribe")},
                "by_command": dict(self._intake.by_command),
            },
            "commands": self._intake.by_command.total(),
            "connections": {"seen": self._connections_seen, "open_subscriptions": len(self._feeds)},
            "delivered_messages": self._delivered,
        }
        await call.answer(200, to_json(counters))

    # -- life

    def end_feeds(self) -> None:
        """End the body of every open feed, and of those that are still being opened."""
        self._stopping = True
        for feed in self._feeds:
            feed.close()

    async def close(self) -> None:
        """End the feeds and close the connection to Redis."""
        self.end_feeds()
        await self._redis.close()
        if isinstance(self._upstream, SentinelPrimary):
            await self._upstream.close()

    # -- parts

    def _primary_moved(self) -> None:
        """End what leads to the old primary: it may be frozen, and then nothing else ever would."""
        self._redis.leave_old()
        for feed in self._feeds:
            if not self._upstream.is_current(feed.address):
                feed.close()

    async def _one(self, call: Call, command: list[Argument]) -> None:
        taken = self._intake.take(command)
        if not isinstance(taken, Taken):
            raise RefusedError(400, taken)
        answer = outcome(await self._redis.execute(*taken.wire), taken.instead, base64=call.base64)
        await call.answer(400 if "error" in answer else 200, to_json(answer), self.sync_token())

    async def _feed(self, call: Call, *, pattern: bool) -> None:
        self._requests["subscribe"] += 1
        names = call.segments()[1:]
        if not names:
            name = "psubscribe" if pattern else "subscribe"
            raise RefusedError(400, f"ERR wrong number of arguments for '{name}' command")
        feed = await Subscriber.open(self._upstream, names, pattern=pattern)
        self._feeds.add(feed)
        leaving = asyncio.create_task(self._close_when_left(call, feed))
        try:
            if self._stopping or not self._upstream.is_current(feed.address):
                feed.close()
            await call.start_feed(self.sync_token())
            await call.write(b"".join([event(push) for push in feed.acknowledged]))
            while pushes := await feed.batch():
                await call.write(b"".join([event(push) for push in pushes]))
                self._delivered += len(pushes)
            await call.end()
        finally:
            feed.close()
            self._feeds.discard(feed)
            leaving.cancel()

    @staticmethod
    async def _close_when_left(call: Call, feed: Subscriber) -> None:
        await call.until_left()
        feed.close()


class _Endpoint:
    """The ASGI application of one route: method, token, counters, and refusals in Upstash's form."""

    def __init__(
        self,
        gateway: Gateway,
        handler: Callable[[Call], Awaitable[None]],
        *,
        methods: frozenset[str] = _METHODS,
        counted: bool = True,
    ) -> None:
        self._gateway = gateway
        self._handler = handler
        self._methods = methods
        self._counted = counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(scope, receive, send)
        gateway = self._gateway
        try:
            if self._counted:
                gateway.see_connection(scope)
            if call.method not in self._methods:
                raise RefusedError(405, "")  # noqa: TRY301 - one place answers refusals
            gateway.authorize(call)
            await self._handler(call)
        except RefusedError as refused:
            body = to_json({"error": refused.text}) if refused.text else b""
            await call.answer(refused.status, body, gateway.sync_token())
        except RespConnectionError as error:
            await call.answer(503, to_json({"error": f"ERR {error}"}), gateway.sync_token())
        except ClientLeftError:
            pass


class Router:
    """Chooses the endpoint by the first segment of the raw path.

    Starlette's routes match the decoded path: a %2F would become a separator, and a line break in an argument
    would match nothing.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._endpoints = {
            b"": _Endpoint(gateway, gateway.command_in_body),
            b"pipeline": _Endpoint(gateway, gateway.pipeline),
            b"multi-exec": _Endpoint(gateway, gateway.multi_exec),
            b"subscribe": _Endpoint(gateway, gateway.subscribe, methods=_FEED_METHODS),
            b"psubscribe": _Endpoint(gateway, gateway.psubscribe, methods=_FEED_METHODS),
            b"_gateway": _Endpoint(gateway, gateway.stats, methods=frozenset({"GET"}), counted=False),
        }
        self._default = _Endpoint(gateway, gateway.command_in_path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises ValueError for what is not HTTP."""
        if scope["type"] != "http":
            raise ValueError(f"the gateway does not speak {scope['type']}")
        first = raw_path(scope).strip(b"/").partition(b"/")[0]
        await self._endpoints.get(first, self._default)(scope, receive, send)
