"""The deployed parts as processes of their own: Redis, the gateway, and each function under uvicorn.

    async with Stack.running(directory, reconcile_s=2) as stack:
        stack.stream.kill()
        await stack.stream.start()

Every part can be killed and started again on the same port, with the same data.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from infra.chaos.part import ROOT, START_TIMEOUT_S, Part, answers
from infra.local.gateway import TOKEN_VARIABLE
from infra.local.loopback import HOST, steady_port
from infra.local.queues import QUEUES, queue_settings
from infra.local.redis_server import server_argv, wait_ready
from tests.support.delaying_proxy import DelayingProxy
from tests.support.gateway import redis_binary

KID = "e2e"
TOKEN_KEY = "k" * 32
BYPASS_SECRET = "b" * 32
HIDDEN_S = 15


class Stack:
    """All parts. ``upstream`` stands between the stream function and the gateway, if it is given.

    Without ``queues`` pushes are refused while Redis is away. ``settings`` go before those that the functions have.
    """

    def __init__(
        self,
        directory: Path,
        upstream: DelayingProxy | None,
        reconcile_s: int,
        *,
        queues: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._directory = directory
        (directory / "redis").mkdir(parents=True)
        redis_port, gateway_port, queues_port = steady_port(), steady_port(), steady_port()
        token = secrets.token_urlsafe(24)
        gateway_url = f"http://{HOST}:{gateway_port}"
        self.gateway_token = token
        if upstream is not None:
            upstream.target_port = gateway_port
        base = {name: value for name, value in os.environ.items() if not name.startswith(("TIDEMARK_", "UPSTASH_"))}
        self._environment = {
            **base,
            # run.sh starts the python3 on the PATH.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{base.get('PATH', '')}",
            "UPSTASH_REDIS_REST_URL": gateway_url,
            "UPSTASH_REDIS_REST_TOKEN": token,
            TOKEN_VARIABLE: token,
            "TIDEMARK_PUSH_AUTH": "off",
            "TIDEMARK_TOKEN_KEYS": f"{KID}:{TOKEN_KEY}",
            "TIDEMARK_BYPASS_SECRET": BYPASS_SECRET,
            "TIDEMARK_RECONCILE_S": str(reconcile_s),
            **(queue_settings(f"http://{HOST}:{queues_port}", token) if queues else {}),
            **(settings or {}),
        }
        redis_argv = server_argv(redis_port, directory / "redis", binary=redis_binary())
        self.redis = self._part("redis", redis_port, redis_argv, ready=_redis_answers)
        self.gateway = self._part(
            "gateway",
            gateway_port,
            _module("infra.local.gateway", gateway_port, "--redis-url", f"redis://{HOST}:{redis_port}"),
        )
        named = [argument for name in QUEUES for argument in ("--queue", name)]
        data = str(directory / "queues.sqlite")
        self.queues = self._part(
            "queues", queues_port, _module("infra.local.queue_server", queues_port, "--data", data, *named)
        )
        # Shorter than usual: what a killed part had in hand is to come back within a test.
        deliver = [sys.executable, "-m", "infra.local.event_source", "--hidden-s", str(HIDDEN_S)]
        self.deliver = self._part("deliver", 0, deliver, ready=_at_once)
        self.webhook = self._function("webhook")
        self.replay = self._function("replay")
        upstream_url = gateway_url if upstream is None else f"http://{HOST}:{upstream.port}"
        self.stream = self._stream("stream", upstream_url)
        self.second_stream = self._stream("second-stream", upstream_url)

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls,
        directory: Path,
        *,
        upstream: DelayingProxy | None = None,
        replay: bool = False,
        reconcile_s: int = 2,
        queues: bool = False,
        settings: Mapping[str, str] | None = None,
        second_stream: bool = False,
    ) -> AsyncIterator[Stack]:
        """Start the parts, and stop them for sure.

        The replay function takes no part in a stream: it is started for those who ask for it, and so are the queues
        with the deliver function, and a second process of the stream function.
        """
        stack = cls(directory / "stack", upstream, reconcile_s, queues=queues, settings=settings)
        parts = [stack.redis, stack.gateway, stack.webhook, stack.stream]
        parts += [stack.second_stream] if second_stream else []
        parts += [stack.replay] if replay else []
        parts += [stack.queues, stack.deliver] if queues else []
        try:
            await asyncio.gather(*(part.start() for part in parts))
            yield stack
        finally:
            for part in reversed(parts):
                part.terminate()
            for part in parts:
                part.stop()

    def _part(
        self,
        name: str,
        port: int,
        argv: Sequence[str],
        *,
        ready: Callable[[int], Awaitable[None]] | None = None,
        **environment: str,
    ) -> Part:
        return Part(
            name,
            port,
            argv,
            environment={**self._environment, **environment},
            log=self._directory / f"{name}.log",
            ready=ready or answers,
        )

    def _stream(self, name: str, upstream_url: str) -> Part:
        port = steady_port()
        argv = ["sh", str(ROOT / "functions" / "stream" / "run.sh")]
        return self._part(name, port, argv, PORT=str(port), UPSTASH_REDIS_REST_URL=upstream_url)

    def _function(self, name: str) -> Part:
        port = steady_port()
        return self._part(name, port, _module("infra.local.serve", port, name))


def _module(name: str, port: int, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, "--port", str(port), *arguments]


async def _at_once(_port: int) -> None:
    """Return: it serves nobody."""


async def _redis_answers(port: int) -> None:
    await wait_ready(port, START_TIMEOUT_S)
