"""Requests that schemathesis makes up from the description of the endpoints, good and bad ones, over real sockets.

Whatever comes, the answer is one that the description allows, in time, and never a 5xx.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, cast

import httpx
import pytest
import requests
import schemathesis
from hypothesis import assume, given
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.core.result import Err

from infra.local.openapi import describe
from infra.local.origin import build_origin
from infra.local.push_signer import AUDIENCE, SERVICE_ACCOUNT, PushSigner, new_key
from shared.settings import Function
from shared.tokens import mint
from tests.support.client_attacks import HttpServer, answer_of, basis_of, exchange, published, request_bytes
from tests.support.fuzzing import fuzz
from tests.support.gateway import GatewayProcess
from tests.support.lambda_events import KID, TOKEN_KEY, environment
from tests.support.log_rig import own_stage

# The server's thread uses `random`, and hypothesis takes that for a strategy that does.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

#: Of each endpoint, with good and with bad requests; with a token, and without one.
SHARES = {True: 250, False: 50}
MANY = str(10**8)


def _operations() -> Iterator[APIOperation[Any, Any, Any, Any]]:
    for found in schemathesis.openapi.from_dict(describe()).get_all_operations():
        assert not isinstance(found, Err)
        yield found.ok()


OPERATIONS = {f"{found.method.upper()} {found.path}": found for found in _operations()}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


class Target:
    """The local origin on a port, and tokens that it takes."""

    def __init__(self, port: int, signer: PushSigner) -> None:
        self.port = port
        self._signer = signer

    def authorization(self, operation: str) -> str:
        """Return a good header for an endpoint."""
        if operation == "POST /push":
            return self._signer.authorization()["Authorization"]
        return f"Bearer {mint('ann', ['*'], kid=KID, key=TOKEN_KEY, ttl_s=600, now=time.time())}"

    def send(self, case: Case[Any], authorization: str | None) -> httpx.Response:
        """Send a case; of a stream that does not end the first frame is its answer."""
        prepared = _prepared(case)
        headers: dict[str, str | bytes] = {
            name: value
            for name, value in prepared.headers.items()
            if name.lower() not in ("content-length", "authorization", "transfer-encoding", "connection", "host")
        }
        if authorization is not None:
            headers["authorization"] = authorization
        body = prepared.body.encode() if isinstance(prepared.body, str) else cast("bytes | None", prepared.body)
        sent = request_bytes(prepared.method or "GET", prepared.path_url, headers, body)
        began = time.perf_counter()
        answer = answer_of(exchange(self.port, sent))
        made = httpx.Response(
            answer.status,
            headers=answer.headers,
            content=answer.body,
            request=httpx.Request(prepared.method or "GET", prepared.url or ""),
        )
        made.elapsed = timedelta(seconds=time.perf_counter() - began)
        return made


def _prepared(case: Case[Any]) -> requests.PreparedRequest:
    """Write a case as a request, unless its header fields cannot be sent at all."""
    kwargs: dict[str, Any] = case.as_transport_kwargs(base_url="http://127.0.0.1")
    known = ("method", "url", "headers", "params", "data", "json", "cookies")
    try:
        prepared = requests.Request(**{name: kwargs[name] for name in known if name in kwargs}).prepare()
        for value in prepared.headers.values():
            str(value).encode("latin-1")
    except (requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL, UnicodeError):
        assume(condition=False)
    return prepared


@pytest.fixture(scope="module")
def target(gateway: GatewayProcess) -> Iterator[Target]:
    signer = PushSigner(new_key())
    with published(*signer.key_set()["keys"]) as key_set:
        environ = environment(
            gateway,
            own_stage(),
            TIDEMARK_PUSH_AUTH="on",
            TIDEMARK_PUSH_AUDIENCE=AUDIENCE,
            TIDEMARK_PUSH_SERVICE_ACCOUNT=SERVICE_ACCOUNT,
            TIDEMARK_PUSH_JWKS_URL=key_set,
            TIDEMARK_PUSH_LIMIT=MANY,
            TIDEMARK_VERIFIED_LIMIT=MANY,
            TIDEMARK_CLIENT_LIMIT=MANY,
            TIDEMARK_TOPIC_MAX_EVENTS="20",
        )
        basis = basis_of(environ, Function.LOCAL)
        with HttpServer.running(build_origin(basis, signer), basis) as port:
            yield Target(port, signer)


# `GET /healthz` takes nothing that could be bad.
@pytest.mark.parametrize(
    ("name", "mode"),
    [
        (name, mode)
        for name in OPERATIONS
        for mode in GenerationMode
        if name != "GET /healthz" or mode is GenerationMode.POSITIVE
    ],
    ids=lambda value: value if isinstance(value, str) else value.value,
)
@pytest.mark.parametrize("known", [True, False], ids=["with a token", "without one"])
def test_every_answer_is_a_described_one(target: Target, name: str, mode: GenerationMode, *, known: bool) -> None:
    """Status, media type, header fields and body; a 5xx never, and nothing hangs."""
    operation = OPERATIONS[name]
    statuses: set[int] = set()

    @fuzz(SHARES[known])
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Case[Any]) -> None:
        answer = target.send(case, target.authorization(name) if known else None)
        case.validate_response(answer, checks=CHECKS)
        statuses.add(answer.status_code)

    check()
    if not known and name != "GET /healthz":
        # Schemathesis may put a token of its own into the query: none is good.
        assert statuses <= {400, 401, 413, 414, 431}
    elif mode is GenerationMode.POSITIVE:
        assert statuses & {200, 204, 409}, statuses
