"""Fixtures of the contract suites: stages of one's own, gateways with faults, and a Redis that may be spoiled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.deliver_rig import DeliverRig, deliver_rig
from tests.support.faulty_gateway import FaultyGateway, FaultyWorld
from tests.support.gateway import GatewayProcess, GatewayThread, RedisServer
from tests.support.log_rig import Rig, rig


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
