"""CORS (Fetch standard): the application answers it, by an allowlist; the function URLs do not."""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware


def cors(origins: tuple[str, ...]) -> list[Middleware]:
    """Return the middleware for these origins; none are allowed unless they are listed."""
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "Last-Event-ID"],
            expose_headers=["Retry-After"],
            max_age=600,
        )
    ]
