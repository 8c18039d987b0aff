"""One process of a stack that is to be broken: killed, and started again on the same port, with the same data."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from infra.local.children import die_with
from infra.local.loopback import HOST

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0
_POLL_S = 0.02


class PartError(Exception):
    """A process ended at once, or did not come to serve in time."""


class Part:
    """One process. ``ready`` returns when it serves."""

    def __init__(
        self,
        name: str,
        port: int,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        ready: Callable[[int], Awaitable[None]],
    ) -> None:
        self.name = name
        self.port = port
        self.url = f"http://{HOST}:{port}"
        self._argv = argv
        self._environment = environment
        self._log = log
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self, **changed: str) -> None:
        """Start it (again), with these changes to its environment from now on; return when it serves.

        Raises PartError.
        """
        self._environment = {**self._environment, **changed}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it is waited for and killed from anywhere
                self._argv,
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=partial(die_with, os.getpid()),  # noqa: PLW1509 - it makes one system call
            )
        ready = asyncio.ensure_future(self._ready(self.port))
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not ready.done():
                    if self.gone:
                        raise PartError(f"{self.name} ended at once: {self.log()}")
                    await asyncio.wait([ready], timeout=_POLL_S)
            await ready
        except TimeoutError:
            raise PartError(f"{self.name} did not serve within {START_TIMEOUT_S:g} s: {self.log()}") from None
        finally:
            ready.cancel()

    @property
    def gone(self) -> bool:
        """Whether the process has ended."""
        return self._process is None or self._process.poll() is not None

    @property
    def pid(self) -> int:
        """Its process id. Raises PartError when it was never started."""
        if self._process is None:
            raise PartError(f"{self.name} was never started")
        return self._process.pid

    def kill(self) -> None:
        """Make it vanish, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def terminate(self) -> None:
        """Ask it to end."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """End it for sure: politely, and then not."""
        if self._process is None or self.gone:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def log(self) -> str:
        """Give what it has printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")


async def answers(port: int) -> None:
    """Return when something on the port answers HTTP, whatever it says: Redis may be away."""
    while True:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(5):
                reader, writer = await asyncio.open_connection(HOST, port)
                try:
                    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    if (await reader.readline()).startswith(b"HTTP/1.1 "):
                        return
                finally:
                    writer.close()
        await asyncio.sleep(_POLL_S)
