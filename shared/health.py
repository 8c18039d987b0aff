"""``GET /healthz``: whether what a function depends on answers."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from shared.errors import TidemarkError
from shared.log import Log


def healthz(log: Log) -> Route:
    """Return the route: 200 when the log answers, 503 with its name when it does not."""

    async def endpoint(_request: Request) -> JSONResponse:
        headers = {"Cache-Control": "no-store"}
        try:
            await log.check()
        except TidemarkError as error:
            body = {"status": "unavailable", "checks": {"log": error.code}}
            return JSONResponse(body, status_code=503, headers=headers)
        return JSONResponse({"status": "ok", "checks": {"log": "ok"}}, headers=headers)

    return Route("/healthz", endpoint)
