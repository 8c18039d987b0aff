"""The webhook, replay and deliver functions from their artifacts, under Lambda's own runtime client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from infra.local.loopback import HOST
from shared.jwks import DEFAULT_FRESH_S
from shared.keys import Keys
from shared.settings import Function
from shared.tokens import mint
from tests.support import deployed
from tests.support.artifact import Artifacts
from tests.support.delaying_proxy import Delay, DelayingProxy
from tests.support.deliver_rig import delivery, record
from tests.support.gateway import NO_TLS, GatewayProcess, RedisServer
from tests.support.lambda_rig import LambdaRig
from tests.support.log_rig import Redis
from tests.support.moved_clock import MovedClock
from tests.support.queue_server import QueueServerProcess
from tests.support.queue_set import QueueSet
from tests.support.stack import KID, TOKEN_KEY
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEN_MINUTES_S = 600.0
#: An append and the rate limit one after the other take longer than the limit may, 0.25 s.
SLOW_S = 0.2


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig(
    tmp_path_factory: pytest.TempPathFactory,
    artifacts: Artifacts,
    gateway: GatewayProcess,
    queue_server: QueueServerProcess,
) -> AsyncIterator[LambdaRig]:
    """Give one stage; the webhook has an environment under its own name."""
    names = ("webhook", "replay", "deliver", "drill", "stream", "clocked", "slow", "stale", "faulty")
    queues = await asyncio.to_thread(QueueSet, queue_server)
    async with LambdaRig.running(tmp_path_factory.mktemp("lambda"), artifacts, gateway, queues, *names) as running:
        await running.start(Function.WEBHOOK)
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def link(gateway: GatewayProcess) -> AsyncIterator[DelayingProxy]:
    """Give a link to the gateway that can be cut, and counts its connections."""
    async with DelayingProxy.running() as proxy:
        proxy.target_port = gateway.port
        yield proxy


@pytest_asyncio.fixture(loop_scope="module")
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """Give the Redis behind the gateway."""
    connected = Redis(redis_server.url)
    yield connected
    await connected.close()


def through(link: DelayingProxy) -> dict[str, str]:
    return {"UPSTASH_REDIS_REST_URL": f"http://{HOST}:{link.port}"}


async def get(rig: LambdaRig, path: str, *, of: str, mailbox: str) -> httpx.Response:
    token = mint("ann", [f"gmail:{mailbox}"], kid=KID, key=TOKEN_KEY, ttl_s=600, now=time.time())
    async with httpx.AsyncClient(verify=NO_TLS, trust_env=False, timeout=20) as client:
        url = f"http://{HOST}:{rig.emulator.port(of)}{path}"
        return await client.get(url, headers={"authorization": f"Bearer {token}"})


async def test_a_push_is_published_and_a_replay_shows_it(rig: LambdaRig) -> None:
    """Each from its own artifact, and a third party's compiled modules with it."""
    await rig.start(Function.REPLAY)
    pushed = [await rig.push("ann@example.com") for _ in range(3)]
    answer = await get(
        rig, "/replay?topic=gmail:ann@example.com&after=earliest", of="replay", mailbox="ann@example.com"
    )
    assert answer.status_code == 200
    assert [event["position"] for event in answer.json()["events"]] == pushed
    refused = await get(
        rig, "/replay?topic=gmail:bob@example.com&after=earliest", of="replay", mailbox="ann@example.com"
    )
    assert (refused.status_code, refused.headers["content-type"]) == (403, "application/problem+json")


@pytest.mark.parametrize("function", [Function.WEBHOOK, Function.REPLAY, Function.DELIVER, Function.STREAM])
@pytest.mark.parametrize(
    "missing", [["UPSTASH_REDIS_REST_TOKEN"], ["UPSTASH_REDIS_REST_TOKEN", "UPSTASH_REDIS_REST_URL"]]
)
async def test_a_missing_setting_stops_the_function_at_start_with_one_line(
    rig: LambdaRig, function: Function, missing: Sequence[str]
) -> None:
    """It stands in the function's log stream, with every variable at fault; behind the adapter as well."""
    environment = await rig.begin(function, name="faulty", without=missing)
    assert await environment.ended() == 1
    assert not environment.api.started
    assert environment.api.init_errors == []
    lines = environment.log().splitlines()
    [line] = [line for line in lines if not line.startswith(" INFO app is not ready")]
    assert line.startswith("settings: ")
    assert {word for word in line.split() if word.startswith("UPSTASH_")} == set(missing)


