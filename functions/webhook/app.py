"""``POST /push``: nothing is acknowledged unless it is kept."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from functions.webhook.body import Body, read_body
from shared.application import application
from shared.envelope import envelope_of
from shared.health import healthz
from shared.log import Log
from shared.parking import Parking, Unreadable
from shared.push import UnreadablePushError, parse_push, rfc3339
from shared.start import Basis

logger = logging.getLogger("tidemark.webhook")


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Deps:
    """What the webhook function needs."""

    log: Log
    parking: Parking
    now: Callable[[], datetime] = _utc_now

    @classmethod
    def of(cls, basis: Basis) -> Deps:
        """Build them from the settings of this process."""
        return cls(basis.log, Parking(basis.upstash, basis.keys))


def build_app(deps: Deps) -> Starlette:
    """Build the application."""

    async def push(request: Request) -> JSONResponse:
        body = await read_body(request)
        if body.oversized:
            return await _reject(deps, request, body, "over 256 KiB")
        try:
            note = parse_push(body.kept, request.headers, received_at=deps.now())
        except UnreadablePushError as error:
            return await _reject(deps, request, body, str(error))
        appended = await deps.log.append(
            topic=note.topic,
            envelope=envelope_of(note),
            subscription=note.subscription,
            message_id=note.message_id,
        )
        status = "duplicate" if appended.duplicate else "published"
        return _answer({"status": status, "id": str(appended.position)})

    return application(
        [Route("/push", push, methods=["POST"]), healthz(deps.log)],
    )


async def _reject(deps: Deps, request: Request, body: Body, reason: str) -> JSONResponse:
    """Acknowledge a push that can never be read, once it is parked: a refusal would slow down every mailbox."""
    await deps.parking.park(
        Unreadable(
            reason=reason,
            received_at=rfc3339(deps.now()),
            size=body.size,
            sha256=body.sha256,
            head=body.kept,
            pubsub={name: value for name, value in request.headers.items() if name.startswith("x-goog-pubsub-")},
        )
    )
    logger.warning("push rejected and parked", extra={"reason": reason, "size": body.size})
    return _answer({"status": "rejected", "reason": reason})


def _answer(content: dict[str, str]) -> JSONResponse:
    return JSONResponse(content, headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"})
