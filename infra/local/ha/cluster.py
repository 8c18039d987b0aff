"""Starting a highly available Redis, and asking it who is the primary."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import hiredis

from infra.local.children import FIRST_PAUSE_S, ChildError
from infra.local.ha.layout import MASTER, Layout, Node
from infra.local.loopback import HOST
from infra.local.redis_server import find_binary, server_argv, wait_ready
from infra.local.resp import RespClient, RespConnectionError, SentinelUrl, ask

#: How long a Redis that died stays away. Long enough for a failover (2 s until the Sentinels take it for dead, then
#: one or two to vote and to promote): back at once, it would be the primary still, and there would be no failover.
RESTART_PAUSE_S: Final = 10.0
_READY_S: Final = 15.0
_POLL_S: Final = 0.05


class Starter(Protocol):
    """Starts a child process and returns when it is ready; starts it again when it dies. Raises ChildError."""

    async def __call__(
        self,
        name: str,
        argv: Sequence[str] | Callable[[], Sequence[str]],
        env: Mapping[str, str],
        ready: Callable[[], Awaitable[None]],
        *,
        restart_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        """Start it. The arguments are those of a ChildSpec; ``env`` adds to the environment."""
        ...


class HighAvailability:
    """A primary, a replica and three Sentinels on a directory of their own, as children of whoever has ``start``.

    With ``lag_s`` the replica receives everything so much later, and what is on its way dies with the primary: so a
    failover forgets what was acknowledged last, as one of a managed database may.
    """

    def __init__(
        self,
        directory: Path,
        start: Starter,
        *,
        lag_s: float = 0.0,
        restart_pause_s: float = RESTART_PAUSE_S,
        binary: Path | None = None,
    ) -> None:
        self._directory = directory
        self._start = start
        self._lag_s = lag_s
        self._restart_pause_s = restart_pause_s
        self._binary = binary

    async def start(self) -> str:
        """Start all; returns, once a failover would succeed, the URL to reach the primary by.

        Raises ChildError and DataDirError.
        """
        layout = Layout.prepare(self._directory, fronts=self._lag_s > 0)
        primary = layout.primary()
        (replica,) = (node for node in layout.nodes if node != primary)
        await self._start_redis(layout, primary)
        await self._start_redis(layout, replica)
        await _until(_has_all, replica.listens, f"{replica.name} did not get the log of {primary.name}")
        for name, port in layout.sentinels.items():
            argv = [str(self._binary or find_binary()), str(layout.sentinel_file(name)), "--sentinel"]
            await self._start(name, argv, {}, _answers(port))
        for name, port in layout.sentinels.items():
            await _until(_could_fail_over, port, f"{name} does not find the others")
        return layout.url

    async def _start_redis(self, layout: Layout, node: Node) -> None:
        if node.port != node.listens:
            argv = [sys.executable, "-m", "infra.local.ha.lag", "--port", str(node.port)]
            argv += ["--target", str(node.listens), "--lag", str(self._lag_s)]
            await self._start(node.name.replace("redis", "lag"), argv, {}, lambda: _listens(node.port))
        await self._start(
            node.name,
            lambda: self._redis_argv(layout, node),
            {},
            _answers(node.listens),
            restart_pause_s=self._restart_pause_s,
        )

    def _redis_argv(self, layout: Layout, node: Node) -> list[str]:
        """Give how a Redis is started now: a primary that died and was replaced comes back as a replica.

        The Sentinels would make it one as well, but only after it had been a second primary for some seconds.
        """
        extra = ["--replica-announce-ip", HOST, "--replica-announce-port", str(node.port)]
        # A replica that comes (back) is not left waiting for others that might come, too.
        extra += ["--repl-diskless-sync-delay", "0"]
        primary = layout.primary()
        if primary != node:
            extra += ["--replicaof", HOST, str(primary.port)]
        return server_argv(node.listens, layout.data(node.name), binary=self._binary, extra=extra)


async def primary(directory: Path) -> str:
    """Ask the Sentinels of that directory which Redis is the primary now: give its name.

    Raises RespConnectionError when they cannot say, DataDirError when the directory is none of a running pair.
    """
    layout = Layout.read(directory)
    address = (await ask(SentinelUrl.parse(layout.url))).address
    for node in layout.nodes:
        if node.port == address.port:
            return node.name
    raise RespConnectionError(f"the Sentinels name a primary that is none of ours: {address}")


def _answers(port: int) -> Callable[[], Awaitable[None]]:
    return lambda: wait_ready(port, _READY_S)


async def _listens(port: int) -> None:
    """Return when something listens on the port."""
    while True:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            await asyncio.sleep(_POLL_S)
        else:
            writer.close()
            return


async def _until(condition: Callable[[RespClient], Awaitable[bool]], port: int, otherwise: str) -> None:
    """Return when a condition of the Redis or Sentinel on the port holds. Raises ChildError when it does not."""
    client = RespClient(f"redis://{HOST}:{port}")
    try:
        async with asyncio.timeout(_READY_S):
            while not await condition(client):  # noqa: ASYNC110 - it is in another process
                await asyncio.sleep(_POLL_S)
    except (TimeoutError, RespConnectionError):
        raise ChildError(otherwise) from None
    finally:
        await client.close()


async def _has_all(replica: RespClient) -> bool:
    """Tell whether it is connected to its primary and has the whole log."""
    role: Any = await replica.execute("ROLE")
    return isinstance(role, list) and role[3:4] == [b"connected"]


async def _could_fail_over(sentinel: RespClient) -> bool:
    """Tell whether it sees enough other Sentinels for a vote, and a replica that could be promoted."""
    if isinstance(await sentinel.execute("SENTINEL", "CKQUORUM", MASTER), hiredis.ReplyError):
        return False
    replicas: Any = await sentinel.execute("SENTINEL", "REPLICAS", MASTER)
    fields = [dict(zip(flat[::2], flat[1::2], strict=True)) for flat in replicas]
    return any(one[b"flags"] == b"slave" and one[b"master-link-status"] == b"ok" for one in fields)
