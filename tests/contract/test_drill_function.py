"""The drill function against a real Redis behind a gateway, with a real queue."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from unittest import mock

import pytest

from functions.drill.app import Deps, Drill
from shared.drill_report import DrillReport
from shared.errors import BadNumberError, LogUnavailableError
from shared.settings import Function, Settings
from shared.start import Basis
from tests.support.alarm_lines import rung
from tests.support.faulty_gateway import cheap_tls, plain_upstash
from tests.support.gateway import Gateway, GatewayThread, RedisServer
from tests.support.lambda_events import environment
from tests.support.log_rig import own_stage
from tests.support.queue_server import QueueServerProcess
from tests.support.sqs import Sqs

MakeDrill = Callable[[Gateway], Drill]
QUEUED_FOR_S = 2.0


@pytest.fixture
def make_drill(queue_server: QueueServerProcess, ours: Sqs) -> MakeDrill:
    """Give what builds a drill function on a gateway, with queues of its own that nobody empties."""

    def make(gateway: Gateway) -> Drill:
        settings = Settings.of(
            environment(
                gateway,
                own_stage(),
                TIDEMARK_RECONCILE_S="1",
                TIDEMARK_BREAKER_S="1",
                TIDEMARK_QUEUE_URL=ours.fifo().url,
                TIDEMARK_DEAD_LETTER_URL=ours.queue().url,
                **queue_server.environment,
            ),
            Function.DRILL,
        )
        with cheap_tls():
            return Drill(Deps.of(Basis.of(settings, upstash=plain_upstash(gateway.url, gateway.token))))

    return make


def run(drill: Drill, **event: object) -> DrillReport:
    with cheap_tls():
        return DrillReport(**drill(event, None))


def test_a_healthy_deployment_keeps_every_promise_while_its_feed_is_dropped(
    make_drill: MakeDrill, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """The report says what was forced and what was not, and is logged."""
    caplog.set_level(logging.INFO, logger="tidemark.drill")
    drill = make_drill(gateway)
    report = run(drill, seconds=2, per_s=40)
    drill.close()
    assert report.is_good
    assert (report.pushes, report.published, report.queued, report.refused) == (80, 80, 0, 0)
    assert (report.lost, report.doubled, report.missed, report.gaps_told) == (0, 0, 0, 0)
    assert report.reconnects == 1
    assert report.forced == ("live feed: each connection dropped once",)
    assert report.only_measured == ("failover of the database: it has no call for one",)
    [record] = [record for record in caplog.records if record.message == "drill"]
    assert (record.levelno, vars(record)["report"]) == (logging.INFO, report.as_json())
    assert rung(caplog.records) == set()


def test_an_outage_is_measured_and_what_never_arrives_is_reported_as_lost(
    make_drill: MakeDrill, own_redis: RedisServer, own_gateway: GatewayThread, caplog: pytest.LogCaptureFixture
) -> None:
    """Redis hangs for two seconds, and nobody delivers what is queued meanwhile."""
    drill = make_drill(own_gateway)
    freeze = threading.Timer(1.0, os.kill, (own_redis.pid, signal.SIGSTOP))
    thaw = threading.Timer(1.0 + QUEUED_FOR_S, os.kill, (own_redis.pid, signal.SIGCONT))
    with mock.patch("functions.drill.app.SETTLE_S", 2.0):
        freeze.start()
        thaw.start()
        try:
            report = run(drill, seconds=6, per_s=20)
        finally:
            os.kill(own_redis.pid, signal.SIGCONT)
    drill.close()
    assert report.queued > 0
    assert report.refused == report.doubled == 0
    assert report.published + report.queued == report.pushes == 120
    assert report.longest_silence_s >= QUEUED_FOR_S
    # A push that timed out may have been executed all the same: then it was queued, and is there.
    assert 0 < report.lost <= report.queued
    assert not report.is_good
    assert [record.levelno for record in caplog.records if record.message == "drill"] == [logging.ERROR]
    assert "PromiseBroken" in rung(caplog.records)


def test_a_drill_that_cannot_begin_fails_as_the_log_does(make_drill: MakeDrill) -> None:
    """No report is better than one of nothing."""

    class Nowhere:
        url, token = "http://127.0.0.1:9", "t"

    drill = make_drill(Nowhere())  # type: ignore[arg-type]
    with mock.patch("shared.hub.JOIN_TIMEOUT_S", 0.5), pytest.raises(LogUnavailableError):
        run(drill)
    drill.close()


@pytest.mark.parametrize(
    "event", [{"seconds": 0}, {"seconds": 601}, {"per_s": "5"}, {"per_s": 101}, {"seconds": True}]
)
def test_what_a_drill_is_told_has_bounds(make_drill: MakeDrill, gateway: Gateway, event: dict[str, object]) -> None:
    """It pushes into a deployment that is in use."""
    drill = make_drill(gateway)
    with pytest.raises(BadNumberError):
        run(drill, **event)
    drill.close()
