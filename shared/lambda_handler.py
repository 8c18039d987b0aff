"""A function on Lambda: function-URL events in, one buffered answer out."""

from __future__ import annotations

from mangum import Mangum
from mangum.adapter import DEFAULT_TEXT_MIME_TYPES
from starlette.applications import Starlette


def lambda_handler(app: Starlette) -> Mangum:
    """Return the handler of an application; it keeps one event loop, and so its warm clients, over invocations."""
    # Mangum runs the lifespan on every invocation: clients are built at cold start instead, once.
    return Mangum(app, lifespan="off", text_mime_types=[*DEFAULT_TEXT_MIME_TYPES, "application/problem+json"])
