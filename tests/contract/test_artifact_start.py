"""What a function loads when it starts from its artifact, with nothing else on the machine to load from."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from infra.packaging import DEPLOYED, Target, build
from shared.settings import Function
from shared.tokens import mint
from tests.support.artifacts import Started, start
from tests.support.gateway import GatewayProcess
from tests.support.lambda_events import KID, TOKEN_KEY, environment, function_url_event
from tests.support.queue_server import QueueServerProcess

# What each loads of others, the standard library aside.
REDIS = {"httptools", "httpx", "idna", "upstash_redis"}
HTTP = {"_cffi_backend", "anyio", "cryptography", "jwt", "starlette", "upstash_ratelimit"}
LOADS = {
    Function.WEBHOOK: REDIS | HTTP | {"mangum"},
    Function.REPLAY: REDIS | HTTP | {"mangum"},
    Function.STREAM: REDIS | HTTP | {"click", "uvicorn", "uvloop"},
    Function.DELIVER: REDIS | {"aws_lambda_powertools", "jmespath"},
    Function.DRILL: REDIS,
}
#: Older Pythons need it for the same libraries.
OF_OLD = {"typing_extensions"}
# What others need by their own word, and do not load for us.
NEVER = {"anyio", "certifi", "cffi", "h11", "httpcore"} | OF_OLD
# What is loaded only now and then.
SPARE = ("sentry_sdk.integrations.dedupe", "sentry_sdk.integrations.logging", "aws_lambda_powertools")
SERVER = {Function.STREAM: ("functions.stream.server", "uvicorn", "uvloop")}
SLOW = ("httpcore", "importlib.resources", "email.mime", "unittest", "xml", "sqlite3")
AWS = {"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}


def push() -> dict[str, Any]:
    data = base64.b64encode(b'{"emailAddress":"a@b.c","historyId":7}').decode()
    body = {"message": {"data": data, "messageId": "1"}, "subscription": "projects/p/subscriptions/s"}
    return function_url_event("POST", "/push", body=json.dumps(body).encode())


def replay() -> dict[str, Any]:
    token = mint("ann", ["gmail:a@b.c"], kid=KID, key=TOKEN_KEY, ttl_s=3600, now=time.time())
    headers = {"authorization": f"Bearer {token}"}
    return function_url_event("GET", "/replay", query="after=earliest", headers=headers)


EVENTS = {Function.WEBHOOK: [push()], Function.REPLAY: [replay()]}


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[Function, Path]]:
    """Give every function's artifact for this machine."""
    folder = tmp_path_factory.mktemp("host")
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda function: build(function, folder / function.value, Target.HOST), DEPLOYED))
    yield {function: folder / function.value for function in DEPLOYED}
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def starts(
    trees: Mapping[Function, Path], gateway: GatewayProcess, queue_server: QueueServerProcess
) -> Mapping[Function, Started]:
    """Give what came of starting each of them, with a request for those that take them."""
    queues = {"TIDEMARK_QUEUE_URL": "q.fifo", "TIDEMARK_DEAD_LETTER_URL": "d"}
    settings = environment(gateway, f"packed{os.getpid()}", SENTRY_DSN="https://key@sentry.test/1")
    settings |= {name: queue_server.queue_url(queue) for name, queue in queues.items()} | AWS
    return {
        function: start(
            trees[function],
            f"functions.{function.value}.handler",
            *SERVER.get(function, ()),
            settings=settings,
            events=EVENTS.get(function),
            spare=SPARE,
        )
        for function in DEPLOYED
    }


@pytest.mark.parametrize("function", DEPLOYED, ids=lambda function: function.value)
def test_a_function_starts_from_its_artifact_alone(
    trees: Mapping[Function, Path], starts: Mapping[Function, Started], function: Function
) -> None:
    """It serves, and what it loads only when that is needed is there as well."""
    started = starts[function]
    assert started.from_elsewhere(trees[function]) == {}
    assert [answer["statusCode"] for answer in started.answers] == [200 for _ in EVENTS.get(function, [])]
    held = {path.name.partition(".")[0] for path in trees[function].iterdir() if path.suffix != ".dist-info"}
    assert held - {name.partition(".")[0] for name in started.files} <= NEVER


@pytest.mark.parametrize("function", DEPLOYED, ids=lambda function: function.value)
def test_a_cold_start_loads_what_every_request_needs_and_nothing_more(
    starts: Mapping[Function, Started], function: Function
) -> None:
    """Not Sentry, not the AWS client, not Powertools for a line that says nothing special, not httpx's transport.

    And what a first request needs is there: it loads nothing of any library.
    """
    started = starts[function]
    assert started.others - OF_OLD == LOADS[function]
    assert not [name for name in started.modules if name.startswith(SLOW)]
    of_events = {name.partition(".")[0] for name in started.modules_of_events if started.files.get(name)}
    assert of_events <= sys.stdlib_module_names
