"""The moto server, as a process of its own: the stand-in for AWS that our queue server is held to."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.support.gateway import NO_TLS, ROOT, end, eventually, free_port
from tests.support.queue_server import sqs_client

# It imports all of the services that moto knows.
START_TIMEOUT_S = 60.0


class MotoServerProcess:
    """`python -m moto.server`: `.url`, `.client()`. It keeps everything in memory and checks no signature."""

    def __init__(self, directory: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._port = port
        self._log = directory / "moto.log"

    @classmethod
    @contextlib.contextmanager
    def running(cls, directory: Path) -> Iterator[MotoServerProcess]:
        """Start a server, and stop it for sure."""
        server = cls(directory)
        argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(server._port)]
        with server._log.open("ab") as log:
            process = subprocess.Popen(argv, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        try:
            eventually(server._answers, "the moto server answers", START_TIMEOUT_S)
            yield server
        finally:
            end(process)

    def client(self, **config: Any) -> Any:
        """Give a boto3 client."""
        return sqs_client(self.url, "testing", "testing", **config)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/moto-api/", verify=NO_TLS).is_success
        except httpx.TransportError:
            return False
