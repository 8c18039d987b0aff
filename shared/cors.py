"""CORS (Fetch standard): the application answers it, by an allowlist; the function URLs do not."""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from shared.errors import CorsRefusedError
from shared.problem import problem


class _Cors(CORSMiddleware):
    """Refuses a preflight as every other request is refused."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight request."""
        response = super().preflight_response(request_headers)
        if response.status_code == HTTPStatus.OK:
            return response
        refusal = problem(CorsRefusedError(f"{bytes(response.body).decode()}."))
        refusal.headers["Vary"] = "Origin"
        return refusal


def cors(origins: tuple[str, ...]) -> list[Middleware]:
    """Return the middleware for these origins; none are allowed unless they are listed."""
    return [
        Middleware(
            _Cors,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "Last-Event-ID"],
            expose_headers=["Retry-After", "RateLimit", "RateLimit-Policy"],
            max_age=600,
        )
    ]