async def test_a_warm_invocation_opens_no_connection_to_redis_and_one_after_ten_idle_minutes(
    rig: LambdaRig, link: DelayingProxy, tmp_path: Path
) -> None:
    """Redis has closed the old one meanwhile; the function notices before it uses it."""
    clock = MovedClock(tmp_path / "beside", deployed.handler(Function.WEBHOOK))
    await rig.start(
        Function.WEBHOOK,
        name="clocked",
        handler=clock.handler,
        beside=[clock.directory],
        settings=through(link),
    )
    for _ in range(3):
        await rig.push("idle@example.com", to="clocked")
    assert len(link.request_lines) == 1
    assert link.cut("/") == 1
    clock.move_to(TEN_MINUTES_S)
    for _ in range(3):
        await rig.push("idle@example.com", to="clocked")
    assert len(link.request_lines) == 2


async def test_when_an_invocation_has_answered_nothing_of_it_is_left_running(
    rig: LambdaRig, gateway: GatewayProcess
) -> None:
    """Redis is slower than the rate limit's patience: nothing waits for an answer once the push has one.

    Frozen between two invocations, as Lambda does, the process has nothing to take up when it goes on.
    """
    async with DelayingProxy.running(lambda _line: Delay(answer_s=SLOW_S)) as link:
        link.target_port = gateway.port
        environment = await rig.start(Function.WEBHOOK, name="slow", settings=through(link))
        for _ in range(3):
            await rig.push("slow@example.com", to="slow")
            environment.freeze()
            assert link.waiting == 0
            before = len(link.request_lines)
            await asyncio.sleep(2 * SLOW_S)
            environment.thaw()
            await asyncio.sleep(2 * SLOW_S)
            assert (link.waiting, len(link.request_lines)) == (0, before)
    assert [line for line in environment.log().splitlines() if '"level": "ERROR"' in line] == []


async def test_a_push_is_answered_when_what_it_has_begun_besides_is_done(rig: LambdaRig, tmp_path: Path) -> None:
    """Google's keys have gone stale: the push is verified with them, and its answer waits for the new ones."""
    clock = MovedClock(tmp_path / "beside", deployed.handler(Function.WEBHOOK))
    await rig.start(Function.WEBHOOK, name="stale", handler=clock.handler, beside=[clock.directory])
    await rig.push("stale@example.com", to="stale")
    clock.move_to(2 * DEFAULT_FRESH_S)
    before = rig.keys.requests
    rig.keys.open.clear()
    pushing = asyncio.ensure_future(rig.push("stale@example.com", to="stale"))
    await until(lambda: rig.keys.requests > before, "the keys are asked for")
    asyncio.get_running_loop().call_later(SLOW_S, rig.keys.open.set)
    await pushing
    assert rig.keys.open.is_set()
    assert rig.keys.requests == before + 1


async def test_deliver_reports_what_of_a_batch_has_failed_and_nothing_else(rig: LambdaRig, redis: Redis) -> None:
    """What cannot be read comes back, for the dead letters' queue is away; the others are in the log."""
    keys, queues = Keys(rig.stage), rig.queues
    away = {"TIDEMARK_DEAD_LETTER_URL": f"{queues.dead_letters}-away"}
    await rig.start(Function.DELIVER, settings=away)
    boxes = ("good@example.com", "fine@example.com")
    for number, mailbox in enumerate(boxes):
        await asyncio.to_thread(queues.put, delivery(number, f"gmail:{mailbox}"))
    poison = await asyncio.to_thread(queues.put, "{}")
    received: list[dict[str, Any]] = []
    while len(received) < 3:
        received += await asyncio.to_thread(queues.take, queues.delivery)
    name = queues.delivery.rpartition("/")[2]
    answer = await rig.emulator.invoke("deliver", {"Records": [record(message, name) for message in received]})
    assert answer == {"batchItemFailures": [{"itemIdentifier": poison}]}
    assert [await redis("XLEN", keys.log(f"gmail:{mailbox}")) for mailbox in boxes] == [1, 1]


async def test_a_drill_runs_and_says_what_it_found(rig: LambdaRig) -> None:
    """A short one, by the event's word: pushes and a stream of its own, and nothing is lost."""
    await rig.start(Function.DRILL)
    report = await rig.emulator.invoke("drill", {"seconds": 1, "per_s": 10})
    assert (report["published"], report["lost"], report["doubled"]) == (10, 0, 0)
