"""`tidemark doctor` on functions as Lambda runs them: from their artifacts, the stream behind the adapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from infra.checks import clients
from shared.settings import Function
from tests.support.artifact import Artifacts
from tests.support.command import Command, Ran
from tests.support.doctor import findings, one
from tests.support.gateway import GatewayProcess
from tests.support.lambda_rig import LambdaRig
from tests.support.queue_server import QueueServerProcess
from tests.support.queue_set import QueueSet

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGES = {"TIDEMARK_CORS_ORIGINS": "https://app.example.com"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig(
    tmp_path_factory: pytest.TempPathFactory,
    artifacts: Artifacts,
    gateway: GatewayProcess,
    queue_server: QueueServerProcess,
) -> AsyncIterator[LambdaRig]:
    """Give the three functions, and a stream function whose adapter was not told to stream."""
    names = ("webhook", "stream", "replay", "buffered")
    queues = await asyncio.to_thread(QueueSet, queue_server)
    async with LambdaRig.running(tmp_path_factory.mktemp("lambda"), artifacts, gateway, queues, *names) as running:
        held_back = {**PAGES, "AWS_LWA_INVOKE_MODE": "buffered"}
        # A stream that doctor has left holds its environment until its token expires: each test needs another.
        await asyncio.gather(
            running.start(Function.WEBHOOK),
            running.start(Function.REPLAY, settings=PAGES),
            running.start(Function.STREAM, settings=PAGES),
            running.start(Function.STREAM, name="buffered", settings=held_back),
        )
        yield running


def examined(rig: LambdaRig, capsys: pytest.CaptureFixture[str], stream: str) -> Ran:
    """Run doctor as `tidemark env` would have it run."""
    functions = {"WEBHOOK": "webhook", "STREAM": stream, "REPLAY": "replay"}
    urls = {f"TIDEMARK_{name}_URL": f"http://127.0.0.1:{rig.emulator.port(of)}" for name, of in functions.items()}
    return Command(capsys)("doctor", settings={**rig.settings, **PAGES, **urls})


async def test_it_is_found_well(rig: LambdaRig, capsys: pytest.CaptureFixture[str]) -> None:
    """Its stream says hello through the adapter, and stays open."""
    ran = await asyncio.to_thread(examined, rig, capsys, "stream")
    found = findings(ran)
    assert (ran.code, {level for level, _ in found.values()}) == (0, {"ok"})
    assert any(what.startswith("stream: hello after ") for what in found)


async def test_a_stream_that_the_adapter_holds_back_is_found_out(
    rig: LambdaRig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is healthy, and browsers would wait for its end."""
    monkeypatch.setattr(clients, "HELLO_S", 2.0)
    ran = await asyncio.to_thread(examined, rig, capsys, "buffered")
    level, what, fix = one(ran, "stream")
    assert (ran.code, level, what.endswith("sends nothing, and no hello within 2 s")) == (1, "FAIL", True)
    assert "AWS_LWA_INVOKE_MODE response_stream" in fix
