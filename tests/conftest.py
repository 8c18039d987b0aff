"""Fixtures that many suites share: one real Redis and one real gateway a session, and keys of one's own."""

from __future__ import annotations

import faulthandler
import signal
import uuid
from collections.abc import Iterator

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

from tests.support.gateway import GatewayProcess, RedisServer
from tests.support.queue_server import QueueServerProcess

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would each process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

TEARDOWN_S = 120.0


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """End the process if a teardown does not end: with the first failure of a test its other guards are dismissed."""
    faulthandler.dump_traceback_later(TEARDOWN_S, file=item.config.stash[fault_handler_stderr_fd_key], exit=True)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Give a real redis-server, shared by all tests: `.url`, `.port`. Never flush it; use `key_prefix`."""
    with RedisServer.running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def gateway(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Give the Upstash gateway over `redis_server`, as a process: `.url`, `.token`, `.headers`, `.stats()`."""
    with GatewayProcess.running(redis_server.url, tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def key_prefix() -> str:
    """Give a prefix for keys and channels that no other test has; it ends with a colon."""
    return f"t{uuid.uuid4().hex[:12]}:"


@pytest.fixture(scope="session")
def queue_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QueueServerProcess]:
    """Give the local stack's queue server, as a process: `.url`, `.queue_url(name)`, `.client()`. Never kill it."""
    with QueueServerProcess.running(tmp_path_factory.mktemp("queues")) as server:
        yield server
