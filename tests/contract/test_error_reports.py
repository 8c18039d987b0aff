"""Defects reported to Sentry: from real processes, to a server that takes envelopes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from infra.local.mail import push_body
from shared.error_reports import SEND_S
from shared.keys import Keys
from shared.tokens import mint
from tests.support.gateway import Gateway
from tests.support.lambda_events import KID, TOKEN_KEY, Answer, check_problem, environment, redis_command
from tests.support.lambda_process import LambdaProcess
from tests.support.log_rig import own_stage
from tests.support.sentry_server import SentryServer

BOX = "ann@example.com"
WEBHOOK = "functions.webhook.handler"


@pytest.fixture
def stage() -> str:
    return own_stage()


@pytest.fixture
def sentry() -> Iterator[SentryServer]:
    with SentryServer.running() as server:
        yield server


def spoil(gateway: Gateway, stage: str) -> None:
    """Put something into the log that no code of ours can have put there."""
    redis_command(gateway, "SET", Keys(stage).log(f"gmail:{BOX}"), "no stream")


def push(process: LambdaProcess, number: int = 1) -> Answer:
    return process.invoke("POST", "/push", body=json.dumps(push_body(BOX, 4711, f"m-{number}")).encode())


def errors(process: LambdaProcess) -> list[str]:
    """Give the code of each error that was logged."""
    return [line["code"] for line in process.logged() if line["level"] == "ERROR"]


def test_a_defect_is_reported_before_its_answer_is_given(gateway: Gateway, stage: str, sentry: SentryServer) -> None:
    """Lambda freezes the process with the answer. The report says what and where, and not whose."""
    spoil(gateway, stage)
    with LambdaProcess.running(WEBHOOK, environment(gateway, stage, SENTRY_DSN=sentry.dsn)) as process:
        check_problem(push(process), 500, "log_defect")
        [event] = sentry.events
        assert errors(process) == ["log_defect"]
    assert event["exception"]["values"][-1]["type"] == "LogDefectError"
    assert event["exception"]["values"][-1]["stacktrace"]["frames"][-1]["filename"].startswith("shared/")
    assert (event["environment"], event["tags"]) == (stage, {"function": "webhook"})
    assert event.keys().isdisjoint({"request", "server_name", "user", "breadcrumbs", "modules"})
    assert b'"vars"' not in sentry.raw
    for secret in (BOX, "ann@", gateway.token):
        assert secret.encode() not in sentry.raw


def test_a_defect_of_a_client_function_tells_nothing_of_the_token(
    gateway: Gateway, stage: str, sentry: SentryServer
) -> None:
    """The token stands in the query, as an EventSource sends it."""
    spoil(gateway, stage)
    token = mint("ann", [f"gmail:{BOX}"], kid=KID, key=TOKEN_KEY, ttl_s=600, now=time.time())
    settings = environment(gateway, stage, SENTRY_DSN=sentry.dsn)
    with LambdaProcess.running("functions.replay.handler", settings) as process:
        answer = process.invoke("GET", "/replay", query=f"after=earliest&token={token}&topic=gmail:{BOX}")
        check_problem(answer, 500, "log_defect")
    assert len(sentry.events) == 1
    for secret in (BOX, token, token.rpartition(".")[2], TOKEN_KEY):
        assert secret.encode() not in sentry.raw


def test_nothing_of_sentry_is_imported_before_the_first_error(
    gateway: Gateway, stage: str, sentry: SentryServer
) -> None:
    """Its import would cost every cold start a tenth of a second. What the log can do again later is no defect."""
    with LambdaProcess.running(WEBHOOK, environment(gateway, stage, SENTRY_DSN=sentry.dsn)) as process:
        assert push(process).status == 200
        assert process.invoke("POST", "/push", body=b"broken").json()["status"] == "rejected"
        assert "sentry_sdk" not in process.modules
        spoil(gateway, stage)
        check_problem(push(process, 2), 500, "log_defect")
        assert "sentry_sdk" in process.modules
    assert len(sentry.events) == 1


def test_without_a_dsn_nothing_is_sent(gateway: Gateway, stage: str, sentry: SentryServer) -> None:
    """Nor imported, whatever happens."""
    spoil(gateway, stage)
    with LambdaProcess.running(WEBHOOK, environment(gateway, stage)) as process:
        check_problem(push(process), 500, "log_defect")
        assert "sentry_sdk" not in process.modules
    assert sentry.raw == b""


def test_a_defect_that_every_request_meets_is_reported_twenty_times_a_minute(
    gateway: Gateway, stage: str, sentry: SentryServer
) -> None:
    """More would tell nothing new, and each costs its request some time."""
    spoil(gateway, stage)
    with LambdaProcess.running(WEBHOOK, environment(gateway, stage, SENTRY_DSN=sentry.dsn)) as process:
        for number in range(30):
            check_problem(push(process, number), 500, "log_defect")
        assert len(errors(process)) == 30
    assert len(sentry.events) == 20


def test_a_sentry_that_does_not_answer_holds_nobody_up_for_long(
    gateway: Gateway, stage: str, sentry: SentryServer
) -> None:
    """The answer is the same; what was to be reported is in the log all the same."""
    spoil(gateway, stage)
    sentry.open.clear()
    with LambdaProcess.running(WEBHOOK, environment(gateway, stage, SENTRY_DSN=sentry.dsn)) as process:
        for number in range(2):
            began = time.monotonic()
            check_problem(push(process, number), 500, "log_defect")
            assert time.monotonic() - began < SEND_S + 5
        assert errors(process) == ["log_defect"] * 2
        sentry.open.set()


def test_a_sentry_that_is_not_there_is_not_heard_of(gateway: Gateway, stage: str) -> None:
    """Nothing listens at its address."""
    spoil(gateway, stage)
    settings = environment(gateway, stage, SENTRY_DSN="http://public@127.0.0.1:9/1")
    with LambdaProcess.running(WEBHOOK, settings) as process:
        check_problem(push(process), 500, "log_defect")
        assert errors(process) == ["log_defect"]
