"""Errors on the wire: ``application/problem+json`` (RFC 9457) with a stable ``code``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ExceptionHandler

from shared.errors import TidemarkError

logger = logging.getLogger("tidemark.problem")

_CODES = {404: "not_found", 405: "method_not_allowed"}


def _problem(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(
        {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "code": code,
            "detail": detail,
        },
        status_code=status,
        media_type="application/problem+json",
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})},
    )


def problem(error: TidemarkError) -> JSONResponse:
    """Return the answer for an error of ours. What went wrong inside is logged, not told."""
    headers = error.headers()
    if error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return _problem(error.status, error.code, str(error), headers)
    # What the same request will meet again is a defect, for somebody to look at.
    level, defect = (logging.WARNING, None) if error.temporary else (logging.ERROR, error)
    logger.log(level, "request failed", extra={"code": error.code, "reason": str(error)}, exc_info=defect)
    return _problem(error.status, error.code, (type(error).__doc__ or "").splitlines()[0], headers)


def _from_ours(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TidemarkError)  # noqa: S101 - registered for this class only
    return problem(error)


def _from_starlette(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    code = _CODES.get(error.status_code, "bad_request")
    return _problem(error.status_code, code, error.detail, dict(error.headers or {}))


def _from_absent_client(_request: Request, _error: Exception) -> Response:
    # It left before its request was complete; nobody reads this.
    return Response(status_code=400)


def _from_defect(_request: Request, error: Exception) -> JSONResponse:
    logger.error("request met a defect", exc_info=error)
    return _problem(500, "internal", "Something is wrong on our side.")


EXCEPTION_HANDLERS: dict[int | type[Exception], ExceptionHandler] = {
    TidemarkError: _from_ours,
    HTTPException: _from_starlette,
    ClientDisconnect: _from_absent_client,
    Exception: _from_defect,
}
