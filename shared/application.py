"""The Starlette application that every function is: its routes, and our errors for everything else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from shared import error_reports
from shared.problem import EXCEPTION_HANDLERS
from shared.request_limits import RequestLimits

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]
Settle = Callable[[], Awaitable[None]]


class _Application(Starlette):
    """Ends a request only when what it has set going has ended too.

    A server has sent the answer before; on Lambda it goes out with the end, and so all of it has bounds.
    """

    def __init__(self, settle: Sequence[Settle], **options: Any) -> None:
        super().__init__(**options)
        self._settle = settle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Around all middleware: a defect is logged by the outermost.
        try:
            await super().__call__(scope, receive, send)
        finally:
            for settle in self._settle:
                await settle()


def application(
    routes: Sequence[BaseRoute],
    *,
    middleware: Sequence[Middleware] = (),
    lifespan: Lifespan | None = None,
    settle: Sequence[Settle] = (),
) -> Starlette:
    """Build an application. Whatever it does not serve is answered as ``application/problem+json``.

    ``settle`` is awaited at the end of each request: Lambda freezes the process then, with all that still runs.
    """
    app = _Application(
        settle=[*settle, error_reports.settle],
        routes=routes,
        middleware=[*middleware, Middleware(RequestLimits)],
        lifespan=lifespan,
        exception_handlers=EXCEPTION_HANDLERS,
    )
    # The paths of the contract, and no redirects to them.
    app.router.redirect_slashes = False
    return app
