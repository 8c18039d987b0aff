"""The description of the HTTP interface agrees with the code, and with the contract."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

import jsonschema_rs
import pytest
import schemathesis
from starlette.routing import Route

from functions.replay import app as replay
from functions.stream import app as stream
from functions.webhook import app as webhook
from infra.local.openapi import describe
from shared import errors
from shared.client_name import check_client
from shared.errors import TidemarkError
from shared.settings import Function
from shared.topic import check_topic
from tests.support.client_attacks import basis_of

ENVIRON = {
    "UPSTASH_REDIS_REST_URL": "http://127.0.0.1:1",
    "UPSTASH_REDIS_REST_TOKEN": "t",
    "TIDEMARK_TOKEN_KEYS": f"k:{'k' * 32}",
    "TIDEMARK_PUSH_AUTH": "off",
}
#: What is answered to what is no request for one of the endpoints: roots of others, preflights, cold starts.
NOT_DESCRIBED = {"bad_request", "unavailable", "cors_refused", "settings"}


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return describe()


def operations(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def routes() -> set[tuple[str, str]]:
    """Return the path and method of every route of the three functions."""
    apps = [
        webhook.build_app(webhook.Deps.of(basis_of(ENVIRON, Function.WEBHOOK))),
        stream.build_app(stream.Deps.of(basis_of(ENVIRON, Function.STREAM))),
        replay.build_app(replay.Deps.of(basis_of(ENVIRON, Function.REPLAY))),
    ]
    found = [cast("Route", route) for app in apps for route in app.routes]
    return {(route.path, method) for route in found for method in route.methods or () if method != "HEAD"}


async def test_every_route_is_described_and_no_other(described: dict[str, Any]) -> None:
    """By path and method."""
    assert {(path, method) for path, method, _ in operations(described)} == routes()


def test_it_is_a_valid_description(described: dict[str, Any]) -> None:
    """Of OpenAPI 3.1, as the tool reads it that tests against it."""
    schema = schemathesis.openapi.from_dict(described)
    schema.validate()
    assert len(list(schema.get_all_operations())) == 5


def test_every_error_stands_under_its_own_status(described: dict[str, Any]) -> None:
    """And each class that a request can meet is described somewhere."""
    found: dict[str, set[int]] = {}
    for _, _, operation in operations(described):
        for status, answer in operation["responses"].items():
            for problem in [answer["content"]["application/problem+json"]] if _is_problem(answer) else []:
                assert problem["schema"]["properties"]["status"] == {"const": int(status)}
                for code in problem["schema"]["properties"]["code"]["enum"]:
                    found.setdefault(code, set()).add(int(status))
    classes = {error.code: error.status for error in _classes(TidemarkError)}
    assert found == {code: {status} for code, status in classes.items() if code not in NOT_DESCRIBED}
    assert classes.keys() >= NOT_DESCRIBED


def _is_problem(answer: dict[str, Any]) -> bool:
    return "application/problem+json" in answer.get("content", {})


def _classes(root: type[TidemarkError]) -> Iterator[type[TidemarkError]]:
    yield root
    for error in root.__subclasses__():
        if error.__module__ == errors.__name__:
            yield from _classes(error)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("Topic", ["a", "gmail:a.b+c@d-e.f", "A" * 320], ["", "a b", "a*", "A" * 321, "a\n", "ä"]),
        ("Client", ["a", "tab-1_X", "a" * 64], ["", "a b", "a.b", "a" * 65, "tab\n"]),
        ("Position", ["0-0", "1795426696974-12"], ["", "1", "01-1", "1-1\n", "-1-0", "1" * 17 + "-0"]),
    ],
)
def test_what_it_says_of_names_is_what_the_code_takes(
    described: dict[str, Any], name: str, good: list[str], bad: list[str]
) -> None:
    """Both ways."""
    schema = jsonschema_rs.validator_for(described["components"]["schemas"][name])
    assert all(schema.is_valid(text) for text in good)
    # A pattern of JSON Schema cannot tell the end of a text from a line break before it.
    assert not any(schema.is_valid(text) for text in bad if not text.endswith("\n"))
    check = {"Topic": check_topic, "Client": check_client}.get(name)
    for text in bad if check else []:
        with pytest.raises(errors.RequestError):
            cast("Any", check)(text)


def test_what_the_contract_fixes_is_said(described: dict[str, Any]) -> None:
    """Numbers that clients hold on to."""
    topics, *_ = described["paths"]["/events"]["get"]["parameters"]
    assert topics["schema"]["maxItems"] == 50
    limit = described["paths"]["/replay"]["get"]["parameters"][-1]["schema"]
    assert (limit["minimum"], limit["maximum"], limit["default"]) == (1, 500, 100)
    assert re.search(r"\b262144 bytes", described["paths"]["/push"]["post"]["description"])
