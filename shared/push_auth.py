"""Whether a push is Google's, made for us and by our own subscription (OpenID Connect ID token, RS256).

Source: Pub/Sub "Authentication for push subscriptions". Any Google service account can mint a token with any
audience, so the service account is compared as well as the audience.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from shared.claims import claims_of, header_of, seconds
from shared.errors import PushForbiddenError, TokenError, TokenExpiredError, TokenMissingError
from shared.jwks import KeySet

ALGORITHM = "RS256"
ISSUERS = ("https://accounts.google.com", "accounts.google.com")
LEEWAY_S = 10


class PushVerifier:
    """Verifies the tokens of pushes. ``now`` gives Unix seconds; tests inject it."""

    def __init__(
        self, keys: KeySet, *, audience: str, service_account: str, now: Callable[[], float] = time.time
    ) -> None:
        self._keys = keys
        self._audience = audience
        self._service_account = service_account
        self._now = now

    async def verify(self, authorization: str | None) -> None:
        """Return if the header ``Authorization`` holds a good token.

        Raises TokenMissingError, TokenExpiredError or TokenError (not a token of Google's that is valid now), or
        PushForbiddenError (one that was made for somebody else, or by somebody else).
        """
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise TokenMissingError("A push needs the token that Pub/Sub signs: Authorization: Bearer <token>.")
        self._check(await self._claims(token))

    async def settle(self) -> None:
        """Wait until no fetch of keys is under way."""
        await self._keys.settle()

    async def _claims(self, token: str) -> Mapping[str, Any]:
        """Return the claims of a token that Google has signed."""
        header = header_of(token)
        kid = header.get("kid")
        if header.get("alg") != ALGORITHM or not isinstance(kid, str):
            raise TokenError(f"The token must be signed with {ALGORITHM}, by a key that its kid names.")
        key = await self._keys.key(kid)
        return claims_of(token, key, ALGORITHM, required=("exp", "iat", "iss", "aud"))

    def _check(self, claims: Mapping[str, Any]) -> None:
        now = self._now()
        if claims["iss"] not in ISSUERS:
            raise TokenError("The token was not issued by Google.")
        if seconds(claims, "exp") + LEEWAY_S <= now:
            raise TokenExpiredError("The token has expired.")
        if max(seconds(claims, "iat"), seconds({"nbf": 0, **claims}, "nbf")) - LEEWAY_S > now:
            raise TokenError("The token is not valid yet.")
        if claims["aud"] != self._audience:
            raise PushForbiddenError("The token was made for another audience.")
        if claims.get("email_verified") is not True or claims.get("email") != self._service_account:
            raise PushForbiddenError("The token was not made by the service account of our subscription.")
