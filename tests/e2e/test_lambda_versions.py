"""Releases that follow each other serve side by side while a deployment goes on, and understand what each writes.

The next releases are made of this one by what changing a format takes: see `shared.entry`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from infra.local.loopback import HOST, steady_port
from shared.settings import Function
from tests.support.artifact import Artifacts
from tests.support.deliver_rig import record
from tests.support.gateway import GatewayProcess
from tests.support.lambda_rig import LambdaRig, has, positions
from tests.support.queue_server import QueueServerProcess
from tests.support.queue_set import QueueSet
from tests.support.recorder import following
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

READS = "READABLE_FORMATS = frozenset({FORMAT})"
READS_BOTH = 'READABLE_FORMATS = frozenset({"1", "2"})'
WRITES = 'FORMAT = "1"'
WRITES_NEXT = 'FORMAT = "2"'
ENTRIES, QUEUED = "shared/entry.py", "shared/delivery.py"
#: Where a function has its formats: a stream has nothing to do with the queues.
FILES = {
    Function.WEBHOOK: (ENTRIES, QUEUED),
    Function.DELIVER: (ENTRIES, QUEUED),
    Function.STREAM: (ENTRIES,),
}
#: What a release writes, and how it is made of this one.
RELEASES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "now": ("1", {}),
    "reads": ("1", {READS: READS_BOTH}),
    "writes": ("2", {READS: READS_BOTH, WRITES: WRITES_NEXT}),
}
#: Which follow each other.
STEPS = [("now", "reads"), ("reads", "writes")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig(
    tmp_path_factory: pytest.TempPathFactory,
    artifacts: Artifacts,
    gateway: GatewayProcess,
    queue_server: QueueServerProcess,
) -> AsyncIterator[LambdaRig]:
    """Give each release of each function, and of the webhook one more that cannot reach Redis: it queues."""
    names = [f"{kind}-{name}" for name in RELEASES for kind in ("webhook", "stream", "deliver", "queueing")]
    queues = await asyncio.to_thread(QueueSet, queue_server)
    async with LambdaRig.running(tmp_path_factory.mktemp("lambda"), artifacts, gateway, queues, *names) as running:
        for name in RELEASES:
            running.emulator.url(f"stream-{name}").unseen = False
        nobody = {"UPSTASH_REDIS_REST_URL": f"http://{HOST}:{steady_port()}"}
        for name, (_, lines) in RELEASES.items():
            for kind, function, settings in (
                ("webhook", Function.WEBHOOK, {}),
                ("queueing", Function.WEBHOOK, nobody),
                ("deliver", Function.DELIVER, {}),
                # Two streams of each release are open at a time.
                ("stream", Function.STREAM, {}),
                ("stream", Function.STREAM, {}),
            ):
                artifact = artifacts.release(function, name, dict.fromkeys(FILES[function], lines))
                await running.begin(function, name=f"{kind}-{name}", artifact=artifact, settings=settings)
        await running.emulator.ready()
        yield running


@pytest.mark.parametrize("pair", STEPS, ids="-".join)
async def test_what_two_releases_write_reaches_the_streams_of_both(rig: LambdaRig, pair: tuple[str, str]) -> None:
    """Live and from the log, in order, once, without a gap; a client may go from one to the other and back."""
    mailbox = f"{'-'.join(pair)}@example.com"
    live = [rig.client(mailbox, name=f"live-{name}", of=f"stream-{name}") for name in pair]
    moving = rig.client(mailbox, name="moving", of=f"stream-{pair[0]}")
    pushed: list[str] = []
    async with following(*live):
        for name in (*pair, *pair):
            moving.origin = rig.client(mailbox, of=f"stream-{name}").origin
            async with following(moving):
                pushed += [await rig.push(mailbox, to=f"webhook-{name}") for name in (*pair, *pair)]
                await until(partial(has, moving, pushed), "they come live")
            pushed += [await rig.push(mailbox, to=f"webhook-{name}") for name in pair]
        await until(lambda: all(has(client, pushed) for client in live), "everything comes live")
    late = [rig.client(mailbox, name=f"late-{name}", of=f"stream-{name}", start="earliest") for name in pair]
    async with following(*late):
        await until(lambda: all(has(client, pushed) for client in late), "everything is replayed")
    for client in (*live, *late):
        assert positions(client) == pushed
    assert positions(moving) == pushed[: len(positions(moving))]
    assert [client.gaps for client in (*live, *late, moving)] == [[]] * 5


@pytest.mark.parametrize("pair", STEPS, ids="-".join)
async def test_what_one_release_has_queued_the_other_delivers(rig: LambdaRig, pair: tuple[str, str]) -> None:
    """A queue outlives a deployment: whoever is called brings it to the clients of both."""
    mailbox = f"{'-'.join(pair)}-queued@example.com"
    clients = [rig.client(mailbox, name=f"queued-{name}", of=f"stream-{name}") for name in pair]
    async with following(*clients):
        for writer, reader in (pair, pair[::-1]):
            reply = await rig.send(mailbox, to=f"queueing-{writer}")
            assert (reply.status, reply.said) == (200, {"status": "queued"})
            [message] = await received(rig.queues)
            assert json.loads(message["Body"])["format"] == RELEASES[writer][0]
            name = rig.queues.delivery.rpartition("/")[2]
            answer = await rig.emulator.invoke(f"deliver-{reader}", {"Records": [record(message, name)]})
            assert answer == {"batchItemFailures": []}
            rig.queues.client.delete_message(QueueUrl=rig.queues.delivery, ReceiptHandle=message["ReceiptHandle"])
        await until(lambda: all(len(positions(client)) == 2 for client in clients), "both come to both")
    assert positions(clients[0]) == positions(clients[1])
    assert [client.gaps for client in clients] == [[], []]
    assert await asyncio.to_thread(rig.queues.bodies, rig.queues.dead_letters) == []


async def received(queues: QueueSet) -> list[dict[str, Any]]:
    """Wait until a message can be received."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(5):
        while not found:
            found = await asyncio.to_thread(queues.take, queues.delivery)
    return found
