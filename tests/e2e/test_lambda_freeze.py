"""Environments that Lambda freezes for a minute and thaws: one such minute for all of these tests.

While they stand still their connections to Redis are closed, or fall silent without a word. Beside them a stream
that nothing happens in has the same minute for its heartbeats.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial

import pytest
import pytest_asyncio

from infra.chaos.poster import Reply
from infra.chaos.stream_client import End
from infra.local.loopback import HOST
from shared.settings import Function
from tests.support.artifact import Artifacts
from tests.support.delaying_proxy import DelayingProxy
from tests.support.gateway import GatewayProcess
from tests.support.lambda_environment import Environment
from tests.support.lambda_rig import LambdaRig, has, positions
from tests.support.queue_server import QueueServerProcess
from tests.support.queue_set import QueueSet
from tests.support.recorder import Recorder, following
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

FROZEN_S = 60.0
RECONCILE_S = 2
#: By the contract, for a push.
ANSWER_S = 3.0
#: A client that hears nothing for so long looks elsewhere.
SILENT_S = 45.0
NAMES = ("webhook", "closed", "silent", "open", "idle", "moved", "quiet")


@dataclass
class Minute:
    """What came of it. Clients and environments go by the name of the function that they belong to."""

    environments: dict[str, Environment] = field(default_factory=dict)
    links: dict[str, DelayingProxy] = field(default_factory=dict)
    clients: dict[str, Recorder] = field(default_factory=dict)
    connections_before: dict[str, int] = field(default_factory=dict)
    connections_after: dict[str, int] = field(default_factory=dict)
    replies: dict[str, list[Reply]] = field(default_factory=dict)
    took_s: dict[str, float] = field(default_factory=dict)
    pushed: dict[str, list[str]] = field(default_factory=dict)
    frozen_at: float = 0.0
    thawed_at: float = 0.0


def box(name: str) -> str:
    return f"{name}@example.com"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def minute(
    tmp_path_factory: pytest.TempPathFactory,
    artifacts: Artifacts,
    gateway: GatewayProcess,
    queue_server: QueueServerProcess,
) -> AsyncIterator[Minute]:
    """Give the minute, when it is over."""
    queues = await asyncio.to_thread(QueueSet, queue_server)
    made = Minute()
    async with contextlib.AsyncExitStack() as closing:
        for name in NAMES:
            link = await closing.enter_async_context(DelayingProxy.running())
            link.target_port = gateway.port
            made.links[name] = link
        directory = tmp_path_factory.mktemp("lambda")
        running = LambdaRig.running(directory, artifacts, gateway, queues, *NAMES)
        rig = await closing.enter_async_context(running)
        second = await start(rig, made)
        for name in ("open", "idle", "moved", "quiet"):
            made.clients[name] = rig.client(box(name), name=name, of=name)
        # Its environment is to be idle, and to know it: the client is seen to leave.
        rig.emulator.url("idle").unseen = False
        async with following(made.clients["idle"]):
            made.pushed["idle"] = [await rig.push(box("idle"))]
            await until(partial(has, made.clients["idle"], made.pushed["idle"]), "the first one comes")
        following_all = following(*(made.clients[name] for name in ("open", "moved", "quiet")))
        await closing.enter_async_context(following_all)
        await before(rig, made)
        await meanwhile(rig, made, second)
        await afterwards(rig, made, closing)
        yield made


async def start(rig: LambdaRig, made: Minute) -> Environment:
    """Start every environment; return the second one of the stream that moves, which gets nothing yet."""
    functions = {"webhook": Function.WEBHOOK, "closed": Function.WEBHOOK, "silent": Function.WEBHOOK}
    reconcile = {"TIDEMARK_RECONCILE_S": str(RECONCILE_S)}
    for name in NAMES:
        link = {"UPSTASH_REDIS_REST_URL": f"http://{HOST}:{made.links[name].port}"}
        function = functions.get(name, Function.STREAM)
        made.environments[name] = await rig.begin(function, name=name, settings={**link, **reconcile})
    second = await rig.begin(Function.STREAM, name="moved", settings=reconcile)
    second.api.open.clear()
    await rig.emulator.ready()
    return second


async def before(rig: LambdaRig, made: Minute) -> None:
    """Warm everything up, freeze it, and take its connections away."""
    for name in ("closed", "silent"):
        made.replies[name] = [await rig.send(box(name), to=name)]
    # This one goes on listening however long it hears nothing.
    hello = made.clients["open"].current.hello
    assert hello is not None
    hello["heartbeat_s"] = 10 * FROZEN_S
    for name in ("open", "moved"):
        made.pushed[name] = [await rig.push(box(name))]
        await until(partial(has, made.clients[name], made.pushed[name]), "the first one comes")
    for name in ("closed", "silent", "open", "idle", "moved"):
        made.environments[name].freeze()
    made.frozen_at = time.time()
    made.connections_before = {name: len(link.request_lines) for name, link in made.links.items()}
    assert made.links["closed"].cut("/") == 1
    assert made.links["silent"].freeze("/") == 1
    assert made.links["open"].freeze("/subscribe/") == 1
    assert made.links["open"].cut("/ HTTP") >= 1
    assert made.links["idle"].cut("/") >= 1


async def meanwhile(rig: LambdaRig, made: Minute, second: Environment) -> None:
    """Push while they stand still; the client that looks elsewhere finds another environment."""
    second.api.open.set()
    for name in ("open", "idle", "moved"):
        made.pushed[name] += [await rig.push(box(name)) for _ in range(3)]
    await until(partial(has, made.clients["moved"], made.pushed["moved"]), "it came elsewhere", timeout_s=FROZEN_S)
    await asyncio.sleep(made.frozen_at + FROZEN_S - time.time())
    for name in ("closed", "silent", "open", "idle", "moved"):
        made.environments[name].thaw()
    made.thawed_at = time.time()


async def afterwards(rig: LambdaRig, made: Minute, closing: contextlib.AsyncExitStack) -> None:
    """Ask each for something, and wait for what must come."""
    for name in ("closed", "silent"):
        began = time.monotonic()
        made.replies[name].append(await rig.send(box(name), to=name))
        made.took_s[name] = time.monotonic() - began
        made.replies[name] += [await rig.send(box(name), to=name) for _ in range(2)]
    await closing.enter_async_context(following(made.clients["idle"]))
    for name in ("open", "idle", "moved"):
        made.pushed[name].append(await rig.push(box(name)))
    for name in ("open", "idle", "moved"):
        with contextlib.suppress(AssertionError):  # the tests say it better
            await until(partial(has, made.clients[name], made.pushed[name]), "all came")
    api = made.environments["moved"].api
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(10):
            await api.invocations[0].ended.wait()
    made.connections_after = {name: len(link.request_lines) for name, link in made.links.items()}


@pytest.mark.parametrize("name", ["closed", "silent"])
async def test_a_thawed_webhook_publishes_at_once_on_a_new_connection(minute: Minute, name: str) -> None:
    """Whether Redis has closed the old one or it has died without a word; nothing goes to the queue."""
    assert [(reply.status, reply.said["status"]) for reply in minute.replies[name]] == [(200, "published")] * 4
    assert minute.took_s[name] < ANSWER_S
    assert minute.connections_after[name] - minute.connections_before[name] == 1


@pytest.mark.parametrize("name", ["closed", "silent", "open", "idle", "moved"])
async def test_the_breaker_does_not_count_the_minute(minute: Minute, name: str) -> None:
    """It has said nothing: it never opened."""
    log = minute.environments[name].log()
    assert "client ready" in log
    assert "circuit breaker" not in log
    assert '"level": "ERROR"' not in log


async def test_a_stream_that_is_open_meanwhile_goes_on_without_a_hole(minute: Minute) -> None:
    """Its live feed has died without a word, and Redis has closed the rest: what was missed is read from the log."""
    client = minute.clients["open"]
    assert positions(client) == minute.pushed["open"]
    assert client.gaps == []
    assert len(client.connections) == 1
    assert client.live


async def test_a_thawed_environment_without_a_stream_serves_the_next_one(minute: Minute) -> None:
    """With what was pushed since its client left, and then live."""
    client = minute.clients["idle"]
    assert positions(client) == minute.pushed["idle"]
    assert client.gaps == []
    assert len(client.connections) == 2


async def test_a_client_that_hears_nothing_goes_on_elsewhere_and_the_thawed_stream_ends(minute: Minute) -> None:
    """It is superseded: it learns of it as soon as it can, and its environment is free."""
    client = minute.clients["moved"]
    assert positions(client) == minute.pushed["moved"]
    assert client.gaps == []
    assert [connection.end for connection in client.connections] == [End.SILENCE, End.OPEN]
    moved_after_s = client.connections[1].asked_at - minute.frozen_at
    assert SILENT_S - 1 < moved_after_s < FROZEN_S
    [invocation] = minute.environments["moved"].api.invocations
    assert invocation.ended_at is not None
    assert 0 < invocation.ended_at - minute.thawed_at < 5 * RECONCILE_S


async def test_a_quiet_stream_has_its_heartbeats(minute: Minute) -> None:
    """One after every 15 s of silence, through the adapter and the function URL."""
    client = minute.clients["quiet"]
    assert 3 <= client.current.heartbeats <= 5
    assert len(client.connections) == 1
    assert client.live
