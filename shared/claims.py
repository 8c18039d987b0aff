"""Reading a JWT (RFC 7519): its header, its claims once the signature is good, and the moments in them.

Which key and which algorithm a token may have is its verifier's business, and so is what the claims must say.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import jwt
from jwt.types import Options

from shared.errors import TokenError

MAX_TOKEN_LENGTH = 8192
_LARGEST_S = 2**53
# The library looks at nothing but the signature: the rest is checked where the clock can be injected, and where
# each fault has a status of its own.
_SIGNATURE_ONLY: Options = {
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}


def header_of(token: str) -> Mapping[str, Any]:
    """Return what a token says of itself, which nobody has signed yet. Raises TokenError."""
    if len(token) > MAX_TOKEN_LENGTH:
        raise TokenError("The token is too long.")
    try:
        return jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise _unverifiable(error) from None


def claims_of(token: str, key: Any, algorithm: str, *, required: Collection[str]) -> Mapping[str, Any]:
    """Return the claims of a token that this key has signed by this algorithm. Raises TokenError."""
    try:
        claims: Mapping[str, Any] = jwt.decode(
            token, key, algorithms=[algorithm], options={**_SIGNATURE_ONLY, "require": list(required)}
        )
    except jwt.InvalidSignatureError:
        raise TokenError("The token was signed with another key than the one that its kid names.") from None
    except jwt.MissingRequiredClaimError as error:
        raise TokenError(f"The token has no {error.claim}.") from None
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise _unverifiable(error) from None
    return claims


def seconds(claims: Mapping[str, object], name: str) -> float:
    """Return a claim that is a moment, in Unix seconds. Raises TokenError."""
    value = claims[name]
    # Python's JSON also reads NaN, which is neither before nor after any moment, and integers beyond any float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST_S:
        raise TokenError(f"The token's {name} must be a number of seconds.")
    return float(value)


def _unverifiable(error: Exception) -> TokenError:
    # The library's text may quote the token's content; its class says enough.
    return TokenError(f"The token does not verify ({type(error).__name__}).")
