"""Client tokens: who a user is and which topics it may follow (JWT, RFC 7519)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import jwt

from shared.errors import (
    TokenError,
    TokenExpiredError,
    TokenMissingError,
    TopicForbiddenError,
    TopicRequiredError,
)
from shared.topic import check_topics

AUDIENCE = "tidemark"
MAX_LIFE_S = 24 * 3600
_LEEWAY_S = 10
_MAX_LENGTH = 8192
MAX_SUBJECT = 256
_LARGEST_S = 2**53
# JSON can write half a pair; it is no text, and has no bytes to make a key of.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Grant:
    """What a verified token allows: its user, exact topics, prefixes of topics, and until when (Unix seconds)."""

    user: str
    exact: tuple[str, ...]
    prefixes: tuple[str, ...]
    expires_at: float

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
    """Verifies client tokens with HS256 keys by ``kid``. ``now`` gives Unix seconds; tests inject it."""

    def __init__(self, keys: Mapping[str, str], *, now: Callable[[], float] = time.time) -> None:
        self._keys = dict(keys)
        self._now = now

    def verify(self, token: str | None) -> Grant:
        """Return what a token allows. Raises TokenMissingError, TokenExpiredError or TokenError."""
        if not token:
            raise TokenMissingError("Send a token: Authorization: Bearer <token>, or token= for an EventSource.")
        if len(token) > _MAX_LENGTH:
            raise TokenError("The token is too long.")
        try:
            claims = jwt.decode(
                token,
                self._key_for(token),
                algorithms=["HS256"],
                audience=AUDIENCE,
                # Times are checked below, by the injected clock.
                options={
                    "require": ["exp", "iat", "sub", "aud"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                    "strict_aud": True,
                },
            )
        except jwt.InvalidSignatureError:
            raise TokenError("The token was signed with another key than the one that its kid names.") from None
        except jwt.MissingRequiredClaimError as error:
            raise TokenError(f"The token has no {error.claim}.") from None
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            # The library's text may quote the token's content; its class says enough.
            raise TokenError(f"The token does not verify ({type(error).__name__}).") from None
        return self._grant(claims)

    def _key_for(self, token: str) -> str:
        kid = jwt.get_unverified_header(token).get("kid")
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        key = self._keys.get(kid) if isinstance(kid, str) else None
        if key is None:
            raise TokenError("The token's kid names no key that is configured.")
        return key

    def _grant(self, claims: Mapping[str, object]) -> Grant:
        user, topics = claims["sub"], claims.get("topics")
        now = self._now()
        expires_at, issued_at = _seconds(claims, "exp"), _seconds(claims, "iat")
        if expires_at <= now:
            raise TokenExpiredError("The token has expired.")
        if issued_at > now + _LEEWAY_S or _seconds({"nbf": 0, **claims}, "nbf") > now + _LEEWAY_S:
            raise TokenError("The token is not valid yet.")
        if expires_at > now + MAX_LIFE_S + _LEEWAY_S:
            raise TokenError("The token lives for more than 24 hours.")
        if not isinstance(user, str) or not 0 < len(user) <= MAX_SUBJECT or _LONE_SURROGATE.search(user):
            raise TokenError(f"The token's sub must be 1-{MAX_SUBJECT} characters.")
        if not isinstance(topics, list) or not topics or not all(isinstance(t, str) and t for t in topics):
            raise TokenError("The token's topics must be a list of names, or prefixes that end in *.")
        return Grant(
            user=user,
            exact=tuple(topic for topic in topics if not topic.endswith("*")),
            prefixes=tuple(topic[:-1] for topic in topics if topic.endswith("*")),
            expires_at=expires_at,
        )


def _seconds(claims: Mapping[str, object], name: str) -> float:
    value = claims[name]
    # Python's JSON also reads NaN, which is neither before nor after any moment, and integers beyond any float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST_S:
        raise TokenError(f"The token's {name} must be a number of seconds.")
    return float(value)


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
