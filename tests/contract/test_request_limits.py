"""How large the head of a request may be, and its body, as the functions behind Lambda's events answer it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from shared.request_limits import MAX_HEADER_BYTES, MAX_TARGET_BYTES
from shared.tokens import mint
from tests.support.gateway import Gateway
from tests.support.lambda_events import (
    KID,
    TOKEN_KEY,
    LambdaFunction,
    check_problem,
    deployed,
    environment,
    function_url_event,
    redis_command,
)
from tests.support.log_rig import own_stage

ENDPOINTS = [("POST", "/push"), ("GET", "/replay"), ("POST", "/ack"), ("GET", "/healthz"), ("GET", "/nowhere")]
ORIGIN = "https://app.example"


@pytest.fixture
def stage() -> str:
    return own_stage()


@pytest.fixture
def functions(gateway: Gateway, stage: str) -> Iterator[dict[str, LambdaFunction]]:
    settings = environment(gateway, stage, TIDEMARK_CORS_ORIGINS=ORIGIN)
    with (
        deployed("functions.webhook.handler", settings) as webhook,
        deployed("functions.replay.handler", settings) as replay,
    ):
        yield {"/push": webhook, "/replay": replay, "/ack": replay, "/healthz": replay, "/nowhere": replay}


def header_bytes(event_headers: dict[str, str]) -> int:
    return sum(len(name) + len(value) for name, value in event_headers.items())


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_a_head_that_is_too_large_is_refused_before_anything_else(
    functions: dict[str, LambdaFunction], gateway: Gateway, stage: str, method: str, path: str
) -> None:
    """Exactly at the bound something else is answered, one byte beyond it 431, and 414 for path and query."""
    body = b"{}" if method == "POST" else None
    given = function_url_event(method, path, body=body)["headers"]
    room = MAX_HEADER_BYTES - header_bytes(given) - len("cookie")
    for much, code in ((room, None), (room + 1, "headers_too_large"), (40 * room, "headers_too_large")):
        answer = functions[path].invoke(method, path, headers={"cookie": "c" * much}, body=body)
        if code is None:
            assert answer.status not in (431, 500)
        else:
            check_problem(answer, 431, code)
    room = MAX_TARGET_BYTES - len(path) - len("x=")
    for much, code in ((room, None), (room + 1, "query_too_long"), (40 * room, "query_too_long")):
        answer = functions[path].invoke(method, path, query="x=" + "q" * much, body=body)
        if code is None:
            assert answer.status not in (414, 500)
        else:
            check_problem(answer, 414, code)
    held = redis_command(gateway, "KEYS", f"tidemark:{stage}:log:*")
    assert held == []


def test_fifty_topics_of_full_length_fit_beside_a_token(functions: dict[str, LambdaFunction]) -> None:
    """The largest request that the contract allows, as a native EventSource would send it."""
    topics = [f"gmail:{number:02}" + "a" * 312 for number in range(50)]
    assert {len(topic) for topic in topics} == {320}
    token = mint("ann", ["gmail:*"], kid=KID, key=TOKEN_KEY, ttl_s=600, now=time.time())
    query = "&".join(["after=earliest", f"token={token}", *(f"topic={topic}" for topic in topics)])
    answer = functions["/replay"].invoke("GET", "/replay", query=query)
    assert answer.status == 200, answer.body
    assert answer.json()["events"] == []


def test_a_page_of_an_allowed_origin_can_read_the_refusal(functions: dict[str, LambdaFunction]) -> None:
    """The refusal is the application's, and carries what a browser asks for."""
    answer = functions["/replay"].invoke(
        "GET", "/replay", headers={"origin": ORIGIN, "cookie": "c" * MAX_HEADER_BYTES}
    )
    check_problem(answer, 431, "headers_too_large")
    assert answer.headers["access-control-allow-origin"] == ORIGIN


@pytest.mark.parametrize("stated", ["9" * 18, "9" * 5000, "-1", "1e9", "٣", ""])
def test_what_is_said_of_a_bodys_size_is_not_believed(functions: dict[str, LambdaFunction], stated: str) -> None:
    """A large number is refused without reading; what is no number does not matter, the body is counted."""
    token = mint("ann", ["gmail:*"], kid=KID, key=TOKEN_KEY, ttl_s=600, now=time.time())
    headers = {"authorization": f"Bearer {token}", "content-length": stated}
    answer = functions["/ack"].invoke("POST", "/ack", headers=headers, body=None)
    if stated == "9" * 18:
        check_problem(answer, 413, "body_too_large")
    else:
        check_problem(answer, 400, "bad_body")
