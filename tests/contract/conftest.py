"""Fixtures of the contract suites: stages of one's own, gateways with faults, and a Redis that may be spoiled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.command import Command
from tests.support.faulty_gateway import FaultyGateway, FaultyWorld
from tests.support.gateway import GatewayProcess, GatewayThread, RedisServer
from tests.support.log_rig import Rig, rig
from tests.support.queue_server import QueueServerProcess
from tests.support.queue_set import QueueSet


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
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Give what runs `tidemark` here."""
    return Command(capsys)
