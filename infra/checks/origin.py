"""Whether the functions can be reached where they should be, and answer as themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass

import httpx

from infra.checks.answers import code_of, no_answer, unexpected
from infra.checks.clients import Visitor, examine_replay, examine_stream
from infra.checks.finding import TIMEOUT_S, Finding
from infra.deployed import BROWSER_URL, REPLAY_URL, STREAM_URL, WEBHOOK_URL


@dataclass(frozen=True, slots=True)
class Origins:
    """Where each function is, and the one origin that browsers may be given instead; None for what is not known."""

    webhook: str | None = None
    stream: str | None = None
    replay: str | None = None
    browser: str | None = None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Origins:
        """Read them from the environment, as `tidemark env` puts them there."""
        names = (WEBHOOK_URL, STREAM_URL, REPLAY_URL, BROWSER_URL)
        return cls(*(environ.get(name, "").rstrip("/") or None for name in names))

    @classmethod
    def one(cls, url: str) -> Origins:
        """Have them all in one place."""
        return cls(url, url, url)

    def names(self) -> Iterator[tuple[str, str]]:
        """Name each that is known; where all are one, it is the origin."""
        functions = {"webhook": self.webhook, "stream": self.stream, "replay": self.replay}
        if self.stream and self.stream == self.replay and self.webhook in (None, self.stream):
            yield "origin", self.stream
        else:
            yield from ((name, url) for name, url in functions.items() if url)


async def examine_origins(origins: Origins, visitor: Visitor | None, *, verified: bool) -> AsyncIterator[Finding]:
    """Ask each for its health, and use it once. ``verified`` says that pushes are taken with a token only.

    Without a ``visitor`` nothing is asked that takes a client's token.
    """
    async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
        well = set()
        for name, url in origins.names():
            finding = await _health(client, name, url)
            if finding.level == "ok":
                well.add(url)
            yield finding
        if verified and origins.webhook in well:
            yield await _push(client, str(origins.webhook))
        if visitor is None:
            if origins.stream in well:
                fix = "set TIDEMARK_TOKEN_KEYS as the deployment has them: tidemark env STAGE"
                yield Finding("warn", "stream: not opened, for there is no key to sign a token with", fix)
            return
        if origins.stream in well:
            yield await examine_stream(client, "stream", str(origins.stream), visitor)
        if origins.replay in well:
            yield await examine_replay(client, "replay", str(origins.replay), visitor)
        if origins.browser is not None:
            yield await examine_stream(client, "browser's stream", origins.browser, visitor)
            yield await examine_replay(client, "browser's replay", origins.browser, visitor)


async def _health(client: httpx.AsyncClient, name: str, url: str) -> Finding:
    try:
        answer = await client.get(f"{url}/healthz")
    except httpx.HTTPError as error:
        return no_answer(name, url, error)
    if answer.status_code != httpx.codes.OK:
        return unexpected(name, url, answer)
    return Finding("ok", f"{name}: {url} is healthy")


async def _push(client: httpx.AsyncClient, url: str) -> Finding:
    """See that a push without a token is refused, and by the webhook itself."""
    try:
        answer = await client.post(f"{url}/push", json={})
    except httpx.HTTPError as error:
        return no_answer("push", url, error)
    code = code_of(answer)
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS and code is not None:
        return Finding("warn", "push: this address has been refused too often", "look again in a minute")
    if answer.status_code == httpx.codes.UNAUTHORIZED and code is not None:
        return Finding("ok", "push: refused without Google's token, as it should be")
    if answer.is_success:
        what = f"push: {url} takes pushes from anybody, without a token"
        return Finding("FAIL", what, "set TIDEMARK_PUSH_AUTH=on")
    return unexpected("push", url, answer)
