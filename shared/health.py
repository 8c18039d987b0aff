"""``GET /healthz``: whether what a function depends on answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from shared.errors import TidemarkError


class Checked(Protocol):
    """Something that a function depends on."""

    async def check(self) -> None:
        """Raise a TidemarkError unless it answers."""


def _nothing() -> Mapping[str, Any]:
    return {}


def healthz(dependencies: Mapping[str, Checked], *, load: Callable[[], Mapping[str, Any]] = _nothing) -> Route:
    """Return the route: 200 when every dependency answers, 503 with the names of those that do not.

    What ``load`` says of this process is told as well. Anybody may ask: it must hold numbers only.
    """

    async def endpoint(_request: Request) -> JSONResponse:
        told = await asyncio.gather(*(_told(dependency) for dependency in dependencies.values()))
        checks = dict(zip(dependencies, told, strict=True))
        well = all(word == "ok" for word in told)
        return JSONResponse(
            {"status": "ok" if well else "unavailable", "checks": checks, **load()},
            status_code=200 if well else 503,
            headers={"Cache-Control": "no-store"},
        )

    return Route("/healthz", endpoint)


async def _told(dependency: Checked) -> str:
    try:
        await dependency.check()
    except TidemarkError as error:
        return error.code
    return "ok"
