"""Stream and replay, as a client sees them: a token that lives for a minute, and a topic that nobody else has."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Final

import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError

from infra.checks.answers import no_answer, unexpected
from infra.checks.finding import TIMEOUT_S, Finding
from shared.tokens import mint

#: How long a stream may take to say hello: a cold start is among it.
HELLO_S: Final = 10.0
#: So long it is watched after that.
_OPEN_S: Final = 0.5
#: Lambda does not notice that a client has left: its stream ends with its token.
_TTL_S: Final = 60
_BUFFERED: Final = (
    "somebody holds the answer back: on Lambda the URL's InvokeMode must be RESPONSE_STREAM and the function's "
    "AWS_LWA_INVOKE_MODE response_stream, and no function URL streams from within a VPC; elsewhere turn off the "
    "buffering of the proxy or CDN"
)
_CORS: Final = "access-control-allow-origin"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks: signs its tokens with ``key``; ``origin`` is that of a page which may read, if there is one."""

    kid: str
    key: str = field(repr=False)
    origin: str | None = None
    name: str = field(default_factory=lambda: f"doctor-{secrets.token_hex(4)}")

    @property
    def topic(self) -> str:
        """The topic that it follows."""
        return f"doctor:{self.name}"

    def headers(self) -> dict[str, str]:
        """Return what each of its requests carries."""
        token = mint(self.name, [self.topic], kid=self.kid, key=self.key, ttl_s=_TTL_S, now=time.time())
        page = {} if self.origin is None else {"Origin": self.origin}
        return {"Authorization": f"Bearer {token}", **page}


async def examine_stream(client: httpx.AsyncClient, name: str, url: str, visitor: Visitor) -> Finding:
    """Open a stream, wait for its hello, and see that it stays open."""
    began = time.monotonic()
    headers = {**visitor.headers(), "Accept": "text/event-stream", "Cache-Control": "no-store"}
    said = "nothing"
    try:
        async with (
            asyncio.timeout(HELLO_S),
            client.stream(
                "GET", f"{url}/events", params={"client": visitor.name}, headers=headers, timeout=HELLO_S
            ) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                await answer.aread()
                return _refused(name, url, answer)
            said = "a head"
            kind = answer.headers.get("content-type", "")
            if not kind.startswith("text/event-stream"):
                fix = "browsers end such a stream for good: what stands before the function?"
                return Finding("FAIL", f"{name}: {url} sends {kind or 'no type'} and no event stream", fix)
            return _cors(name, answer, visitor) or await _followed(name, url, answer, began)
    except (TimeoutError, httpx.ReadTimeout):
        return Finding("FAIL", f"{name}: {url} sends {said}, and no hello within {HELLO_S:g} s", _BUFFERED)
    except (httpx.HTTPError, SSEError, ValueError, LookupError) as error:
        return no_answer(name, url, error)


async def examine_replay(client: httpx.AsyncClient, name: str, url: str, visitor: Visitor) -> Finding:
    """Ask for a page of a topic that holds nothing."""
    params = {"topic": visitor.topic, "after": "earliest"}
    try:
        answer = await client.get(f"{url}/replay", params=params, headers=visitor.headers(), timeout=TIMEOUT_S)
        if answer.status_code != httpx.codes.OK:
            return _refused(name, url, answer)
        held = len(answer.json()["events"])
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        return no_answer(name, url, error)
    return _cors(name, answer, visitor) or Finding("ok", f"{name}: answers, with {held} events of a topic of its own")


async def _followed(name: str, url: str, answer: httpx.Response, began: float) -> Finding:
    events = EventSource(answer).aiter_sse()
    event: ServerSentEvent | None = None
    async for event in events:
        # A lone retry field comes as an event without data.
        if event.data:
            break
    if event is None or not event.data:
        return Finding("FAIL", f"{name}: {url} ends without a word", _BUFFERED)
    taken_ms = 1000 * (time.monotonic() - began)
    if event.event == "tidemark.bye":
        reason = json.loads(event.data)["reason"]
        return Finding("FAIL", f"{name}: {url} says goodbye at once: {reason}", "see what /healthz and its log say")
    try:
        async with asyncio.timeout(_OPEN_S):
            await anext(events)
    except TimeoutError:
        return Finding("ok", f"{name}: hello after {taken_ms:.0f} ms, and it stays open")
    except StopAsyncIteration:
        pass
    return Finding("FAIL", f"{name}: {url} ends right after its hello", _BUFFERED)


def _refused(name: str, url: str, answer: httpx.Response) -> Finding:
    told = unexpected(name, url, answer)
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        fix = "are TIDEMARK_TOKEN_KEYS here the deployment's, and is this machine's clock right?"
        return Finding(told.level, told.what, fix)
    return told


def _cors(name: str, answer: httpx.Response, visitor: Visitor) -> Finding | None:
    """See that a page of the origin may read the answer; None if it may, or if pages of none are let in."""
    if visitor.origin is None:
        return None
    allowed = [value.strip() for line in answer.headers.get_list(_CORS) for value in line.split(",")]
    if allowed == [visitor.origin]:
        return None
    if len(allowed) > 1:
        fix = "turn CORS off on the function URL (or proxy): the application answers it, and browsers refuse two"
        return Finding("FAIL", f"{name}: Access-Control-Allow-Origin comes {len(allowed)} times", fix)
    what = f"{name}: pages of {visitor.origin} may not read it ({allowed[0] if allowed else 'no header'})"
    return Finding(
        "FAIL", what, "are TIDEMARK_CORS_ORIGINS here the deployment's? Does something before it drop headers?"
    )
