"""The local stack as processes: Redis, the gateway, the queues, the origin, deliver."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing

import hiredis
import httpx

from infra.local.children import FIRST_PAUSE_S, Child, ChildError, Children, ChildSpec
from infra.local.data_dir import DataDir
from infra.local.ha import HighAvailability
from infra.local.push_signer import genuine_pushes
from infra.local.queues import QUEUES, queue_access, queue_settings
from infra.local.redis_server import server_argv, wait_ready
from infra.local.resp import RedisAddress, RespClient, RespConnectionError

HOST = "127.0.0.1"
_POLL_S = 0.05


class PortTakenError(Exception):
    """The port that the stack should listen on is in use."""


def listen(port: int) -> socket.socket:
    """Return a listening socket on the loopback address. Raises PortTakenError."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError as error:
        listening.close()
        raise PortTakenError(f"port {port} cannot be listened on: {error.strerror}") from error
    listening.listen(2048)
    return listening


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with closing(socket.socket()) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


async def answers(url: str, *, headers: Mapping[str, str] | None = None) -> None:
    """Return when a GET of the URL is answered with 200."""
    async with httpx.AsyncClient(timeout=1.0, trust_env=False) as client:
        while True:
            try:
                if (await client.get(url, headers=headers)).status_code == httpx.codes.OK:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(_POLL_S)


class Stack:
    """Redis (unless an address of one is given) and every other part, on one data directory.

    With ``ha`` there are two Redis and three Sentinels; ``replica_lag_s`` makes one lag behind the other.
    """

    def __init__(
        self,
        data_dir: DataDir,
        *,
        port: int,
        redis_url: str | None,
        push_auth: str,
        say: Callable[[str], None],
        environ: Mapping[str, str] | None = None,
        ha: bool = False,
        replica_lag_s: float = 0.0,
    ) -> None:
        """Listen on the port, 0 for any. Raises PortTakenError and DataDirError."""
        self._data_dir = data_dir
        self._redis_url = redis_url
        self._push_auth = push_auth
        self._say = say
        self._environ = os.environ if environ is None else environ
        self._gateway_token = data_dir.keys().gateway_token
        self._token_keys = data_dir.token_keys(self._environ)
        data_dir.push_signer()
        self._ha = HighAvailability(data_dir.make("ha"), self._start, lag_s=replica_lag_s) if ha else None
        self._listening = listen(port)
        self._children = Children()
        self._up = False
        self.url = f"http://{HOST}:{self._listening.getsockname()[1]}"
        self.gateway_url = f"http://{HOST}:{free_port()}"
        self.queue_url = f"http://{HOST}:{free_port()}"

    async def start(self) -> None:
        """Start every part; returns when the origin serves. Raises ChildError."""
        if self._ha is not None:
            redis_url = await self._ha.start()
        elif self._redis_url is None:
            redis_url = await self._start_redis()
        else:
            redis_url = self._redis_url
            await self._check_redis(redis_url)
        await self._start_gateway(redis_url)
        await self._start_queues()
        await self._start_origin()
        await self._start_deliver()
        self._up = True
        self._note()

    async def stop(self) -> None:
        """End every part."""
        self._up = False
        self._data_dir.note_stopped()
        await self._children.stop()
        self._listening.close()

    async def _start_redis(self) -> str:
        port = free_port()
        argv = server_argv(port, self._data_dir.make("redis"))
        await self._start("redis", argv, {}, lambda: wait_ready(port, 15))
        return f"redis://{HOST}:{port}"

    @staticmethod
    async def _check_redis(url: str) -> None:
        redis = RespClient(url)
        try:
            answer = await redis.execute("PING")
        except RespConnectionError as error:
            raise ChildError(str(error)) from error
        finally:
            await redis.close()
        if isinstance(answer, hiredis.ReplyError):
            raise ChildError(f"the Redis at {RedisAddress.from_url(url)} refuses: {answer}")

    async def _start_gateway(self, redis_url: str) -> None:
        port = self.gateway_url.rpartition(":")[2]
        argv = [sys.executable, "-m", "infra.local.gateway", "--port", port, "--redis-url", redis_url]
        token = self._gateway_token
        ping = f"{self.gateway_url}/ping"
        headers = {"Authorization": f"Bearer {token}"}
        await self._start("gateway", argv, {"TIDEMARK_GATEWAY_TOKEN": token}, lambda: answers(ping, headers=headers))

    async def _start_queues(self) -> None:
        port = self.queue_url.rpartition(":")[2]
        file = str(self._data_dir.make("queues") / "queues.sqlite")
        argv = [sys.executable, "-m", "infra.local.queue_server", "--port", port, "--data", file]
        for name in QUEUES:
            argv += ["--queue", name]
        await self._start(
            "queues", argv, queue_access(self._gateway_token), lambda: answers(f"{self.queue_url}/healthz")
        )

    def _backends(self) -> dict[str, str]:
        """Return what tells a function where the log and the queues are."""
        return {
            "UPSTASH_REDIS_REST_URL": self.gateway_url,
            "UPSTASH_REDIS_REST_TOKEN": self._gateway_token,
            **queue_settings(self.queue_url, self._gateway_token),
        }

    async def _start_deliver(self) -> None:
        async def ready() -> None:
            """Return at once: it serves nobody."""

        await self._start("deliver", [sys.executable, "-m", "infra.local.event_source"], self._backends(), ready)

    async def _start_origin(self) -> None:
        descriptor = self._listening.fileno()
        key_file = str(self._data_dir.push_key_file)
        argv = [sys.executable, "-m", "infra.local.origin", "--fd", str(descriptor), "--push-key", key_file]
        env = {
            **self._backends(),
            "TIDEMARK_TOKEN_KEYS": ",".join(f"{kid}:{key}" for kid, key in self._token_keys.items()),
            "TIDEMARK_PUSH_AUTH": self._push_auth,
            **genuine_pushes(self.url, self._environ),
        }
        await self._start("origin", argv, env, lambda: answers(f"{self.url}/healthz"), pass_fds=(descriptor,))

    async def _start(
        self,
        name: str,
        argv: Sequence[str] | Callable[[], Sequence[str]],
        env: Mapping[str, str],
        ready: Callable[[], Awaitable[None]],
        pass_fds: tuple[int, ...] = (),
        restart_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        spec = ChildSpec(
            name=name,
            argv=argv,
            env={**self._environ, **env},
            ready=ready,
            log=self._data_dir.make("logs") / f"{name}.log",
            pass_fds=pass_fds,
            restart_pause_s=restart_pause_s,
        )
        await self._children.start(Child(spec, self._say, self._note))

    def _note(self) -> None:
        if self._up:
            self._data_dir.note_running(
                self.url, self._children.pids, self.gateway_url, self.queue_url, push_auth=self._push_auth
            )
