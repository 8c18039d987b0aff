"""Real Redis servers and gateways for tests: processes of their own, gone when the `with` block ends.

    with RedisServer.running(directory) as redis, GatewayProcess.running(redis.url, directory) as gateway:
        httpx.post(gateway.url, headers=gateway.headers, json=["PING"])

Everything here blocks; an async test calls `start`, `stop` and the like through `asyncio.to_thread`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import httpx

from infra.local.gateway import TOKEN_VARIABLE, GatewayServer
from infra.local.redis_server import find_binary, server_argv, wait_ready

ROOT = Path(__file__).resolve().parents[2]
REDIS_VARIABLE = "TIDEMARK_TEST_REDIS_SERVER"
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
POLL_S = 0.01
# Without it httpx reads every CA certificate for each client, which takes 50 ms. Nothing here speaks TLS.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def free_port() -> int:
    """Give a TCP port on 127.0.0.1 that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def eventually(condition: Callable[[], bool], what: str, timeout_s: float = 5.0) -> None:
    """Return as soon as the condition holds; fail with `what` when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(POLL_S)


def redis_binary() -> Path:
    """Give the redis-server under test: the variable TIDEMARK_TEST_REDIS_SERVER, else the usual one."""
    chosen = os.environ.get(REDIS_VARIABLE)
    return Path(chosen) if chosen else find_binary()


def end(process: subprocess.Popen[bytes]) -> int:
    """Stop a process, politely and then not; give its exit status."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


class RedisServer:
    """One redis-server that keeps its data in a directory, and so can be killed and started again."""

    def __init__(self, directory: Path, *, binary: Path | None = None, unix_socket: Path | None = None) -> None:
        self.directory = directory
        self._unix_socket = unix_socket
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._binary = binary or redis_binary()
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextlib.contextmanager
    def running(
        cls, directory: Path, *, binary: Path | None = None, unix_socket: Path | None = None
    ) -> Iterator[RedisServer]:
        """Start a server, and stop it for sure."""
        server = cls(directory, binary=binary, unix_socket=unix_socket)
        try:
            server.start()
            yield server
        finally:
            server.stop()

    def start(self) -> None:
        """Start (again) on the same port with the same data; return when it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                server_argv(self.port, self.directory, binary=self._binary, unix_socket=self._unix_socket),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        asyncio.run(wait_ready(self.port, START_TIMEOUT_S))

    def stop(self) -> None:
        """Stop it as an operator would."""
        if self._process is not None:
            end(self._process)

    def kill(self) -> None:
        """Make it vanish, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the server was never started")
        return self._process.pid


class Gateway(Protocol):
    """Where a gateway is and what it has counted."""

    url: str
    token: str

    @property
    def headers(self) -> dict[str, str]: ...

    def stats(self) -> dict[str, Any]: ...


class _Reachable:
    """What every running gateway offers to a test."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.token = secrets.token_urlsafe(24)

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    def stats(self) -> dict[str, Any]:
        response = httpx.get(f"{self.url}/_gateway/stats", headers=self.headers, verify=NO_TLS)
        response.raise_for_status()
        counters: dict[str, Any] = response.json()
        return counters

    def answers(self) -> bool:
        try:
            self.stats()
        except httpx.TransportError:
            return False
        return True


class GatewayProcess(_Reachable):
    """`python -m infra.local.gateway`, as the local stack runs it."""

    def __init__(self, redis_url: str, directory: Path, *, token_file: Path | None = None) -> None:
        super().__init__()
        self._redis_url = redis_url
        self._token_file = token_file
        self._log = directory / f"gateway-{self.port}.log"
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextlib.contextmanager
    def running(cls, redis_url: str, directory: Path, *, token_file: Path | None = None) -> Iterator[GatewayProcess]:
        """Start a gateway, and stop it for sure. Its token is in its environment, or in `token_file`."""
        gateway = cls(redis_url, directory, token_file=token_file)
        try:
            gateway.start()
            yield gateway
        finally:
            if gateway.process is not None:
                end(gateway.process)

    def start(self) -> None:
        """Start it; return when it answers."""
        argv = [sys.executable, "-m", "infra.local.gateway"]
        argv += ["--port", str(self.port), "--redis-url", self._redis_url]
        environment = {key: value for key, value in os.environ.items() if key != TOKEN_VARIABLE}
        if self._token_file is not None:
            self._token_file.write_text(self.token + "\n", encoding="utf-8")
            argv += ["--token-file", str(self._token_file)]
        else:
            environment[TOKEN_VARIABLE] = self.token
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                argv,
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        eventually(self._up, "the gateway answers", START_TIMEOUT_S)

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def _up(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise RuntimeError(f"the gateway ended at once: {self.log()}")
        return self.answers()


class GatewayThread(_Reachable):
    """The same server in a thread of the test process: quick to start, and seen by coverage."""

    def __init__(self, redis_url: str) -> None:
        super().__init__()
        self._server = GatewayServer(redis_url, self.token, port=self.port)
        self._thread = threading.Thread(target=self._server.run, name=f"gateway-{self.port}")

    @classmethod
    @contextlib.contextmanager
    def running(cls, redis_url: str) -> Iterator[GatewayThread]:
        """Start a gateway, and stop it for sure."""
        gateway = cls(redis_url)
        gateway._thread.start()
        try:
            eventually(lambda: gateway._server.started, "the gateway listens", START_TIMEOUT_S)
            yield gateway
        finally:
            gateway.stop()

    def stop(self) -> None:
        """Stop it; return when the thread has ended."""
        self._server.should_exit = True
        self._thread.join(STOP_TIMEOUT_S)
        if self._thread.is_alive():
            raise RuntimeError("the gateway did not stop")
