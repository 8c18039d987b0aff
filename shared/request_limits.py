"""How large the head of a request may be: what is larger is refused before anything looks at it."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from shared.errors import HeadersTooLargeError, QueryTooLongError, RequestError
from shared.problem import problem

#: Names and values of all fields together. A token has 8 KiB at most; the rest is a browser's own.
MAX_HEADER_BYTES = 32 * 1024
#: Path and query together. Fifty topics of full length and a token have 25 KiB.
MAX_TARGET_BYTES = 32 * 1024


class RequestLimits:
    """Refuses requests with too large a head (RFC 6585, section 5; RFC 9110, section 15.5.15)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        refusal = _refusal(scope) if scope["type"] == "http" else None
        await (self._app if refusal is None else problem(refusal))(scope, receive, send)


def _refusal(scope: Scope) -> RequestError | None:
    if len(scope["path"]) + len(scope["query_string"]) > MAX_TARGET_BYTES:
        return QueryTooLongError(f"Path and query must be at most {MAX_TARGET_BYTES} bytes.")
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
        return HeadersTooLargeError(f"The header fields must be at most {MAX_HEADER_BYTES} bytes.")
    return None
