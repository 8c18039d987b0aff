"""The processes under measurement, as deployed: Redis, the gateway, the webhook and the stream function."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.process_tree import cpu_s, pss_kib
from infra.local.children import Child, Children, ChildSpec
from infra.local.queues import QUEUES, queue_access, queue_settings
from infra.local.redis_server import server_argv, wait_ready
from infra.local.stack import answers, free_port

ROOT = Path(__file__).resolve().parents[1]
STAGE = "bench"
KEY_ID = "bench"
_FILES = 16_384
# As functions/stream/run.sh has it; but connections may rest while something else is measured.
UVICORN = (
    *("-m", "uvicorn", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--no-server-header"),
    *("--timeout-keep-alive", "600"),
)


def raise_file_limit() -> None:
    """Let this process and its children hold a socket for each of a few thousand streams."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@dataclass(frozen=True, slots=True)
class Ports:
    """Where each process listens."""

    redis: int
    gateway: int
    webhook: int
    stream: int
    queues: int
    replay: int


class Processes:
    """One set of processes on one fresh directory. A child that dies is a fault, though it is started again.

    ``settings`` go before those that the processes would have. Without ``queues`` there is no queue server, and the
    deliver function is started by itself.
    """

    def __init__(self, directory: Path, settings: Mapping[str, str], *, queues: bool = False) -> None:
        self.ports = Ports(*(free_port() for _ in range(6)))
        self.gateway_token = secrets.token_urlsafe(24)
        self.token_key = secrets.token_urlsafe(32)
        self.directory = directory
        self.faults: list[str] = []
        self.guest_faults: list[str] = []
        self._settings = settings
        self._queues = queues
        self._children = Children()

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls, settings: Mapping[str, str] | None = None, *, queues: bool = False
    ) -> AsyncIterator[Processes]:
        """Start them, and stop them for sure. Raises ChildError."""
        with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as directory:
            processes = cls(Path(directory), settings or {}, queues=queues)
            try:
                await processes.start()
                yield processes
            finally:
                # Told to stop twice, it still stops its children first.
                await asyncio.shield(processes.stop())

    async def start(self) -> None:
        """Start all of them; returns when they serve. Raises ChildError."""
        ports, python = self.ports, sys.executable
        redis_dir = self.directory / "redis"
        redis_dir.mkdir()
        redis_url = f"redis://127.0.0.1:{ports.redis}"
        await self.start_child("redis", server_argv(ports.redis, redis_dir), {}, lambda: wait_ready(ports.redis, 15))
        await self.start_child(
            "gateway",
            [python, "-m", "infra.local.gateway", "--port", str(ports.gateway), "--redis-url", redis_url],
            {"TIDEMARK_GATEWAY_TOKEN": self.gateway_token},
            lambda: answers(
                f"http://127.0.0.1:{ports.gateway}/ping",
                headers={"Authorization": f"Bearer {self.gateway_token}"},
            ),
        )
        if self._queues:
            await self._start_queues()
        product = self.product
        await self.start_child(
            "webhook",
            [python, *UVICORN, "bench.webhook_server:app", "--port", str(ports.webhook)],
            product,
            lambda: answers(f"http://127.0.0.1:{ports.webhook}/healthz"),
        )
        await self.start_child(
            "stream",
            ["sh", str(ROOT / "functions" / "stream" / "run.sh")],
            {**product, "PORT": str(ports.stream), "TIDEMARK_HOST": "127.0.0.1"},
            lambda: answers(f"http://127.0.0.1:{ports.stream}/healthz"),
        )

    @property
    def product(self) -> Mapping[str, str]:
        """Return the settings of the functions."""
        ports = self.ports
        queue_url = f"http://127.0.0.1:{ports.queues}"
        return {
            "UPSTASH_REDIS_REST_URL": f"http://127.0.0.1:{ports.gateway}",
            "UPSTASH_REDIS_REST_TOKEN": self.gateway_token,
            "TIDEMARK_STAGE": STAGE,
            "TIDEMARK_PUSH_AUTH": "off",
            "TIDEMARK_TOKEN_KEYS": f"{KEY_ID}:{self.token_key}",
            # The limiter is asked as ever, and never says no.
            "TIDEMARK_PUSH_LIMIT": "100000000",
            "TIDEMARK_VERIFIED_LIMIT": "100000000",
            **(queue_settings(queue_url, self.gateway_token) if self._queues else {}),
            **self._settings,
        }

    async def start_child(
        self,
        name: str,
        argv: list[str],
        env: Mapping[str, str],
        ready: Callable[[], Awaitable[None]],
        *,
        guest: bool = False,
    ) -> None:
        """Start one more process; returns when it is ready. A guest's death is no fault. Raises ChildError."""
        # What the caller's shell says of Tidemark is not what is measured. run.sh calls python3.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("TIDEMARK_", "UPSTASH_", "SENTRY_"))}
        path = os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", "")])
        spec = ChildSpec(
            name=name,
            argv=argv,
            env={**inherited, "PATH": path, "PYTHONPATH": str(ROOT), **env},
            ready=ready,
            log=self.directory / f"{name}.log",
        )
        await self._children.start(Child(spec, (self.guest_faults if guest else self.faults).append))

    async def start_replay(self) -> None:
        """Start the replay function. Raises ChildError."""
        argv = [sys.executable, *UVICORN, "bench.replay_server:app", "--port", str(self.ports.replay)]
        await self.start_child(
            "replay", argv, self.product, lambda: answers(f"http://127.0.0.1:{self.ports.replay}/healthz")
        )

    async def start_deliver(self) -> None:
        """Start the deliver function; returns at once. Raises ChildError."""

        async def ready() -> None:
            """Return: it serves nobody."""

        await self.start_child("deliver", [sys.executable, "-m", "infra.local.event_source"], self.product, ready)

    async def stop(self) -> None:
        """End all of them."""
        await self._children.stop()

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU seconds that each process has used, this one (the load) included."""
        return {**{name: cpu_s(pid) for name, pid in self.pids.items()}, "load": cpu_s(os.getpid(), alone=True)}

    def pss_kib(self, name: str) -> int:
        """Return the memory of a process."""
        return pss_kib(self.pids[name])

    async def gateway_stats(self) -> dict[str, Any]:
        """Return what the gateway has counted. Asking counts as nothing."""
        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            answer = await client.get(
                f"http://127.0.0.1:{self.ports.gateway}/_gateway/stats",
                headers={"Authorization": f"Bearer {self.gateway_token}"},
            )
            counted: dict[str, Any] = answer.raise_for_status().json()
            return counted

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return self._children.pids

    async def _start_queues(self) -> None:
        data = str(self.directory / "queues.sqlite")
        named = [argument for name in QUEUES for argument in ("--queue", name)]
        port = self.ports.queues
        await self.start_child(
            "queues",
            [sys.executable, "-m", "infra.local.queue_server", "--port", str(port), "--data", data, *named],
            queue_access(self.gateway_token),
            lambda: answers(f"http://127.0.0.1:{port}/healthz"),
        )
