"""What the client-facing functions read from a request in the same way."""

from __future__ import annotations

import re

from starlette.requests import Request

from shared.bypass import HEADER as BYPASS_HEADER
from shared.bypass import Bypass
from shared.errors import BadNumberError
from shared.limiter import Limiter
from shared.tokens import Grant, TokenVerifier


async def authenticate(request: Request, verifier: TokenVerifier) -> Grant:
    """Return what the request's token allows: from the Authorization header, else from ``token=``.

    Raises TokenMissingError, TokenExpiredError or TokenError.
    """
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return await verifier.verify(credentials.strip())
    return await verifier.verify(request.query_params.get("token"))


async def admit(request: Request, grant: Grant, limiter: Limiter, bypass: Bypass) -> None:
    """Count a request of a user. Raises RateLimitedError if there were too many."""
    if not bypass.allows(request.headers.get(BYPASS_HEADER)):
        await limiter.admit(grant.user)


def whole_number(request: Request, name: str, *, default: int, least: int, most: int) -> int:
    """Return a number of the query. Raises BadNumberError if it is not a whole number from least to most."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) is None or not least <= int(text) <= most:
        raise BadNumberError(f"{name} must be a whole number from {least} to {most}.")
    return int(text)


def number(request: Request, name: str, *, least: float, most: float) -> float | None:
    """Return a number of the query, None without it. Raises BadNumberError if it is no decimal from least to most."""
    text = request.query_params.get(name)
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text, re.ASCII) is None or not least <= float(text) <= most:
        raise BadNumberError(f"{name} must be a number from {least:g} to {most:g}.")
    return float(text)
