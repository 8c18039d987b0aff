"""Whether the keys can be had that pushes and the tokens of an identity provider are verified with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from urllib.parse import urlsplit

from infra.checks.finding import Finding
from shared.counts import Counts
from shared.jwks import DOWNLOAD_ERRORS, FETCH_TIMEOUT_S, KeySet
from shared.push_auth import ALGORITHM as PUSH_ALGORITHM
from shared.settings import Settings
from shared.tokens import PROVIDER_ALGORITHMS


async def examine_keys(settings: Settings) -> AsyncIterator[Finding]:
    """Fetch the key sets."""
    if settings.push_auth is None:
        yield Finding("warn", "pushes: taken from anybody, without a token", "set TIDEMARK_PUSH_AUTH=on")
    else:
        yield await _key_set("push keys", settings.push_auth.jwks_url, [PUSH_ALGORITHM], "TIDEMARK_PUSH_JWKS_URL")
    if settings.token_jwks_url is not None:
        name = "TIDEMARK_TOKEN_JWKS_URL"
        yield await _key_set("token keys", settings.token_jwks_url, PROVIDER_ALGORITHMS, name)


async def _key_set(what: str, url: str, algorithms: Collection[str], variable: str) -> Finding:
    """Fetch a key set as the functions do."""
    keys = KeySet(url, name="doctor", algorithms=algorithms, counts=Counts())
    try:
        async with asyncio.timeout(FETCH_TIMEOUT_S):
            found, fresh_s = await keys.download()
    except DOWNLOAD_ERRORS as error:
        why = str(error) or f"no answer within {FETCH_TIMEOUT_S:g} s"
        return Finding(
            "FAIL", f"{what}: {why}", f"{variable} must be the URL of a JWK set that can be reached from here"
        )
    return Finding("ok", f"{what}: {len(found)} at {urlsplit(url).hostname}, fresh for {fresh_s:.0f} s")
