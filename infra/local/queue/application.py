"""The ASGI application: HTTP around the service.

https://smithy.io/2.0/aws/protocols/aws-json-1_0-protocol.html
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from infra.local.queue import errors, limits
from infra.local.queue.core import Asker, ClientLeftError
from infra.local.queue.database import DatabaseError
from infra.local.queue.errors import QueueError
from infra.local.queue.fields import Fields, read_object
from infra.local.queue.service import QueueService
from infra.local.queue.signature import SignedRequest, Verifier

_log = logging.getLogger(__name__)

_TARGET: Final = "AmazonSQS."
_JSON: Final = b"application/x-amz-json-1.0"
_HEALTH: Final = "/healthz"


class QueueApplication:
    """Answers requests in SQS's JSON protocol, and `GET /healthz`."""

    def __init__(self, service: QueueService, verifier: Verifier, names: Sequence[str]) -> None:
        self._service = service
        self._verifier = verifier
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live with the server. Raises ValueError for what is neither."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            try:
                status, answer, headers = await self._answer(scope, receive)
            except ClientLeftError:
                return
            await _send_json(send, status, answer, headers)
        else:
            raise ValueError(f"the queue server does not speak {scope['type']}")

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._service.open(self._names)
        except (DatabaseError, QueueError) as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._service.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, Mapping[str, Any], dict[str, str]]:
        try:
            if scope["path"] == _HEALTH and scope["method"] == "GET":
                await self._service.check()
                return 200, {"status": "ok"}, {}
            return 200, await self._call(scope, receive), {}
        except QueueError as error:
            refused = error
        except DatabaseError:
            _log.exception("a request was not answered")
            refused = errors.unavailable()
        return refused.status, refused.body(), {"x-amzn-query-error": refused.header}

    async def _call(self, scope: Scope, receive: Receive) -> Mapping[str, Any]:
        body = await _read_body(receive)
        method, headers = scope["method"], scope["headers"]
        self._verifier.verify(SignedRequest(method, scope["raw_path"], scope["query_string"], headers, body))
        by_name = {name: value.decode("latin-1") for name, value in headers}
        target = by_name.get(b"x-amz-target", "")
        if method != "POST" or not target.startswith(_TARGET):
            raise errors.unknown_operation(target or method)

        async def until_left() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        asker = Asker(f"{scope['scheme']}://{by_name.get(b'host', '127.0.0.1')}", until_left)
        return await self._service.call(target[len(_TARGET) :], Fields(read_object(body)), asker)


async def _read_body(receive: Receive) -> bytes:
    """Read the whole body. Raises QueueError for one that is too large, but reads on to its end first."""
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientLeftError
        part: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(part)
        if size <= limits.REQUEST_BYTES:
            parts.append(part)
    if size > limits.REQUEST_BYTES:
        raise errors.too_large(limits.REQUEST_BYTES)
    return b"".join(parts)


async def _send_json(send: Send, status: int, answer: Mapping[str, Any], headers: Mapping[str, str]) -> None:
    body = json.dumps(answer, separators=(",", ":")).encode()
    head = [
        (b"content-type", _JSON),
        (b"content-length", b"%d" % len(body)),
        (b"x-amzn-requestid", str(uuid.uuid4()).encode()),
        *((name.encode(), value.encode()) for name, value in headers.items()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
