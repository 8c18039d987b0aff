"""What the tests of attacks by clients share: tokens that no library would write, requests as bytes, servers, traces.

    with HttpServer.running(lambda: webhook.build_app(webhook.Deps.of(basis)), basis.upstash) as port:
        answer = http_request(port, "POST", "/push", headers={...}, body=b"...")

Everything here blocks, but for the key server, which lives in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import socket
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from infra.chaos.event_stream import EventStreamReader
from infra.local.loopback import HOST
from shared.settings import Function, Settings
from shared.start import Basis
from tests.support.faulty_gateway import plain_upstash
from tests.support.key_server import KeyServer
from tests.support.lambda_events import Answer, LambdaFunction, Reachable, function_url_event, redis_command
from tests.support.signing import b64, given

TIMEOUT_S = 10.0
_HASHES = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
# Every key of a stage and a hash of what it holds, but for the counters of rate limits. How long a key is kept is not
# part of that.
_TRACES = """
local found = {}
for _, name in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  if string.sub(name, 1, #ARGV[1] + 6) ~= ARGV[1] .. 'limit:' then
    found[#found + 1] = name
    found[#found + 1] = redis.sha1hex(redis.call('DUMP', name))
  end
end
return found
"""


# -- tokens


def hmac_token(claims: Any, *, key: str, **header: Any) -> str:
    """Sign by hand; ``claims`` may be bytes, and ``...`` leaves a field of the header out.

    What is no HMAC algorithm is signed as HS256 all the same.
    """
    head = given({"alg": "HS256", "typ": "JWT"}, header)
    body = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    text = f"{b64(json.dumps(head).encode())}.{b64(body)}"
    algorithm = head.get("alg")
    made = _HASHES[algorithm if isinstance(algorithm, str) and algorithm in _HASHES else "HS256"]
    return f"{text}.{b64(hmac.new(key.encode(), text.encode(), made).digest())}"


def unsigned_token(claims: Any, signature: str = "", **header: Any) -> str:
    """Write a token with a signature of one's own, or none."""
    return f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}.{signature}"


@contextlib.contextmanager
def published(*keys: Mapping[str, Any]) -> Iterator[str]:
    """Serve a key set in a thread; give its URL."""
    loop = asyncio.new_event_loop()
    stopping = asyncio.Event()
    listening = threading.Event()
    server = KeyServer(*keys)

    async def serve() -> None:
        await server.start()
        listening.set()
        await stopping.wait()
        await server.stop()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), name="key-server")
    thread.start()
    try:
        assert listening.wait(TIMEOUT_S)
        yield server.url
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()
        loop.close()


# -- requests


def request_bytes(
    method: str, target: str, headers: Mapping[str, str | bytes] | None = None, body: bytes | None = None
) -> bytes:
    """Write a request; the values of headers may be any bytes, text is sent as UTF-8."""
    lines = [f"{method} {target} HTTP/1.1".encode(), b"host: 127.0.0.1", b"connection: close"]
    for name, value in (headers or {}).items():
        lines.append(name.encode() + b": " + (value if isinstance(value, bytes) else value.encode()))
    if body is not None:
        lines.append(f"content-length: {len(body)}".encode())
    return b"\r\n".join([*lines, b"", b""]) + (body or b"")


def exchange(port: int, sent: bytes, *, until: bytes = b"\n\n", half_closed: bool = False) -> bytes:
    """Send bytes and return everything that comes back until the server closes the connection.

    A stream of events is left as soon as ``until`` has come: it would go on. With ``half_closed`` the client says
    first that nothing more will come.
    """
    received = b""
    with socket.create_connection((HOST, port), timeout=TIMEOUT_S) as connection:
        with contextlib.suppress(ConnectionError):  # a server may refuse before it has read everything
            connection.sendall(sent)
            if half_closed:
                connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while data := connection.recv(65_536):
                received += data
                if b"text/event-stream" in received and until in received.partition(b"\r\n\r\n")[2]:
                    break
    return received


def answer_of(received: bytes) -> Answer:
    """Read one HTTP answer."""
    reader = EventStreamReader()
    frames = reader.feed(received)
    assert reader.status is not None, received
    return Answer(reader.status, reader.headers, b"".join(str(frame).encode() for frame in frames) + reader.leftover)


def http_request(
    port: int, method: str, target: str, headers: Mapping[str, str | bytes] | None = None, body: bytes | None = None
) -> Answer:
    """Send one request over a connection of its own, and return its answer."""
    return answer_of(exchange(port, request_bytes(method, target, headers, body)))


def invoke_from(
    function: LambdaFunction,
    address: str,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Answer:
    """Invoke a function once, as Lambda does for a request from an address."""
    event = function_url_event(method, path, headers=headers, body=body)
    event["requestContext"]["http"]["sourceIp"] = address
    context = types.SimpleNamespace(aws_request_id="1-2-3", get_remaining_time_in_millis=lambda: 10_000)
    return Answer.of(function._thread.submit(function._handler, event, context).result(TIMEOUT_S))


# -- servers


def basis_of(environ: Mapping[str, str], function: Function) -> Basis:
    """Build what a function is built from, in this process."""
    settings = Settings.of(environ, function)
    return Basis.of(settings, upstash=plain_upstash(settings.redis_url, settings.redis_token))


class HttpServer:
    """An application under uvicorn in a thread: what a test has replaced is replaced there too."""

    def __init__(self, app: ASGIApp, basis: Basis) -> None:
        self._app = app
        self._basis = basis
        self._listener = socket.create_server((HOST, 0))
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    @classmethod
    @contextlib.contextmanager
    def running(cls, app: ASGIApp, basis: Basis) -> Iterator[int]:
        """Serve, give the port, and stop for sure. The listener takes connections before the server does."""
        server = cls(app, basis)
        server._thread.start()
        try:
            yield server._listener.getsockname()[1]
        finally:
            server._loop.call_soon_threadsafe(server._stopping.set)
            server._thread.join(TIMEOUT_S)
            assert not server._thread.is_alive()
            server._loop.close()

    async def _serve(self) -> None:
        config = uvicorn.Config(
            self._app,
            http="httptools",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_graceful_shutdown=1,
        )
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        # Not `serve`: it looks only every 0.1 s whether it is to stop.
        await server.startup(sockets=[self._listener])
        await self._stopping.wait()
        await server.shutdown(sockets=[self._listener])
        await self._basis.upstash.close()


# -- what is left behind


def traces(gateway: Reachable, stage: str) -> dict[str, str]:
    """Return every key of a stage and a hash of what it holds, but for the counters of rate limits."""
    found: list[str] = redis_command(gateway, "EVAL", _TRACES, 0, f"tidemark:{stage}:")
    return dict(zip(found[::2], found[1::2], strict=True))


def anywhere(secret: str, *texts: str) -> bool:
    """Tell whether a secret stands in one of the texts, as it is or percent-encoded."""
    forms: list[Callable[[str], str]] = [str, lambda text: text.replace("@", "%40"), str.lower]
    return any(form(secret) in text for form in forms for text in texts)
