"""Errors on the wire: problem+json (RFC 9457), and nothing of the inside in it."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from shared.errors import (
    BadCursorError,
    BodyTooLargeError,
    CursorAheadError,
    LogDefectError,
    LogUnavailableError,
    ProcessFullError,
    TokenError,
    TokenExpiredError,
    TokenMissingError,
    TopicForbiddenError,
)
from shared.problem import EXCEPTION_HANDLERS, problem
from tests.support.alarm_lines import rung


async def answer(error: Exception | None = None, *, method: str = "GET", path: str = "/") -> httpx.Response:
    """Ask an application whose only endpoint raises."""

    async def endpoint(_request: Request) -> PlainTextResponse:
        if error is not None:
            raise error
        return PlainTextResponse("fine")

    app = Starlette(routes=[Route("/", endpoint, methods=["GET"])], exception_handlers=EXCEPTION_HANDLERS)
    # A defect is raised again after its answer was sent, for the server to log.
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, path)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BadCursorError("why"), 400, "bad_cursor"),
        (TokenError("why"), 401, "token_invalid"),
        (TopicForbiddenError("why"), 403, "topic_forbidden"),
        (CursorAheadError("why"), 409, "cursor_ahead"),
        (BodyTooLargeError("why"), 413, "body_too_large"),
    ],
)
async def test_an_error_of_the_caller_is_told_with_its_reason(error: Exception, status: int, code: str) -> None:
    """The members of RFC 9457 and a stable `code`; never cached, never sniffed."""
    found = await answer(error)
    assert found.status_code == status
    assert found.headers["content-type"] == "application/problem+json"
    assert found.headers["cache-control"] == "no-store"
    assert found.headers["x-content-type-options"] == "nosniff"
    assert found.json() == {
        "type": "about:blank",
        "title": httpx.codes.get_reason_phrase(status),
        "status": status,
        "code": code,
        "detail": "why",
    }


@pytest.mark.parametrize("error", [TokenError("x"), TokenMissingError("x"), TokenExpiredError("x")])
async def test_every_401_says_how_to_authenticate(error: Exception) -> None:
    """RFC 9110, section 15.5.2: it must."""
    assert (await answer(error)).headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("error", "code", "detail"),
    [
        (LogUnavailableError("ConnectError: 10.0.0.1 secret"), "log_unavailable", "The log cannot be reached now."),
        (
            ProcessFullError("9 streams secret"),
            "process_full",
            "The process already serves as many streams as it may.",
        ),
    ],
)
async def test_what_is_unavailable_says_when_to_come_back_and_not_why(
    error: Exception, code: str, detail: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The reason is for the log: it may name hosts or quote an upstream."""
    with caplog.at_level(logging.WARNING, "tidemark.problem"):
        found = await answer(error)
    assert (found.status_code, found.headers["retry-after"]) == (503, "2")
    assert (found.json()["code"], found.json()["detail"]) == (code, detail)
    assert [getattr(record, "reason", "") for record in caplog.records] == [str(error)]


async def test_a_refusal_by_redis_that_is_our_defect_is_500_and_tells_nothing() -> None:
    """Its text may hold keys."""
    found = await answer(LogDefectError("WRONGTYPE tidemark:dev:log:gmail:ann@example.com"))
    assert (found.status_code, found.json()["code"]) == (500, "log_defect")
    assert "ann" not in found.text
    assert "retry-after" not in found.headers


async def test_any_other_exception_is_500_and_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged whole."""
    found = await answer(RuntimeError("secret"))
    assert (found.status_code, found.json()["code"]) == (500, "internal")
    assert found.headers["content-type"] == "application/problem+json"
    assert "secret" not in found.text
    assert [record for record in caplog.records if record.exc_info and "secret" in str(record.exc_info[1])]
    assert rung(caplog.records) == {"Defects"}


async def test_an_unknown_path_is_404_in_the_same_form() -> None:
    """Whatever the framework raises is told as ours is."""
    found = await answer(path="/nothing")
    assert (found.status_code, found.json()["code"]) == (404, "not_found")
    assert found.headers["content-type"] == "application/problem+json"
    assert found.headers["cache-control"] == "no-store"


async def test_a_wrong_method_is_405_with_the_ones_that_are_allowed() -> None:
    """RFC 9110, section 15.5.6: Allow must be sent."""
    found = await answer(method="DELETE")
    assert (found.status_code, found.json()["code"]) == (405, "method_not_allowed")
    assert set(found.headers["allow"].split(", ")) == {"GET", "HEAD"}


async def test_headers_of_the_frameworks_errors_are_kept() -> None:
    """Other statuses of the framework are the caller's fault too, and have one code."""
    found = await answer(HTTPException(418, "short", headers={"X-Reason": "pot"}))
    assert (found.status_code, found.json()["code"], found.json()["detail"]) == (418, "bad_request", "short")
    assert found.headers["x-reason"] == "pot"


async def test_what_succeeds_is_left_alone() -> None:
    """No error, no problem."""
    assert (await answer()).text == "fine"


def test_a_problem_can_be_made_outside_of_an_application() -> None:
    """The stream refuses before Starlette sees an error."""
    made: Any = problem(ProcessFullError("3 streams are open."))
    assert (made.status_code, made.headers["retry-after"]) == (503, "2")
