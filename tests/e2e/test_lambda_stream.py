"""The stream function from its artifact, behind the real Lambda Web Adapter, through a streaming function URL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio

from functions.stream.invocation import BEFORE_DEADLINE_S
from infra.chaos.stream_client import End
from infra.local.loopback import HOST, steady_port
from shared.settings import Function
from tests.support.artifact import Artifacts
from tests.support.gateway import GatewayProcess
from tests.support.lambda_environment import Environment
from tests.support.lambda_rig import LambdaRig, has, positions
from tests.support.queue_server import QueueServerProcess
from tests.support.queue_set import QueueSet
from tests.support.recorder import following
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

TIMEOUT_S = 14.0
LATENCY_S = 2.0
#: The adapter lets requests in after so long, whether the function listens or not.
ASYNC_INIT_S = 9.0


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig(
    tmp_path_factory: pytest.TempPathFactory,
    artifacts: Artifacts,
    gateway: GatewayProcess,
    queue_server: QueueServerProcess,
) -> AsyncIterator[LambdaRig]:
    """Give the webhook, with one environment, and names for the stream function, with none."""
    names = ("webhook", "stream", "rotating", "resumed", "left", "bounded", "away")
    queues = await asyncio.to_thread(QueueSet, queue_server)
    async with LambdaRig.running(tmp_path_factory.mktemp("lambda"), artifacts, gateway, queues, *names) as running:
        await running.start(Function.WEBHOOK)
        yield running


def still_runs(environment: Environment) -> bool:
    return environment.api.invocations[0].ended_at is None


async def test_the_first_byte_comes_before_the_second_event_is_published(rig: LambdaRig) -> None:
    """Nothing on the way waits for the end of the answer: each event comes while the stream is open."""
    await rig.start(Function.STREAM)
    client = rig.client("first@example.com")
    async with following(client):
        seen: list[float] = []
        pushed: list[str] = []
        for number in range(1, 4):
            pushed.append(await rig.push("first@example.com"))
            pushed_at = time.time()
            await until(partial(has, client, pushed), f"event {number} comes")
            seen.append(time.time() - pushed_at)
        assert client.live
        assert len(client.connections) == 1
    assert positions(client) == pushed
    assert max(seen) < LATENCY_S


async def test_a_stream_rotates_before_the_deadline_of_its_invocation(rig: LambdaRig) -> None:
    """`bye` `rotate` and the proper end, some ten seconds before Lambda would cut it; the client comes back at once.

    What is pushed meanwhile is missed by nobody.
    """
    environment = await rig.start(Function.STREAM, name="rotating", timeout_s=TIMEOUT_S)
    client = rig.client("rotating@example.com", of="rotating")
    pushed = []
    async with following(client):
        while len(client.connections) < 3 or not client.live:
            pushed.append(await rig.push("rotating@example.com"))
            await asyncio.sleep(0.1)
        await until(lambda: len(client.events) == len(pushed), "every event has come")
    assert positions(client) == pushed
    assert client.gaps == []
    for invocation, connection in zip(environment.api.invocations[:2], client.connections[:2], strict=True):
        assert connection.byes == [{"reason": "rotate", "reconnect": True}]
        assert connection.end is End.BODY
        assert invocation.ended_at is not None
        assert BEFORE_DEADLINE_S - 1 < invocation.deadline_at - invocation.ended_at < TIMEOUT_S


async def test_a_client_resumes_in_another_environment_with_what_it_missed(rig: LambdaRig) -> None:
    """`Last-Event-ID` is all that goes from one to the other: the first environment has gone with its memory."""
    first = await rig.start(Function.STREAM, name="resumed")
    client = rig.client("resumed@example.com", of="resumed")
    async with following(client):
        pushed = [await rig.push("resumed@example.com") for _ in range(3)]
        await until(lambda: len(client.events) == 3, "three events come")
        first.kill()
        pushed += [await rig.push("resumed@example.com") for _ in range(3)]
        second = await rig.start(Function.STREAM, name="resumed")
        await until(lambda: len(client.events) == 6, "those pushed in between come")
        pushed.append(await rig.push("resumed@example.com"))
        await until(lambda: len(client.events) == 7, "one more comes live")
    assert positions(client) == pushed
    assert sum(len(connection.arrivals) for connection in client.connections) == 7
    assert client.gaps == []
    assert (len(first.api.invocations), len(second.api.invocations)) == (1, 1)


async def test_a_client_that_leaves_unseen_is_superseded_at_once_by_its_next_stream(rig: LambdaRig) -> None:
    """Its first invocation is told nothing and goes on; the second one ends it, from another environment."""
    environments = [await rig.start(Function.STREAM, name="left") for _ in range(2)]
    client = rig.client("left@example.com", of="left")
    async with following(client):
        pass
    [left] = [environment for environment in environments if environment.api.invocations]
    [other] = [environment for environment in environments if environment is not left]
    await rig.push("left@example.com")
    assert still_runs(left)
    async with following(client):
        await until(lambda: not still_runs(left), "the first one has ended")
        await rig.push("left@example.com")
        await until(lambda: len(client.events) == 2, "the second one goes on, with what the first one sent to nobody")
    assert len(other.api.invocations) == 1
    assert rig.emulator.url("left").left == 1


async def test_a_client_that_leaves_unseen_and_stays_away_costs_its_time_and_no_more(rig: LambdaRig) -> None:
    """Rotation ends what nobody reads; the environment serves the next one, and the slot is free."""
    settings = {"TIDEMARK_MAX_STREAMS_PER_USER": "1", "TIDEMARK_STREAM_POLICY": "reject"}
    environment = await rig.start(Function.STREAM, name="bounded", timeout_s=12.0, settings=settings)
    async with following(rig.client("bounded@example.com", name="gone", of="bounded", user="ann")):
        pass
    assert still_runs(environment)
    next_one = rig.client("bounded@example.com", name="next", of="bounded", user="ann")
    async with following(next_one):
        assert next_one.live
    invocation = environment.api.invocations[0]
    assert invocation.ended_at is not None
    assert invocation.deadline_at - invocation.ended_at > BEFORE_DEADLINE_S - 1


async def test_while_redis_is_away_an_environment_starts_and_says_so(rig: LambdaRig) -> None:
    """Else a native EventSource would end for good, and the adapter would wait for a `/healthz` that is 503."""
    nobody = {"UPSTASH_REDIS_REST_URL": f"http://{HOST}:{steady_port()}"}
    began = time.monotonic()
    await rig.start(Function.STREAM, name="away", settings=nobody)
    assert time.monotonic() - began < ASYNC_INIT_S
    connection = await rig.client("away@example.com", of="away").connect_once()
    assert connection.status == 200
    assert connection.byes == [{"reason": "unavailable", "reconnect": True}]
    assert connection.end is End.BODY
    assert len(connection.retries) == 1
