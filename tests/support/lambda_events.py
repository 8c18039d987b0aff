"""Functions as Lambda runs them: started anew from an environment, then given function URL events one by one.

    with deployed("functions.webhook.handler", environment(gateway, stage)) as webhook:
        answer = webhook.invoke("POST", "/push", body=push)

The event's form is AWS's payload format 2.0 ("Invoking Lambda function URLs", request payload). Everything here
blocks; an async test calls `invoke` through `asyncio.to_thread`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import importlib
import json
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol
from unittest import mock

import httpx

from shared.upstash import Upstash
from tests.support.faulty_gateway import cheap_tls
from tests.support.gateway import NO_TLS

KID = "test"
TOKEN_KEY = "k" * 32


class Reachable(Protocol):
    """A gateway, as far as it is needed here."""

    @property
    def url(self) -> str: ...
    @property
    def token(self) -> str: ...


def function_url_event(
    method: str,
    path: str,
    *,
    query: str = "",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    encoded: bool = False,
) -> dict[str, Any]:
    """Build the event of one HTTP request; with ``encoded`` its body comes in base64, as binary types do."""
    sent = {"host": "abc.lambda-url.eu-west-1.on.aws", "x-forwarded-proto": "https", "x-forwarded-port": "443"}
    sent |= {name.lower(): value for name, value in (headers or {}).items()}
    if body is not None:
        sent["content-length"] = str(len(body))
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": sent,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "abc",
            "domainName": "abc.lambda-url.eu-west-1.on.aws",
            "domainPrefix": "abc",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
                "userAgent": "test",
            },
            "requestId": "1-2-3",
            "routeKey": "$default",
            "stage": "$default",
            "time": "23/Nov/2026:14:00:00 +0000",
            "timeEpoch": 1795442400000,
        },
        "isBase64Encoded": encoded,
    }
    if body is not None:
        event["body"] = base64.b64encode(body).decode() if encoded else body.decode()
    return event


@dataclass(frozen=True, slots=True)
class Answer:
    """What a function answered, as the function URL would pass it on. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Answer:
        """Read a handler's result."""
        text = result.get("body") or ""
        body = base64.b64decode(text) if result.get("isBase64Encoded") else text.encode()
        return cls(result["statusCode"], result["headers"], body)

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


def environment(gateway: Reachable, stage: str, **settings: str) -> dict[str, str]:
    """Give the settings of a function on a gateway: good ones, and what the test wants besides."""
    return {
        "UPSTASH_REDIS_REST_URL": gateway.url,
        "UPSTASH_REDIS_REST_TOKEN": gateway.token,
        "TIDEMARK_STAGE": stage,
        "TIDEMARK_TOKEN_KEYS": f"{KID}:{TOKEN_KEY}",
        "TIDEMARK_PUSH_AUTH": "off",
        **settings,
    }


def process_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Give what a process needs besides its settings, and nothing that another run has left behind."""
    ours = ("TIDEMARK_", "UPSTASH_", "AWS_", "POWERTOOLS_", "SENTRY_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | dict(settings)


class LambdaFunction:
    """A function that has been started. It lives in a thread of its own, with the event loop that Mangum makes."""

    def __init__(self, handler: Callable[[dict[str, Any], Any], dict[str, Any]], thread: ThreadPoolExecutor) -> None:
        self._handler = handler
        self._thread = thread

    def invoke(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        encoded: bool = False,
    ) -> Answer:
        """Invoke it once and return its answer."""
        event = function_url_event(method, path, query=query, headers=headers, body=body, encoded=encoded)
        context = types.SimpleNamespace(aws_request_id="1-2-3", get_remaining_time_in_millis=lambda: 10_000)
        return Answer.of(self._thread.submit(self._handler, event, context).result())


@contextlib.contextmanager
def deployed(module: str, settings: Mapping[str, str]) -> Iterator[LambdaFunction]:
    """Start a function's handler module anew with these settings only; at the end its connections are closed.

    Its logs stay with `logging`, where a test sees them; the real cold start is tested as a process.
    """
    clients: list[Upstash] = []

    def client(*args: Any, **more: Any) -> Upstash:
        clients.append(Upstash(*args, **more))
        return clients[-1]

    def cold_start() -> Any:
        sys.modules.pop(module, None)
        return importlib.import_module(module)

    def stop() -> None:
        loop = asyncio.get_event_loop()
        for started in clients:
            loop.run_until_complete(started.close())
        loop.close()

    with ThreadPoolExecutor(1, thread_name_prefix=module) as thread:
        with (
            mock.patch.dict(os.environ, process_environment(settings), clear=True),
            mock.patch("shared.start.configure_logs"),
            mock.patch("gc.freeze"),
            mock.patch("shared.start.Upstash", client),
            cheap_tls(),
        ):
            started = thread.submit(cold_start).result()
        try:
            yield LambdaFunction(started.handler, thread)
        finally:
            thread.submit(stop).result()
            sys.modules.pop(module, None)


def redis_command(gateway: Reachable, *command: str | int) -> Any:
    """Run one command on the Redis behind a gateway, past the function under test."""
    headers = {"authorization": f"Bearer {gateway.token}"}
    response = httpx.post(gateway.url, headers=headers, json=list(command), verify=NO_TLS, trust_env=False)
    return response.raise_for_status().json()["result"]


def check_problem(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """Hold an error answer to RFC 9457 and the contract, and return its members."""
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    found: dict[str, Any] = answer.json()
    assert found.keys() == {"type", "title", "status", "code", "detail"}
    assert (found["status"], found["code"]) == (status, code)
    return found
