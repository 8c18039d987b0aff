"""A bare Starlette stream: what a fan-out costs without a log, tokens, or anything else around it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

_followers: defaultdict[str, set[asyncio.Queue[bytes]]] = defaultdict(set)


async def _events(request: Request) -> StreamingResponse:
    followers = _followers[request.path_params["topic"]]

    async def body() -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        followers.add(queue)
        try:
            yield b"event: hello\ndata: {}\n\n"
            while True:
                yield await queue.get()
        finally:
            followers.discard(queue)

    return StreamingResponse(body(), media_type="text/event-stream")


async def _push(request: Request) -> Response:
    # What is pushed is the event itself: it is encoded once, like ours.
    frame = b"id: 1795426697001-0\ndata: " + await request.body() + b"\n\n"
    for follower in _followers[request.path_params["topic"]]:
        follower.put_nowait(frame)
    return Response(status_code=204)


app = Starlette(
    routes=[
        Route("/events/{topic}", _events, methods=["GET"]),
        Route("/events/{topic}", _push, methods=["POST"]),
        Route("/healthz", lambda _request: Response("ok")),
    ]
)
