"""``GET /replay`` and ``POST /ack``."""

from __future__ import annotations

from typing import NamedTuple

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shared.application import application
from shared.bypass import Bypass
from shared.client_name import check_client
from shared.client_request import admit, authenticate, whole_number
from shared.cors import cors
from shared.entry import Gap, merge
from shared.envelope import as_object
from shared.errors import BadBodyError, BadClientError, BadCursorError
from shared.health import healthz
from shared.limiter import Limiter
from shared.log import EARLIEST, From, Log
from shared.position import Position
from shared.request_body import json_object
from shared.start import Basis
from shared.start_limits import bypass, client_limiter
from shared.start_tokens import token_verifier
from shared.tokens import Grant, TokenVerifier

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
MAX_ACK_BYTES = 4096
#: Events of one page.
MAX_PAGE = 500
_ACKED = "acked"


class Deps(NamedTuple):
    """What the replay function needs."""

    log: Log
    verifier: TokenVerifier
    replays: Limiter
    acks: Limiter
    bypass: Bypass
    cors_origins: tuple[str, ...] = ()

    @classmethod
    def of(cls, basis: Basis) -> Deps:
        """Build them from the settings of this process."""
        return cls(
            log=basis.log,
            verifier=token_verifier(basis),
            replays=client_limiter(basis, "replays", "replays"),
            acks=client_limiter(basis, "acks", "acks"),
            bypass=bypass(basis),
            cors_origins=basis.settings.cors_origins,
        )


def build_app(deps: Deps) -> Starlette:
    """Build the application."""

    async def replay(request: Request) -> JSONResponse:
        grant = await authenticate(request, deps.verifier)
        topics = grant.topics(request.query_params.getlist("topic"))
        limit = whole_number(request, "limit", default=100, least=1, most=MAX_PAGE)
        await admit(request, grant, deps.replays, deps.bypass)
        after = await _after(deps.log, request, grant)
        reading = await deps.log.read(dict.fromkeys(topics, From(after)), limit=limit, user=grant.user)
        grant.check_revoked(reading.revoked_at)
        page = merge(reading, limit)
        return JSONResponse(
            {
                "events": [as_object(entry.envelope, entry.position) for entry in page.entries],
                "cursor": str(page.cursor),
                "more": page.more,
                "gaps": [_gap(gap) for gap in page.gaps],
            },
            headers=_HEADERS,
        )

    async def ack(request: Request) -> Response:
        grant = await authenticate(request, deps.verifier)
        await admit(request, grant, deps.acks, deps.bypass)
        body = await json_object(request, max_bytes=MAX_ACK_BYTES)
        cursor, client = body.get("cursor"), body.get("client")
        if not isinstance(cursor, str) or not isinstance(client, str):
            raise BadBodyError('The body must be {"cursor": "<cursor>", "client": "<client>"}.')
        await deps.log.ack(grant.user, check_client(client), Position.parse(cursor), issued_at=grant.issued_at)
        return Response(status_code=204, headers=_HEADERS)

    return application(
        [
            Route("/replay", replay, methods=["GET"]),
            Route("/ack", ack, methods=["POST"]),
            healthz({"log": deps.log}),
        ],
        middleware=cors(deps.cors_origins),
        settle=[deps.verifier.settle, deps.replays.settle, deps.acks.settle, deps.log.settle],
    )


async def _after(log: Log, request: Request, grant: Grant) -> Position | str:
    """Return where a page begins. Raises BadCursorError or BadClientError."""
    text = request.query_params.get("after")
    if text is None:
        raise BadCursorError("after is required: a cursor, earliest or acked.")
    if text == EARLIEST:
        return EARLIEST
    if text != _ACKED:
        return Position.parse(text)
    named = request.query_params.get("client")
    if named is None:
        raise BadClientError("after=acked needs client=, the name that acknowledged.")
    return await log.acked(grant.user, check_client(named)) or EARLIEST


def _gap(gap: Gap) -> dict[str, str]:
    return {"topic": gap.topic, "after": str(gap.after), "resume": str(gap.resume)}
