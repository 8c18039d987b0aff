"""All functions on one origin, and the page: what `tidemark dev` serves.

Run as ``python -m infra.local.origin --fd N --push-key FILE`` with a listening socket at that descriptor, so that
connections wait, instead of failing, while the process is started anew.
"""

from __future__ import annotations

import argparse
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from functions.replay import app as replay
from functions.stream import app as stream
from functions.stream.server import StreamProtocol
from functions.webhook import app as webhook
from infra.local.mail import fresh_message_id, history_ids, push_body
from infra.local.openapi import describe
from infra.local.push_signer import JWKS_PATH, PushSigner
from shared.application import application
from shared.errors import BadBodyError, RequestError
from shared.health import healthz
from shared.request_body import json_object
from shared.settings import Function
from shared.start import Basis, start
from shared.start_queues import delivery_queue
from shared.tokens import MAX_LIFE_S, mint
from shared.topic import check_topics, gmail_topic

_PAGE = Path(__file__).parent / "page"
_PAGE_TOKEN_S = 3600
_MAX_BODY_BYTES = 65_536
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class NotFromThePageError(RequestError):
    """A helper endpoint of the page was called by something else than a page of this origin."""

    code = "not_from_the_page"
    status = 403


class Origin:
    """Sends each path to the function that serves it, and everything else to the page's own application."""

    def __init__(self, functions: dict[str, ASGIApp], page: ASGIApp) -> None:
        self._functions = functions
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. The stream function's lifespan is the process's own."""
        if scope["type"] == "lifespan":
            app = self._functions["/events"]
        else:
            app = self._functions.get(scope["path"], self._page)
        await app(scope, receive, send)


def build_origin(basis: Basis, signer: PushSigner) -> Origin:
    """Build the whole origin. ``signer`` stands in for Google."""
    push = webhook.build_app(webhook.Deps.of(basis))
    events = stream.build_app(stream.Deps.of(basis))
    missed = replay.build_app(replay.Deps.of(basis))
    functions: dict[str, ASGIApp] = {"/push": push, "/events": events, "/replay": missed, "/ack": missed}
    return Origin(functions, _page_app(basis, push, signer))


def _page_app(basis: Basis, push: ASGIApp, signer: PushSigner) -> Starlette:
    """Build what the page needs: its files, a token, a button that sends mail, and the keys that sign it."""
    kid, key = next(iter(basis.settings.token_keys.items()))
    transport = httpx.ASGITransport(app=push)
    ids = history_ids()
    queue = delivery_queue(basis)

    async def index(_request: Request) -> FileResponse:
        return FileResponse(_PAGE / "index.html", headers=_PAGE_HEADERS)

    async def token(request: Request) -> JSONResponse:
        """Sign a token for ``topics`` and ``user`` that lives for ``ttl_s`` seconds, 1 to 86400, an hour without it.

        ``expires_in_s`` in the answer is what it truly has: `exp` is a whole second, so up to one less.
        """
        body = await json_object(request, max_bytes=_MAX_BODY_BYTES)
        user, topics = body.get("user", "page"), body.get("topics")
        if (
            not isinstance(user, str)
            or not isinstance(topics, list)
            or not topics
            or not all(isinstance(t, str) for t in topics)
        ):
            raise BadBodyError('The body must be {"topics": ["gmail:<address>"], "user": "<name>"}.')
        ttl_s = body.get("ttl_s", _PAGE_TOKEN_S)
        if type(ttl_s) is not int or not 1 <= ttl_s <= MAX_LIFE_S:
            raise BadBodyError(f"ttl_s must be a whole number from 1 to {MAX_LIFE_S}.")
        now = time.time()
        signed = mint(user, check_topics(topics), kid=kid, key=key, ttl_s=ttl_s, now=now)
        expires_in_s = round(ttl_s - now % 1, 3)
        return JSONResponse({"token": signed, "expires_in_s": expires_in_s}, headers={"Cache-Control": "no-store"})

    async def mail(request: Request) -> JSONResponse:
        mailbox = (await json_object(request, max_bytes=_MAX_BODY_BYTES)).get("mailbox")
        if not isinstance(mailbox, str):
            raise BadBodyError('The body must be {"mailbox": "<address>"}.')
        gmail_topic(mailbox)
        message_id, history_id = fresh_message_id(), next(ids)
        async with httpx.AsyncClient(transport=transport, base_url="http://tidemark.local") as client:
            answer = await client.post(
                "/push", json=push_body(mailbox, history_id, message_id), headers=signer.authorization()
            )
        content = {**answer.json(), "message_id": message_id, "history_id": str(history_id)}
        return JSONResponse(content, answer.status_code, headers={"Cache-Control": "no-store"})

    async def description(_request: Request) -> JSONResponse:
        return JSONResponse(describe(), headers={"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"})

    async def push_keys(_request: Request) -> JSONResponse:
        return JSONResponse(signer.key_set(), headers={"Cache-Control": "public, max-age=3600"})

    return application(
        [
            Route("/", index),
            Route(JWKS_PATH, push_keys),
            Route("/openapi.json", description),
            Mount("/page", StaticFiles(directory=_PAGE)),
            Route("/dev/token", _from_page_only(token), methods=["POST"]),
            Route("/dev/mail", _from_page_only(mail), methods=["POST"]),
            healthz({"log": basis.log, **({} if queue is None else {"queue": queue})}),
        ],
    )


def _from_page_only(
    endpoint: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """Refuse what another site's page could make a browser send: these endpoints hand out tokens."""

    async def guarded(request: Request) -> Response:
        # A JSON body makes a foreign page ask first (CORS preflight), and nobody answers. A foreign name that
        # was pointed at this machine shows in the Host header.
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json" or request.url.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise NotFromThePageError("This endpoint serves the local page only, as JSON on a loopback address.")
        return await endpoint(request)

    return guarded


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.origin")
    parser.add_argument("--fd", type=int, required=True, help="descriptor of a listening socket")
    parser.add_argument("--push-key", type=Path, required=True, help="PEM file of the key that signs pushes")
    args = parser.parse_args(argv)
    listening = socket.socket(fileno=args.fd)
    basis = start(Function.LOCAL, max_connections=stream.REQUEST_CONNECTIONS)
    config = uvicorn.Config(
        build_origin(basis, PushSigner.of(args.push_key)),
        loop="uvloop",
        http=StreamProtocol,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_level="warning",
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
