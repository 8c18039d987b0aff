"""The Starlette application that every function is: its routes, and our errors for everything else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from shared.problem import EXCEPTION_HANDLERS

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


def application(
    routes: Sequence[BaseRoute], *, middleware: Sequence[Middleware] = (), lifespan: Lifespan | None = None
) -> Starlette:
    """Build an application. Whatever it does not serve is answered as ``application/problem+json``."""
    app = Starlette(routes=routes, middleware=middleware, lifespan=lifespan, exception_handlers=EXCEPTION_HANDLERS)
    # The paths of the contract, and no redirects to them.
    app.router.redirect_slashes = False
    return app
