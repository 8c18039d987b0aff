"""Telling the application's answers from those of somebody before it: Lambda, CloudFront, a proxy."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import httpx

from infra.checks.finding import Finding

PROBLEM: Final = "application/problem+json"
_PERMISSION: Final = (
    "Lambda lets nobody in: the URL's AuthType must be NONE, and the function's resource policy must allow everybody "
    "lambda:InvokeFunctionUrl (FunctionUrlAuthType NONE) and lambda:InvokeFunction (InvokedViaFunctionUrl). A deploy "
    "makes both; does a policy of the organization forbid it?"
)
#: What these mean when it is not the application that answers.
_ADVICE: Final = {
    HTTPStatus.FORBIDDEN: _PERMISSION,
    HTTPStatus.NOT_FOUND: "nothing is deployed there: take the URL from the stack's outputs (tidemark env STAGE)",
    HTTPStatus.TOO_MANY_REQUESTS: (
        "Lambda has no place for one more: see the account's concurrency, and what is reserved for the function"
    ),
    HTTPStatus.BAD_GATEWAY: "the function fails: its log says why, most likely which setting is missing",
    HTTPStatus.SERVICE_UNAVAILABLE: "the function does not start, or in time: see its log",
    HTTPStatus.GATEWAY_TIMEOUT: "the function does not answer in time: see its log",
}
_LOGS: Final = "see its logs (of a local stack: in its data directory, under logs)"


def code_of(answer: httpx.Response) -> str | None:
    """Return the code of one of our own errors; None if it is not one."""
    if not answer.headers.get("content-type", "").startswith(PROBLEM):
        return None
    try:
        return str(answer.json()["code"])
    except (ValueError, LookupError, TypeError):
        return None


def unexpected(name: str, url: str, answer: httpx.Response) -> Finding:
    """Tell of an answer that should be another: ours, or that of somebody before us."""
    what = f"{name}: {url} answers {answer.status_code}: {' '.join(answer.text[:200].split())}"
    ours = code_of(answer) is not None or '"checks"' in answer.text
    return Finding("FAIL", what, _LOGS if ours else _ADVICE.get(HTTPStatus(answer.status_code), _LOGS))


def no_answer(name: str, url: str, error: Exception) -> Finding:
    """Tell that there was none."""
    return Finding("FAIL", f"{name}: {url} does not answer ({type(error).__name__})", "is it running?")
