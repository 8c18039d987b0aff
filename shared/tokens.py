"""Client tokens: who a user is and which topics it may follow (JWT, RFC 7519)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jwt

from shared.claims import claims_of, header_of, seconds
from shared.errors import (
    TokenError,
    TokenExpiredError,
    TokenMissingError,
    TokenRevokedError,
    TopicForbiddenError,
    TopicRequiredError,
)
from shared.jwks import KeySet
from shared.topic import check_topics

AUDIENCE = "tidemark"
MAX_LIFE_S = 24 * 3600
_LEEWAY_S = 10
PROVIDER_ALGORITHMS = ("RS256", "ES256")
MAX_SUBJECT = 256
# No control characters; and JSON can write half a pair, which is no text and has no bytes to make a key of.
_NO_NAME = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


class Grant(NamedTuple):
    """What a verified token allows: its user, exact topics, prefixes of topics.

    ``issued_at`` and ``expires_at`` are Unix seconds.
    """

    user: str
    exact: tuple[str, ...]
    prefixes: tuple[str, ...]
    issued_at: float
    expires_at: float

    def check_revoked(self, revoked_at: float | None) -> None:
        """Raise TokenRevokedError if the user's tokens were revoked after this one was issued."""
        if revoked_at is not None and self.issued_at <= revoked_at:
            raise TokenRevokedError("The tokens that this user had were revoked.")

    def topics(self, asked: Iterable[str]) -> tuple[str, ...]:
        """Return the topics that a request may use: the ones asked for, or all of the token.

        Raises BadTopicError, TooManyTopicsError, TopicForbiddenError (one is not allowed) or TopicRequiredError
        (none is named, and a prefix names no topic).
        """
        topics = check_topics(asked)
        if not topics:
            if self.prefixes:
                raise TopicRequiredError("This token allows topics by prefix: name the ones to follow with topic=.")
            return check_topics(self.exact)
        for topic in topics:
            if topic not in self.exact and not topic.startswith(self.prefixes):
                raise TopicForbiddenError("The token does not allow one of these topics.")
        return topics


class TokenVerifier:
    """Verifies client tokens: HS256 with keys of ours, RS256 and ES256 with those of an identity provider.

    Which of the two a token may name depends on its algorithm alone, so a public key never counts as a secret.
    ``now`` gives Unix seconds; tests inject it.
    """

    def __init__(
        self, keys: Mapping[str, str], *, key_set: KeySet | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self._keys = dict(keys)
        self._key_set = key_set
        self._now = now

    async def verify(self, token: str | None) -> Grant:
        """Return what a token allows. Raises TokenMissingError, TokenExpiredError or TokenError."""
        if not token:
            raise TokenMissingError("Send a token: Authorization: Bearer <token>, or token= for an EventSource.")
        header = header_of(token)
        algorithm, key = await self._key_for(header)
        return self._grant(claims_of(token, key, algorithm, required=("exp", "iat", "sub", "aud")))

    async def settle(self) -> None:
        """Wait until no fetch of keys is under way."""
        if self._key_set is not None:
            await self._key_set.settle()

    async def _key_for(self, header: Mapping[str, Any]) -> tuple[str, Any]:
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm == "HS256":
            if kid is None and len(self._keys) == 1:
                return algorithm, next(iter(self._keys.values()))
            key = self._keys.get(kid) if isinstance(kid, str) else None
            if key is None:
                raise TokenError("The token's kid names no key that is configured.")
            return algorithm, key
        if self._key_set is None or algorithm not in PROVIDER_ALGORITHMS:
            allowed = ("HS256",) if self._key_set is None else ("HS256", *PROVIDER_ALGORITHMS)
            raise TokenError(f"The token must be signed with {' or '.join(allowed)}.")
        if not isinstance(kid, str):
            raise TokenError("The token's kid must name a key of its issuer's.")
        return algorithm, await self._key_set.key(kid)

    def _grant(self, claims: Mapping[str, object]) -> Grant:
        user, topics = claims["sub"], claims.get("topics")
        now = self._now()
        if claims["aud"] != AUDIENCE:
            raise TokenError(f"The token's aud must be {AUDIENCE}.")
        expires_at, issued_at = seconds(claims, "exp"), seconds(claims, "iat")
        if expires_at <= now:
            raise TokenExpiredError("The token has expired.")
        if issued_at > now + _LEEWAY_S or seconds({"nbf": 0, **claims}, "nbf") > now + _LEEWAY_S:
            raise TokenError("The token is not valid yet.")
        if expires_at > now + MAX_LIFE_S + _LEEWAY_S:
            raise TokenError("The token lives for more than 24 hours.")
        if not isinstance(user, str) or not 0 < len(user) <= MAX_SUBJECT or _NO_NAME.search(user):
            raise TokenError(f"The token's sub must be 1-{MAX_SUBJECT} characters, none of them a control character.")
        if not isinstance(topics, list) or not topics or not all(isinstance(t, str) and t for t in topics):
            raise TokenError("The token's topics must be a list of names, or prefixes that end in *.")
        return Grant(
            user=user,
            exact=tuple(topic for topic in topics if not topic.endswith("*")),
            prefixes=tuple(topic[:-1] for topic in topics if topic.endswith("*")),
            issued_at=issued_at,
            expires_at=expires_at,
        )


def mint(user: str, topics: Iterable[str], *, kid: str, key: str, ttl_s: int, now: float) -> str:
    """Sign a client token as an application would; ``now`` is Unix seconds."""
    issued_at = int(now)
    claims = {
        "sub": user,
        "topics": list(topics),
        "aud": AUDIENCE,
        "iat": issued_at,
        "exp": issued_at + ttl_s,
    }
    return jwt.encode(claims, key, algorithm="HS256", headers={"kid": kid})
