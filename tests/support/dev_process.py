"""`tidemark dev` as a process, its children, and what becomes of them. Everything here blocks."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import psutil

from infra.local.data_dir import DataDir
from tests.support.gateway import NO_TLS, ROOT, eventually

TIDEMARK = Path(sys.executable).with_name("tidemark")
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
_READY = re.compile(r"^tidemark dev: ready on (http://127\.0\.0\.1:\d+)$", re.MULTILINE)
_ENVIRONMENT = {"TIDEMARK_RECONCILE_S": "2"}


class DevProcess:
    """One `tidemark dev` on a data directory; made by `running`."""

    def __init__(self, directory: Path, process: subprocess.Popen[bytes], said: Path) -> None:
        self.data_dir = DataDir(directory)
        self.process = process
        self._said = said
        self.url = ""
        self._known: set[psutil.Process] = set()

    @classmethod
    @contextlib.contextmanager
    def running(
        cls,
        directory: Path,
        *,
        ready: bool = True,
        push_auth: str = "on",
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> Iterator[DevProcess]:
        """Start it on any port and wait until it is ready (or do not wait); at the end nothing of it is left."""
        said = directory.with_suffix(".out")
        with said.open("wb") as out, directory.with_suffix(".err").open("ab") as err:
            process = subprocess.Popen(
                [TIDEMARK, "dev", "--port", "0", "--push-auth", push_auth, "--data-dir", directory, *arguments],
                cwd=ROOT,
                env={**os.environ, **_ENVIRONMENT, **(environment or {})},
                stdout=out,
                stderr=err,
                # A process group of its own, as a terminal gives a command.
                process_group=0,
            )
        dev = cls(directory, process, said)
        try:
            if ready:
                dev.until_ready()
            yield dev
        finally:
            if process.poll() is None:
                dev.children()
            process.kill()
            process.wait()
            for child in dev._known:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()

    def until_ready(self) -> None:
        """Return when it has said that it serves."""

        def ready() -> bool:
            assert self.process.poll() is None, f"tidemark dev ended: {self._said.with_suffix('.err').read_text()}"
            found = _READY.search(self._said.read_text())
            self.url = found[1] if found else ""
            return found is not None

        eventually(ready, "tidemark dev is ready", START_TIMEOUT_S)

    def printed(self) -> str:
        """Return all that it and its children have said, on stdout, on stderr and in their logs."""
        files = [self._said, self._said.with_suffix(".err"), *sorted((self.data_dir.path / "logs").iterdir())]
        return "".join(file.read_text(encoding="utf-8", errors="replace") for file in files)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def processes(self) -> dict[str, int]:
        """Process ids of the children, by name."""
        running = self.data_dir.running()
        assert running is not None
        return dict(running["processes"])

    def children(self) -> list[psutil.Process]:
        """Every process that it has started, and what those have started."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        self._known.update(found)
        return found

    def healthy(self) -> bool:
        """Whether the origin answers, and everything behind it."""
        try:
            return (
                httpx.get(f"{self.url}/healthz", timeout=2, verify=NO_TLS, trust_env=False).status_code
                == httpx.codes.OK
            )
        except httpx.HTTPError:
            return False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal as it comes in life: Ctrl-C reaches the whole foreground group, another only its target."""
        if number is signal.SIGINT:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for its end and return its exit status."""
        return self.process.wait(STOP_TIMEOUT_S)


def alive(processes: Sequence[psutil.Process]) -> list[str]:
    """Give the command lines of those that still run; a zombie does not."""
    found: list[str] = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
    return found
