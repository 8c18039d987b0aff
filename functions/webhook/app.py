"""``POST /push``: nothing is taken unless it is Google's, and nothing acknowledged unless it is kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from functions.webhook.body import Body, check_size, read_body
from shared.application import application
from shared.bypass import HEADER as BYPASS_HEADER
from shared.bypass import Bypass
from shared.dead_letters import DeadLetters
from shared.delivery import RawPush
from shared.envelope import Notification
from shared.errors import PushForbiddenError, TokenError
from shared.health import Checked, healthz
from shared.intake import Intake
from shared.limiter import PATIENCE_S, Limiter
from shared.log import APPEND_TIMEOUT_S, Log
from shared.push import UnreadablePushError, parse_push, rfc3339
from shared.push_auth import PushVerifier
from shared.source_ip import Network, source_ip
from shared.start import Basis
from shared.start_limits import bypass, limiter
from shared.start_pushes import push_verifier, unreadable
from shared.start_queues import confirmation, delivery_queue

logger = logging.getLogger("tidemark.webhook")

T = TypeVar("T")

#: An answer takes 3 s at most, by the contract; this leaves some for the way back.
ANSWER_S = 2.8


class Grave(Protocol):
    """Keeps pushes that can never be read."""

    async def park(self, push: RawPush, *, reason: str, received_at: str, timeout_s: float) -> None:
        """Keep one; raises an UnavailableError when it is not known to be kept."""

    async def settle(self) -> None:
        """Wait until nothing is under way that nobody waits for."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Deps(NamedTuple):
    """What the webhook function needs.

    ``checks`` are what it depends on, by the names that ``/healthz`` uses.
    ``verifier`` is None where pushes are taken without a token: never inside Lambda. ``unverified`` limits by
    address what does not verify, ``verified`` limits by subscription what does.
    """

    log: Log
    checks: Mapping[str, Checked]
    intake: Intake
    unreadable: Grave
    verifier: PushVerifier | None
    unverified: Limiter
    verified: Limiter
    bypass: Bypass
    proxies: Sequence[Network] = ()
    now: Callable[[], datetime] = _utc_now

    @classmethod
    def of(cls, basis: Basis) -> Deps:
        """Build them from the settings of this process."""
        settings, parking = basis.settings, unreadable(basis)
        queue, copies = delivery_queue(basis), confirmation(basis)
        checks: dict[str, Checked] = {"log": basis.log}
        if queue is not None:
            checks["queue"] = queue
        if copies is not None:
            checks["confirmation"] = copies
        if isinstance(parking, DeadLetters):
            checks["dead_letters"] = parking
        return cls(
            log=basis.log,
            checks=checks,
            intake=Intake(basis.log, basis.counts, queue=queue, confirmation=copies),
            unreadable=parking,
            verifier=push_verifier(basis),
            unverified=limiter(
                basis,
                "unverified",
                settings.push_limit,
                "requests that do not verify, from one address",
                sliding=True,
            ),
            verified=limiter(basis, "subscription", settings.verified_limit, "pushes of one subscription"),
            bypass=bypass(basis),
            proxies=settings.trusted_proxies,
        )


def build_app(deps: Deps) -> Starlette:
    """Build the application."""

    async def push(request: Request) -> JSONResponse:
        began = asyncio.get_running_loop().time()
        unlimited = deps.bypass.allows(request.headers.get(BYPASS_HEADER))
        await _verify(deps, request, unlimited=unlimited)
        body = await read_body(request)
        note = _parse(deps, request, body)
        if isinstance(note, str):
            work, subscription = partial(_reject, deps, request, body, note, began), ""
        else:
            work, subscription = partial(_take, deps, note, began), note.subscription
        if unlimited:
            return _answer(await work())
        return _answer(await _beside(deps.verified, subscription, began, work))

    return application(
        [Route("/push", push, methods=["POST"]), healthz(deps.checks)],
        settle=[
            *([] if deps.verifier is None else [deps.verifier.settle]),
            deps.unverified.settle,
            deps.verified.settle,
            deps.log.settle,
            deps.intake.settle,
            deps.unreadable.settle,
        ],
    )


async def _verify(deps: Deps, request: Request, *, unlimited: bool) -> None:
    """Let genuine pushes pass, and limit what others cost.

    Raises RateLimitedError, BodyTooLargeError, TokenError or PushForbiddenError.
    """
    if deps.verifier is None:
        return
    try:
        await deps.verifier.verify(request.headers.get("authorization"))
    except (TokenError, PushForbiddenError) as error:
        if not unlimited:
            # After the token, not before it: everybody's Pub/Sub shares Google's addresses.
            peer = None if request.client is None else request.client.host
            await deps.unverified.admit(source_ip(peer, request.headers.getlist("x-forwarded-for"), deps.proxies))
        # A warning each: a wrong audience here is an outage for every mailbox.
        logger.warning("push refused", extra={"code": error.code, "reason": str(error)})
        await check_size(request)
        raise


async def _beside(limiter: Limiter, subject: str, began: float, work: Callable[[], Awaitable[T]]) -> T:
    """Do the work while the limiter counts it: an overrun stops the next ones, and nothing waits for the counting.

    Raises RateLimitedError, without doing anything, for a subject that is known to be over its quota.
    """
    limiter.refuse_known(subject)
    within_s = began + PATIENCE_S - asyncio.get_running_loop().time()
    counting = asyncio.ensure_future(limiter.spend(subject, within_s=within_s))
    try:
        return await work()
    finally:
        # It never fails and never takes longer than it was told; nothing may outlive the invocation.
        await counting


def _parse(deps: Deps, request: Request, body: Body) -> Notification | str:
    """Return what a push says, or why it can never be read."""
    if body.oversized:
        return "over 256 KiB"
    try:
        return parse_push(body.kept, request.headers, received_at=deps.now())
    except UnreadablePushError as error:
        return str(error)


async def _take(deps: Deps, note: Notification, began: float) -> dict[str, str]:
    taken = await deps.intake.take(note, received_at=rfc3339(deps.now()), until=began + ANSWER_S)
    if taken.position is None:
        return {"status": "queued"}
    return {"status": "duplicate" if taken.duplicate else "published", "id": str(taken.position)}


async def _reject(deps: Deps, request: Request, body: Body, reason: str, began: float) -> dict[str, str]:
    """Acknowledge a push that can never be read, once it is parked: a refusal would slow down every mailbox."""
    pubsub = {name: value for name, value in request.headers.items() if name.startswith("x-goog-pubsub-")}
    left_s = began + ANSWER_S - asyncio.get_running_loop().time()
    await deps.unreadable.park(
        RawPush(body.size, body.sha256, body.kept, pubsub),
        reason=reason,
        received_at=rfc3339(deps.now()),
        timeout_s=min(APPEND_TIMEOUT_S, left_s),
    )
    logger.warning("push rejected and parked", extra={"reason": reason, "size": body.size})
    return {"status": "rejected", "reason": reason}


def _answer(content: dict[str, str]) -> JSONResponse:
    return JSONResponse(content, headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"})
