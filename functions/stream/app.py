"""``GET /events``."""

from __future__ import annotations

import contextlib
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from functions.stream.buffer import MOST_BYTES, MOST_EVENTS
from functions.stream.invocation import BEFORE_DEADLINE_S, CONTEXT_HEADER, REQUEST_HEADER, arrived_at, deadline
from functions.stream.order import ACKED, Order
from functions.stream.pace import MAX_RATE, MIN_RATE
from functions.stream.registry import Registry
from functions.stream.response import StreamResponse
from functions.stream.session import Stream
from functions.stream.shutdown import on_termination
from functions.stream.window import MAX_WINDOW
from shared.application import application
from shared.bypass import Bypass
from shared.client_name import check_client
from shared.client_request import admit, authenticate, number, whole_number
from shared.cors import cors
from shared.counts import Counts
from shared.errors import BadClientError, BadCursorError
from shared.health import healthz
from shared.hub import Hub
from shared.limiter import Limiter
from shared.live import LiveFeed
from shared.log import EARLIEST, NOW, Log
from shared.position import Position
from shared.slots import Claim, Slots
from shared.start import Basis
from shared.start_limits import bypass, client_limiter
from shared.start_tokens import token_verifier
from shared.tokens import Grant, TokenVerifier

#: Connections for requests; the live feed has its own, and both together stay within 50.
REQUEST_CONNECTIONS = 14


class Deps(NamedTuple):
    """What the stream function needs. ``clock`` is monotonic seconds, ``now`` Unix seconds."""

    log: Log
    hub: Hub
    slots: Slots
    verifier: TokenVerifier
    opens: Limiter
    bypass: Bypass
    max_streams: int
    stream_max_s: int
    counts: Counts
    cors_origins: tuple[str, ...] = ()
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time

    @classmethod
    def of(cls, basis: Basis) -> Deps:
        """Build them from the settings of this process."""
        settings = basis.settings
        live = LiveFeed(settings.redis_url, settings.redis_token, basis.keys)
        return cls(
            log=basis.log,
            hub=Hub(basis.log, live, reconcile_s=settings.reconcile_s),
            slots=Slots(basis.upstash, basis.keys, settings.slot_limit, breaker=basis.breaker),
            verifier=token_verifier(basis),
            opens=client_limiter(basis, "opens", "streams opened"),
            bypass=bypass(basis),
            max_streams=settings.max_streams,
            stream_max_s=settings.stream_max_s,
            counts=basis.counts,
            cors_origins=settings.cors_origins,
        )


def build_app(deps: Deps) -> Starlette:
    """Build the application. Its lifespan starts and stops the hub."""
    registry = Registry(deps.max_streams)

    async def events(request: Request) -> StreamResponse:
        # Before anything that takes time: of two streams of one client the one that came later stays.
        asked = deps.slots.asked(arrived_at(request.headers.get(REQUEST_HEADER)))
        grant = await authenticate(request, deps.verifier)
        topics = grant.topics(request.query_params.getlist("topic"))
        named = request.query_params.get("client")
        client = f"c_{secrets.token_hex(8)}" if named is None else check_client(named)
        start = _start(request)
        if start == ACKED and named is None:
            raise BadClientError("from=acked needs client=, the name that acknowledged.")
        max_rate = number(request, "max_rate", least=MIN_RATE, most=MAX_RATE)
        window = None
        if "window" in request.query_params:
            if named is None:
                raise BadClientError("window= needs client=, the name that acknowledges.")
            window = whole_number(request, "window", default=0, least=1, most=MAX_WINDOW)
        await admit(request, grant, deps.opens, deps.bypass)
        ends_at, end_reason = _end(deps, grant, request)
        order = Order(
            connection=f"c_{secrets.token_hex(8)}",
            grant=grant,
            client=client,
            topics=topics,
            start=start,
            ends_at=ends_at,
            end_reason=end_reason,
            max_rate=max_rate,
            window=window,
        )
        stream = Stream(order, deps.hub, deps.log, clock=deps.clock, counts=deps.counts)
        claim = Claim(
            user=grant.user,
            client=client,
            connection=order.connection,
            topic=topics[0],
            asked=asked,
            ends_in_s=ends_at - deps.clock(),
            wants_acks=stream.wants_acks,
            issued_at=grant.issued_at,
        )
        return StreamResponse(request, stream, claim, registry=registry, hub=deps.hub, slots=deps.slots)

    def load() -> dict[str, dict[str, int]]:
        """Say how many streams this process has, and the most that it ever held for a slow client."""
        gauges = {name: deps.counts[name] for name in (MOST_EVENTS, MOST_BYTES, "slow_consumers")}
        return {"streams": {"open": len(registry), "most": deps.max_streams, **gauges}}

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        deps.hub.start()
        with on_termination(registry.shut_down):
            yield
        registry.shut_down()
        await deps.slots.settle()
        await deps.hub.close()

    return application(
        [Route("/events", events), healthz({"log": deps.log}, load=load)],
        middleware=cors(deps.cors_origins),
        settle=[deps.verifier.settle],
        lifespan=lifespan,
    )


def _end(deps: Deps, grant: Grant, request: Request) -> tuple[float, str]:
    """Return when a stream ends, on the monotonic clock, and why."""
    now = deps.now()
    life_s = float(deps.stream_max_s)
    invocation_ends_at = deadline(request.headers.get(CONTEXT_HEADER))
    if invocation_ends_at is not None and invocation_ends_at > now:
        life_s = min(life_s, max(0.0, invocation_ends_at - now - BEFORE_DEADLINE_S))
    # Streams that opened together do not come back together.
    life_s *= random.uniform(0.9, 1.0)  # noqa: S311 - jitter, not a secret
    token_s = grant.expires_at - now
    if token_s < life_s:
        return deps.clock() + token_s, "token_expired"
    return deps.clock() + life_s, "rotate"


def _start(request: Request) -> Position | str:
    """Return where a stream begins. Raises BadCursorError for what is no cursor and no word known here."""
    resumed = request.headers.get("last-event-id") or request.query_params.get("last_event_id")
    if resumed:
        return Position.parse(resumed)
    word = request.query_params.get("from", NOW)
    if word not in (NOW, EARLIEST, ACKED):
        raise BadCursorError("from must be now, earliest or acked.")
    return word
