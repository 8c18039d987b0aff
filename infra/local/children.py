"""Child processes that live as long as their supervisor, and are started again when they die."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

STOP_TIMEOUT_S = 5.0
FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class ChildError(Exception):
    """A child process could not be started, or did not become ready."""


def die_with(parent: int) -> None:
    """Ask the kernel to end this child when its supervisor is gone, however that went (Linux only)."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            # The supervisor died between the fork and the call above.
            os._exit(1)


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How a child is started, and how to tell that it is ready. ``ready`` returns when it is.

    ``argv`` may be a function, which is asked at every start. ``restart_pause_s`` is how long it stays away at least
    when it has died.
    """

    name: str
    argv: Sequence[str] | Callable[[], Sequence[str]]
    env: Mapping[str, str]
    ready: Callable[[], Awaitable[None]]
    log: Path
    pass_fds: Sequence[int] = ()
    ready_timeout_s: float = 15.0
    restart_pause_s: float = FIRST_PAUSE_S


@dataclass(slots=True)
class Child:
    """One child process and its restarts. ``on_change`` is called with the new process id."""

    spec: ChildSpec
    say: Callable[[str], None]
    on_change: Callable[[], None] = lambda: None
    pid: int | None = None
    _logged_before: int = 0
    _process: asyncio.subprocess.Process | None = None
    _keeper: asyncio.Task[None] | None = field(default=None)

    async def start(self) -> None:
        """Start it and wait until it is ready. Raises ChildError."""
        await self._spawn()
        await self._until_ready()
        self._keeper = asyncio.ensure_future(self._keep())

    async def stop(self) -> None:
        """End it: SIGTERM, then SIGKILL after `STOP_TIMEOUT_S`."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            # Python 3.11's `wait_for` hides a cancellation that comes together with what is waited for.
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            self.say(f"{self.spec.name} did not stop in {STOP_TIMEOUT_S:g} s: killed")
            process.kill()
            await process.wait()

    async def _spawn(self) -> None:
        argv = self.spec.argv() if callable(self.spec.argv) else self.spec.argv
        with self._open_log() as log:
            self._logged_before = log.tell()
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *argv,
                    env=dict(self.spec.env),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=tuple(self.spec.pass_fds),
                    # Ctrl-C in a terminal reaches the supervisor alone, which ends the children in order.
                    start_new_session=True,
                    preexec_fn=partial(die_with, os.getpid()),
                )
            except OSError as error:
                raise ChildError(f"{self.spec.name} cannot be started: {error}") from error
        self.pid = self._process.pid
        self.on_change()

    def _open_log(self) -> IO[bytes]:
        return os.fdopen(os.open(self.spec.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")

    async def _until_ready(self) -> None:
        assert self._process is not None  # noqa: S101 - spawned by the caller
        ready = asyncio.ensure_future(self.spec.ready())
        ended = asyncio.ensure_future(self._process.wait())
        try:
            await asyncio.wait([ready, ended], timeout=self.spec.ready_timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if ready.done() and ready.exception() is None:
                return
            what = "ended at once" if ended.done() else "did not become ready"
            raise ChildError(f"{self.spec.name} {what}: {self._last_words()}")
        finally:
            ready.cancel()
            ended.cancel()

    def _last_words(self) -> str:
        """Return the last line that this start of the child has logged, or where it logs."""
        with self.spec.log.open(errors="replace") as log:
            log.seek(self._logged_before)
            lines = log.read().strip().splitlines()
        return lines[-1] if lines else f"see {self.spec.log}"

    async def _keep(self) -> None:
        """Start it again whenever it dies, with growing pauses."""
        pause_s = self.spec.restart_pause_s
        while True:
            assert self._process is not None  # noqa: S101 - spawned before
            code = await self._process.wait()
            self.say(f"{self.spec.name} ended ({code}): starting it again")
            await asyncio.sleep(pause_s)
            pause_s = max(self.spec.restart_pause_s, min(2 * pause_s, _LONGEST_PAUSE_S))
            try:
                await self._spawn()
                await self._until_ready()
            except ChildError as error:
                self.say(str(error))
            else:
                pause_s = self.spec.restart_pause_s


class Children:
    """Children in the order in which they depend on each other; stopped the other way round."""

    def __init__(self) -> None:
        self._started: list[Child] = []

    async def start(self, child: Child) -> None:
        """Start one more. Raises ChildError."""
        self._started.append(child)
        await child.start()

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {child.spec.name: child.pid for child in self._started if child.pid is not None}

    async def stop(self) -> None:
        """End all."""
        while self._started:
            await self._started.pop().stop()
