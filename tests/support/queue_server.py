"""The queue server of the local stack for tests: a process of its own, gone when the `with` block ends.

    with QueueServerProcess.running(directory, queues=["tidemark-delivery.fifo"]) as server:
        server.client().send_message(QueueUrl=server.queue_url("tidemark-delivery.fifo"), …)

Its port, its data and its keys stay the same when it is killed and started again. Everything here blocks.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import boto3
import httpx
from botocore.config import Config

from infra.local.queue_server import REGION, KeyPair, QueueServer
from tests.support.gateway import NO_TLS, ROOT, START_TIMEOUT_S, STOP_TIMEOUT_S, end, eventually, free_port

ACCOUNT = "000000000000"


class QueueServerLike(Protocol):
    """Where a queue server is, and how it is reached."""

    url: str

    def client(self, **config: Any) -> Any: ...


def sqs_client(url: str, access_key: str, secret_key: str, **config: Any) -> Any:
    """Give a plain boto3 client that tries once, so that a test sees each answer. ``config`` overrides."""
    options: dict[str, Any] = {
        "retries": {"total_max_attempts": 1},
        "connect_timeout": 5,
        "read_timeout": 30,
        **config,
    }
    return boto3.client(
        "sqs",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(**options),
    )


class _Reachable:
    """What every running queue server offers to a test."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.access_key = f"AKIA{secrets.token_hex(8).upper()}"
        self.secret_key = secrets.token_urlsafe(30)

    def queue_url(self, name: str) -> str:
        return f"{self.url}/{ACCOUNT}/{name}"

    @property
    def environment(self) -> dict[str, str]:
        """Give what a process needs to sign requests to it."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        }

    def client(self, **config: Any) -> Any:
        """Give a boto3 client; making one takes tens of milliseconds, and threads may share it."""
        return sqs_client(self.url, self.access_key, self.secret_key, **config)

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", verify=NO_TLS).text == '{"status":"ok"}'
        except httpx.TransportError:
            return False


class QueueServerProcess(_Reachable):
    """`python -m infra.local.queue_server`, as the local stack runs it."""

    def __init__(self, directory: Path, *, queues: Sequence[str] = ()) -> None:
        super().__init__()
        self.directory = directory
        self.data = directory / "queues.db"
        self._queues = queues
        self._log = directory / "queue-server.log"
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextlib.contextmanager
    def running(cls, directory: Path, *, queues: Sequence[str] = ()) -> Iterator[QueueServerProcess]:
        """Start a server with these queues, and stop it for sure."""
        server = cls(directory, queues=queues)
        try:
            server.start()
            yield server
        finally:
            if server.process is not None:
                end(server.process)

    def start(self) -> None:
        """Start it (again) with the same data; return when it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-m", "infra.local.queue_server", "--port", str(self.port), "--data", str(self.data)]
        for name in self._queues:
            argv += ["--queue", name]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                argv, cwd=ROOT, env={**os.environ, **self.environment}, stdout=log, stderr=subprocess.STDOUT
            )
        eventually(self._up, "the queue server answers", START_TIMEOUT_S)

    def stop(self) -> int:
        """Stop it as an operator would; give its exit status."""
        assert self.process is not None
        return end(self.process)

    def kill(self) -> None:
        """Make it vanish, as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def _up(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise RuntimeError(f"the queue server ended at once: {self.log()}")
        return self.answers()


class Clock:
    """A clock that a test sets: unix seconds."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


class QueueServerThread(_Reachable):
    """The same server in a thread of the test process, with a clock and a limit of the test's."""

    def __init__(self, data: Path, *, clock: Callable[[], float], most_in_flight: int = 120_000) -> None:
        super().__init__()
        keys = KeyPair(self.access_key, self.secret_key)
        self._server = QueueServer(data, keys, port=self.port, clock=clock, most_in_flight=most_in_flight)
        self._thread = threading.Thread(target=self._server.run, name=f"queue-server-{self.port}")

    @classmethod
    @contextlib.contextmanager
    def running(
        cls, data: Path, *, clock: Callable[[], float], most_in_flight: int = 120_000
    ) -> Iterator[QueueServerThread]:
        """Start a server, and stop it for sure."""
        server = cls(data, clock=clock, most_in_flight=most_in_flight)
        server._thread.start()
        try:
            eventually(lambda: server._server.started, "the queue server listens", START_TIMEOUT_S)
            yield server
        finally:
            server._server.should_exit = True
            server._thread.join(STOP_TIMEOUT_S)
            if server._thread.is_alive():
                raise RuntimeError("the queue server did not stop")
