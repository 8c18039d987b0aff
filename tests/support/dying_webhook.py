"""A webhook process that dies in the middle of a push, as often as a test wants it to.

async with DyingWebhook.running(settings) as dying:
    async with dying.started(at=3) as webhook:      # SIGKILL at the fourth suspension
        answer = await webhook.push(body)           # None when the process has died before it answered
    webhook.died
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

from infra.local.children import die_with
from infra.local.loopback import HOST, shut
from tests.support.gateway import ROOT
from tests.support.lambda_events import process_environment

_PATIENCE_S = 20.0
NEVER = -1


class _Started:
    """One copy of the process. ``done`` counts the suspensions of the push, if it has come to its end."""

    def __init__(self, dying: DyingWebhook, pid: int) -> None:
        self._dying = dying
        self._pid = pid
        self.died = False
        self.done: int | None = None

    async def push(self, body: bytes) -> tuple[int, Any] | None:
        """Push once, and wait until the process is through with it or dead; return the answer if there was one."""
        answer = await _exchange(self._dying.port, body)
        told = await self._dying._told()
        self.died, self.done = "ended" in told, told.get("done")
        return answer

    async def end(self) -> None:
        """End it for sure."""
        if not self.died:
            os.kill(self._pid, signal.SIGKILL)
            while "ended" not in await self._dying._told():
                pass


class DyingWebhook:
    """The process that the copies come from."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.port = port
        self.logged: list[dict[str, Any]] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, settings: Mapping[str, str]) -> AsyncIterator[DyingWebhook]:
        """Load the function with these settings only, and stop it for sure."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.support.dying_webhook_server"),
            cwd=ROOT,
            env=process_environment(settings),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            preexec_fn=partial(die_with, os.getpid()),
        )
        dying = cls(process, 0)
        try:
            dying.port = (await dying._told())["port"]
            yield dying
        finally:
            process.kill()
            await process.communicate()

    @contextlib.asynccontextmanager
    async def started(self, *, at: int = NEVER) -> AsyncIterator[_Started]:
        """Start a fresh copy, which dies at a suspension of the next push; end it if it has not."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{at}\n".encode())
        started = _Started(self, (await self._told())["ready"])
        try:
            yield started
        finally:
            await started.end()

    async def _told(self) -> dict[str, Any]:
        """Return the next thing that a process tells; what it logs is kept aside."""
        assert self._process.stdout is not None
        async with asyncio.timeout(_PATIENCE_S):
            while line := await self._process.stdout.readline():
                told: dict[str, Any] = json.loads(line)
                if "level" not in told:
                    return told
                self.logged.append(told)
        raise AssertionError("the process has ended")


async def _exchange(port: int, body: bytes) -> tuple[int, Any] | None:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        head = f"POST /push HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        async with asyncio.timeout(_PATIENCE_S):
            answer = await reader.read()
    except ConnectionError:
        return None
    finally:
        await shut(writer)
    top, blank, text = answer.partition(b"\r\n\r\n")
    if not blank:
        return None
    try:
        return int(top.split()[1]), json.loads(text)
    except ValueError:  # the head came, and no more: Pub/Sub knows the status by then
        return int(top.split()[1]), None
