"""Highly available Redis for tests: the real pair with its Sentinels, and Sentinels that say what a test wants.

async with HaRedis.running(directory) as redis, FakeSentinel.running() as sentinel:
    redis.kill(await redis.primary())
    sentinel.primary, sentinel.epoch = "127.0.0.1:6379", 4
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hiredis

from infra.local.children import FIRST_PAUSE_S, Child, Children, ChildSpec
from infra.local.ha import HighAvailability, Layout, primary
from infra.local.loopback import HOST, shut
from infra.local.resp import RespClient, RespConnectionError, SentinelPrimary, SentinelUrl
from infra.local.resp.wire import packed
from tests.support.gateway import redis_binary
from tests.support.log_rig import Redis

logger = logging.getLogger(__name__)
TIMEOUT_S = 30.0


class HaRedis:
    """A primary, a replica and three Sentinels, started as the local stack starts them.

    A Redis that was killed stays away until it is told to come back.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = ""
        self._children = Children()
        self._child: dict[str, Child] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, directory: Path, *, lag_s: float = 0.0) -> AsyncIterator[HaRedis]:
        """Start all, and end them for sure."""
        redis = cls(directory)
        await asyncio.to_thread(directory.mkdir, exist_ok=True)
        started = HighAvailability(directory, redis._start, lag_s=lag_s, restart_pause_s=3600, binary=redis_binary())
        try:
            redis.url = await started.start()
            yield redis
        finally:
            await redis._children.stop()

    async def primary(self) -> str:
        """Ask the Sentinels for the name of the primary."""
        return await primary(self.directory)

    async def another_primary(self, than: str) -> str:
        """Return the name of the next primary, when there is one."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                with contextlib.suppress(RespConnectionError):
                    if (found := await self.primary()) != than:
                        return found
                await asyncio.sleep(0.05)

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[RespClient]:
        """Give a connection to the primary, as others find it."""
        found = SentinelPrimary(SentinelUrl.parse(self.url))
        client = RespClient(found)
        try:
            yield client
        finally:
            await client.close()
            await found.close()

    async def replicates(self, name: str) -> None:
        """Return when a Redis is a replica that has the whole log."""
        async with asyncio.timeout(TIMEOUT_S), self.node(name) as redis:
            while (await redis("ROLE"))[3:4] != ["connected"]:  # noqa: ASYNC110 - it is in another process
                await asyncio.sleep(0.01)

    @contextlib.asynccontextmanager
    async def node(self, name: str) -> AsyncIterator[Redis]:
        """Give one Redis itself, past the gateway and past what stands in front of it."""
        (port,) = (node.listens for node in Layout.read(self.directory).nodes if node.name == name)
        redis = Redis(f"redis://{HOST}:{port}")
        try:
            yield redis
        finally:
            await redis.close()

    async def sentinel(self, *command: str) -> Any:
        """Run a command on the first Sentinel."""
        port = Layout.read(self.directory).sentinels["sentinel-1"]
        sentinel = Redis(f"redis://{HOST}:{port}")
        try:
            return await sentinel(*command)
        finally:
            await sentinel.close()

    async def role(self, name: str) -> str:
        """Ask a Redis what it takes itself for; "away" when it does not answer at once."""
        try:
            async with asyncio.timeout(0.5), self.node(name) as redis:
                return str((await redis("ROLE"))[0])
        except (TimeoutError, RespConnectionError):
            return "away"

    def kill(self, name: str) -> None:
        """Make a process vanish."""
        self._signal(name, signal.SIGKILL)

    async def revive(self, name: str) -> None:
        """Start a Redis that was killed, as its supervisor would in the end."""
        await self._child[name].stop()
        await self._child[name].start()

    def freeze(self, name: str) -> None:
        """Stop a process without ending it: its connections stay open, and nobody answers."""
        self._signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let it go on as if nothing had been."""
        self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: signal.Signals) -> None:
        os.kill(self._children.pids[name], number)

    async def _start(
        self,
        name: str,
        argv: Sequence[str] | Callable[[], Sequence[str]],
        env: Mapping[str, str],
        ready: Callable[[], Awaitable[None]],
        *,
        restart_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        log = self.directory / f"{name}.log"
        spec = ChildSpec(name, argv, {**os.environ, **env}, ready, log, restart_pause_s=restart_pause_s)
        self._child[name] = Child(spec, logger.info)
        await self._children.start(self._child[name])


class FakeSentinel:
    """Answers as a Sentinel does, with whatever a test has put into it."""

    def __init__(self) -> None:
        self.port = 0
        self.primary = ""
        self.epoch = 0
        self.silent = False
        """It takes connections and says nothing."""
        self.instead: bytes | None = None
        """What it says to everything, if not what a Sentinel would say."""
        self.asked = 0
        self._serving: set[asyncio.Task[None]] = set()
        self._listeners: list[asyncio.StreamWriter] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, *, port: int = 0) -> AsyncIterator[FakeSentinel]:
        """Listen; at the end every connection is closed."""
        sentinel = cls()
        server = await asyncio.start_server(sentinel._accept, HOST, port)
        sentinel.port = server.sockets[0].getsockname()[1]
        try:
            yield sentinel
        finally:
            server.close()
            for task in sentinel._serving:
                task.cancel()
            await asyncio.gather(*sentinel._serving, return_exceptions=True)
            await server.wait_closed()

    @property
    def listeners(self) -> int:
        """How many subscriptions are open."""
        return len(self._listeners)

    def say(self, channel: str, text: str) -> None:
        """Publish a message to all who listen."""
        message = packed(("message", channel, text))
        self.say_raw(message)

    def say_raw(self, data: bytes) -> None:
        """Send these bytes to all who listen."""
        for writer in self._listeners:
            writer.write(data)

    def hang_up(self) -> None:
        """Close every subscription."""
        for writer in self._listeners:
            writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        commands = hiredis.Reader()
        try:
            while data := await reader.read(65_536):
                commands.feed(data)
                while (command := commands.gets()) is not False:
                    self._answer(command, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the client has gone, or the server ends
        finally:
            if writer in self._listeners:
                self._listeners.remove(writer)
            await shut(writer)

    def _answer(self, command: list[Any], writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        if self.silent:
            return
        if self.instead is not None:
            writer.write(self.instead)
            return
        match [word.upper() for word in command[:2]]:
            case [b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME"]:
                writer.write(packed(self.primary.rsplit(":", 1)))
            case [b"SENTINEL", b"MASTER"]:
                state = ("name", command[2], "flags", "master", "config-epoch", str(self.epoch))
                writer.write(packed(state))
            case [b"SUBSCRIBE", *_]:
                for number, channel in enumerate(command[1:], 1):
                    writer.write(b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:%d\r\n" % (len(channel), channel, number))
                self._listeners.append(writer)
            case _:
                writer.write(b"-ERR unknown command\r\n")
