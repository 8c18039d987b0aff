"""Fixtures of the contract suites: stages of one's own, gateways with faults, and a Redis that may be spoiled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.command import Command
from tests.support.deliver_rig import DeliverRig, deliver_rig
from tests.support.faulty_gateway import FaultyGateway, FaultyWorld
from tests.support.gateway import GatewayProcess, GatewayThread, RedisServer
from tests.support.log_rig import Rig, rig
from tests.support.moto_server import MotoServerProcess
from tests.support.queue_server import QueueServerProcess
from tests.support.queue_set import QueueSet
from tests.support.sqs import Sqs
from tests.support.stored import Stored
from tests.support.stream_rig import Clock, Process


@pytest.fixture
async def mine(redis_server: RedisServer, gateway: GatewayProcess) -> AsyncIterator[Rig]:
    """Give a stage of one's own behind the real gateway."""
    async with rig(redis_server.url, gateway.url, gateway.token) as made:
        yield made


@pytest.fixture
async def faulty(redis_server: RedisServer) -> AsyncIterator[FaultyGateway]:
    """Give a gateway whose faults this test decides."""
    async with FaultyGateway.running(redis_server.url) as gateway:
        yield gateway


@pytest.fixture
async def process(mine: Rig, faulty: FaultyGateway) -> AsyncIterator[Process]:
    """Give a process of streams that never reconciles by itself. Its `mine` must be behind `faulty`."""
    async with Process.running(faulty, mine.keys) as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    """Give a clock for `timed`."""
    return Clock()


@pytest.fixture
async def timed(mine: Rig, faulty: FaultyGateway, clock: Clock) -> AsyncIterator[Process]:
    """Give a process in whose streams time stands still unless the test moves it."""
    async with Process.running(faulty, mine.keys, clock=clock) as running:
        yield running


@pytest.fixture
async def deliveries(tmp_path: Path, redis_server: RedisServer, faulty: FaultyGateway) -> AsyncIterator[DeliverRig]:
    """Give the deliver function with queues of its own, over a gateway whose faults this test decides."""
    async with deliver_rig(tmp_path, redis_server.url, faulty) as made:
        yield made


@pytest.fixture(scope="module")
def world(redis_server: RedisServer) -> Iterator[FaultyWorld]:
    """Give the same to examples that follow each other in one event loop."""
    with FaultyWorld.running(redis_server.url) as running:
        yield running


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Give a Redis that a file may spoil."""
    with RedisServer.running(tmp_path_factory.mktemp("own")) as server:
        yield server


@pytest.fixture(scope="module")
def own_gateway(own_redis: RedisServer) -> Iterator[GatewayThread]:
    """Give the gateway over `own_redis`."""
    with GatewayThread.running(own_redis.url) as running:
        yield running


@pytest.fixture
def queues(queue_server: QueueServerProcess) -> QueueSet:
    """Give three queues that no other test has."""
    return QueueSet(queue_server)


@pytest.fixture
def stored(gateway: GatewayProcess, queues: QueueSet) -> Stored:
    """Give a stage of one's own behind the real gateway, with `queues`."""
    return Stored(gateway, queues)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Give what runs `tidemark` here."""
    return Command(capsys)


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoServerProcess]:
    """Give the moto server, as a process."""
    with MotoServerProcess.running(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def ours(queue_server: QueueServerProcess) -> Iterator[Sqs]:
    """Give our queue server through boto3, whose own checks of parameters are off: the server's are meant."""
    client = queue_server.client(parameter_validation=False, max_pool_connections=50)
    yield Sqs("ours", client)
    client.close()


@pytest.fixture(scope="session", params=["ours", "moto"])
def sqs(request: pytest.FixtureRequest) -> Iterator[Sqs]:
    """Give each server that is to answer alike."""
    if request.param == "ours":
        server: Sqs = request.getfixturevalue("ours")
        yield server
        return
    client = request.getfixturevalue("moto_server").client(parameter_validation=False, max_pool_connections=50)
    yield Sqs("moto", client)
    client.close()
