"""One execution environment of a function: its processes, as Lambda starts, freezes and ends them.

Kinds: `Kind.PYTHON` is a handler under Lambda's Python runtime client; `Kind.ADAPTER` is a program that serves HTTP,
beside the Lambda Web Adapter. The runtime's own packages (its client, boto3) come from a directory that stands for
/var/runtime, everything else from the artifact: Python sees no site-packages here.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import partial
from importlib.metadata import distribution
from pathlib import Path

from infra.local.children import die_with
from tests.support.lambda_adapter import adapter_binary
from tests.support.runtime_api import RuntimeApi
from tests.support.waiting import until

START_TIMEOUT_S = 20.0
MEMORY_MB = 256
#: What Lambda's Python runtime brings along, by the names of the distributions.
_RUNTIME_PACKAGES = ("awslambdaric", "simplejson", "snapshot-restore-py", "boto3", "botocore", "s3transfer",
                     "jmespath", "python-dateutil", "six", "urllib3")  # fmt: skip


class Kind(Enum):
    """Who speaks to the Runtime API."""

    PYTHON = "awslambdaric"
    ADAPTER = "lambda-adapter"


class Runtime:
    """What an environment has besides the artifact: a Python, and what stands for /var/runtime."""

    def __init__(self, directory: Path) -> None:
        self.packages = directory / "runtime"
        self.packages.mkdir(parents=True)
        self.bin = directory / "bin"
        self.bin.mkdir()
        for name in _RUNTIME_PACKAGES:
            found = distribution(name)
            for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
                (self.packages / top).symlink_to(Path(str(found.locate_file(top))))
        python = self.bin / "python3"
        # -S: nothing is found that a virtual environment or the machine has installed.
        python.write_text(f'#!/bin/sh\nexec "{_base_python()}" -S "$@"\n', encoding="utf-8")
        python.chmod(0o755)


def _base_python() -> Path:
    """Return the Python that this one's virtual environment was made of."""
    return Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")


class Environment:
    """The processes. They end together: when one has ended, Lambda ends the others."""

    def __init__(self, api: RuntimeApi, log: Path) -> None:
        self.api = api
        self._log = log
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(
        self,
        runtime: Runtime,
        kind: Kind,
        artifact: Path,
        handler: str,
        settings: Mapping[str, str],
        *,
        function: str,
        beside: Iterable[Path] = (),
    ) -> None:
        """Start the processes. Modules in the directories ``beside`` are found, too."""
        path = os.pathsep.join(map(str, (artifact, *beside, runtime.packages)))
        environment = {
            "PATH": f"{runtime.bin}{os.pathsep}/usr/local/bin:/usr/bin:/bin",
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "HOME": str(self._log.parent),
            "PYTHONPATH": path,
            "LAMBDA_TASK_ROOT": str(artifact),
            "_HANDLER": handler,
            "AWS_LAMBDA_FUNCTION_NAME": function,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MEMORY_MB),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_RUNTIME_API": self.api.address,
            "AWS_REGION": "us-east-1",
            **settings,
        }
        if kind is Kind.PYTHON:
            self._run(["python3", "-m", "awslambdaric", handler], artifact, environment)
        else:
            # The layer's /opt/bootstrap does the former, Lambda the latter.
            self._run([str(artifact / handler)], artifact, environment)
            self._run([str(adapter_binary())], artifact, environment)

    async def ready(self) -> None:
        """Wait until it asks for its first invocation."""
        await until(lambda: self.api.started or self.gone, "the function has started", timeout_s=START_TIMEOUT_S)
        assert self.api.started, self.log()

    async def ended(self) -> int:
        """Wait until a process has ended by itself; end the others, and return its exit status."""
        await until(lambda: self.gone, "the function has stopped", timeout_s=START_TIMEOUT_S)
        code = next(process.returncode for process in self._processes if process.poll() is not None)
        self.kill()
        return code

    @property
    def gone(self) -> bool:
        """Whether a process of it has ended."""
        return any(process.poll() is not None for process in self._processes)

    def freeze(self) -> None:
        """Stop every process where it stands."""
        for process in self._processes:
            process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        for process in self._processes:
            process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End every process, as Lambda ends an environment that it takes back."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()

    def log(self) -> str:
        """Give what its processes have printed: its log stream."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def _run(self, argv: list[str], directory: Path, environment: Mapping[str, str]) -> None:
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                argv,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=partial(die_with, os.getpid()),  # noqa: PLW1509 - it makes one system call
            )
        self._processes.append(process)


async def stopped(environments: Iterable[Environment]) -> None:
    """End environments for sure."""
    for environment in environments:
        await asyncio.to_thread(environment.kill)
