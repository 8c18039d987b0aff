"""The public keys of a token issuer: a JWK set (RFC 7517) behind a URL, cached, and served on while it is away.

A key server that cannot be reached must not be an outage: keys that were good stay good for a day. A key that nobody
has seen before is looked for at once, but not more than once in a while, whatever strangers write into their tokens.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from shared.counts import Counts
from shared.errors import UnknownKeyError
from shared.http_pool import PooledTransport

logger = logging.getLogger("tidemark.jwks")

FETCH_TIMEOUT_S = 2.0
#: An unknown key, and a set that has gone stale, are each looked for once in so long.
REFETCH_AFTER_S = 30.0
#: The same while no keys are held at all: without them nothing can be verified.
RETRY_EMPTY_AFTER_S = 2.0
#: Keys are used so long after they were last fetched.
LAST_GOOD_S = 24 * 3600.0
#: How long an answer is fresh when its headers say nothing, and at most, whatever they say.
DEFAULT_FRESH_S = 3600.0
MAX_FRESH_S = 24 * 3600.0
_MAX_BYTES = 256 * 1024
_MIN_RSA_BITS = 2048  # RFC 7518, section 3.3
_CURVES = {"ES256": "secp256r1"}
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=\"?(\d{1,9})", re.IGNORECASE)
_UNCACHED = re.compile(r"(?:^|[\s,])no-(?:cache|store)\b", re.IGNORECASE)


class KeySetError(Exception):
    """What the URL answered is not a set of keys."""


#: Everything that may become of a download; OSError includes the time-out.
DOWNLOAD_ERRORS = (httpx.HTTPError, httpx.InvalidURL, KeySetError, OSError, OverflowError)


class KeySet:
    """Public keys by ``kid``, of the given algorithms only.

    ``clock`` is monotonic seconds, injected by tests. Counts ``<name>_fetched``, ``<name>_fetch_failed``,
    ``<name>_stale`` (a key was used whose set should have been fetched anew) and ``<name>_unknown_kid``.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        algorithms: Collection[str],
        counts: Counts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._name = name
        self._algorithms = frozenset(algorithms)
        self._counts = counts
        self._clock = clock
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched_at = 0.0
        self._fresh_until = 0.0
        self._tried_at = -math.inf
        # When a fetch was last begun for the sake of an unknown key, while others were held.
        self._sought_at = -math.inf
        self._fetching: asyncio.Task[None] | None = None

    async def key(self, kid: str) -> jwt.PyJWK:
        """Return a key.

        A known key is returned without waiting; if its set has gone stale, a fetch begins that `settle` waits for.
        An unknown one is looked for first. Raises UnknownKeyError.
        """
        self._fetch_if_due(kid, self._clock())
        if kid not in self._keys and self._fetching is not None:
            # Whoever gives up waiting leaves the fetch to the others.
            await asyncio.shield(self._fetching)
        found = self._keys.get(kid)
        if found is None:
            self._counts.count(f"{self._name}_unknown_kid")
            raise UnknownKeyError("The token's kid names no key that its issuer has published.")
        if self._clock() >= self._fresh_until:
            self._counts.count(f"{self._name}_stale")
        return found

    async def settle(self) -> None:
        """Wait until no fetch is under way; on Lambda nothing may be left running when a handler answers."""
        if self._fetching is not None:
            await asyncio.shield(self._fetching)

    def _fetch_if_due(self, kid: str, now: float) -> None:
        if self._keys and now - self._fetched_at > LAST_GOOD_S:
            self._keys = {}
        if self._fetching is not None:
            return
        if not self._keys:
            due = now - self._tried_at >= RETRY_EMPTY_AFTER_S
        elif kid not in self._keys:
            due = now - self._sought_at >= REFETCH_AFTER_S
            if due:
                self._sought_at = now
        else:
            due = now >= self._fresh_until and now - self._tried_at >= REFETCH_AFTER_S
        if due:
            self._tried_at = now
            self._fetching = asyncio.ensure_future(self._fetch())

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                keys, fresh_s = await self.download()
        except DOWNLOAD_ERRORS as error:
            self._counts.count(f"{self._name}_fetch_failed")
            logger.warning(
                "keys could not be fetched: the last good ones are used on",
                extra={"keys": self._name, "held": len(self._keys), "reason": f"{type(error).__name__}: {error}"},
            )
        else:
            self._keys = keys
            self._fetched_at = self._clock()
            self._fresh_until = self._fetched_at + fresh_s
            self._counts.count(f"{self._name}_fetched")
            logger.info("keys fetched", extra={"keys": self._name, "held": len(keys), "fresh_s": fresh_s})
        finally:
            self._fetching = None

    async def download(self) -> tuple[Mapping[str, jwt.PyJWK], float]:
        """Ask the URL; return the keys and for how many seconds they are fresh. Keeps nothing.

        Raises one of DOWNLOAD_ERRORS.
        """
        # A client a fetch: fetches are hours apart, and no connection of the last one would still be good. Over our
        # own transport: httpx's would be loaded for this alone, in the first request of each process.
        transport = PooledTransport(self._url, max_connections=1)
        async with (
            httpx.AsyncClient(transport=transport, timeout=FETCH_TIMEOUT_S, trust_env=False) as client,
            client.stream("GET", self._url, headers={"Accept": "application/json"}) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise KeySetError(f"status {answer.status_code}")
            body = bytearray()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > _MAX_BYTES:
                    raise KeySetError(f"over {_MAX_BYTES} bytes")
        return self._parse(bytes(body)), _fresh_s(answer.headers)

    def _parse(self, body: bytes) -> Mapping[str, jwt.PyJWK]:
        try:
            listed = json.loads(body)["keys"]
            found = [key for jwk in listed if (key := self._key(jwk)) is not None]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise KeySetError(f"not a JWK set ({type(error).__name__})") from error
        named = Counter(key.key_id for key in found)
        # Of two keys with one name nobody can say which is meant.
        keys = {key.key_id: key for key in found if key.key_id is not None and named[key.key_id] == 1}
        if not keys:
            raise KeySetError("no key for " + ", ".join(sorted(self._algorithms)))
        return keys

    def _key(self, jwk: Any) -> jwt.PyJWK | None:
        """Return a key of the set if it may be used here; others may stand beside it."""
        if (
            not isinstance(jwk, dict)
            or not isinstance(jwk.get("kid"), str)
            or jwk.get("alg") not in (None, *self._algorithms)
            or jwk.get("use") not in (None, "sig")
        ):
            return None
        try:
            key = jwt.PyJWK(jwk)
        except (jwt.PyJWTError, ValueError, LookupError, TypeError, AttributeError):
            return None
        return key if key.algorithm_name in self._algorithms and _is_sound(key) else None


def _is_sound(key: jwt.PyJWK) -> bool:
    """Whether it is a public key, and as strong as its algorithm wants it."""
    if isinstance(key.key, RSAPublicKey):
        return key.key.key_size >= _MIN_RSA_BITS
    return isinstance(key.key, EllipticCurvePublicKey) and key.key.curve.name == _CURVES.get(key.algorithm_name)


def _fresh_s(headers: httpx.Headers) -> float:
    """Return for how long an answer is fresh (RFC 9111, section 4.2)."""
    control = headers.get("cache-control", "")
    if _UNCACHED.search(control):
        return 0.0
    stated = _MAX_AGE.search(control)
    if stated is None:
        return DEFAULT_FRESH_S
    age = headers.get("age", "0")
    spent_s = int(age) if re.fullmatch(r"\d{1,9}", age, re.ASCII) else 0
    return max(0.0, min(float(stated[1]) - spent_s, MAX_FRESH_S))
