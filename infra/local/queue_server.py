"""The queues of the local stack: SQS's JSON protocol over one SQLite file.

    AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… \
      python -m infra.local.queue_server --port 8078 --data queues.db --queue tidemark-delivery.fifo

What it answers 200 to survives SIGKILL and a power cut. It has AWS's limits, errors and FIFO rules, takes nothing
that AWS refuses, and refuses (UnsupportedOperation) what it lacks: code that works here must work there. Requests
are signed, as for AWS, with the one key pair of its environment. `GET /healthz` needs no signature.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvicorn

from infra.local.queue import limits
from infra.local.queue.application import QueueApplication
from infra.local.queue.core import Core
from infra.local.queue.errors import QueueError
from infra.local.queue.service import QueueService
from infra.local.queue.signature import Verifier

REGION: Final = "us-east-1"
_VARIABLES: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """What requests are signed with."""

    access_key: str
    secret_key: str = field(repr=False)


class QueueServer(uvicorn.Server):
    """uvicorn with the queues in it. It stops at once, long polls or not: by `should_exit` or SIGTERM.

    ``clock`` gives unix seconds; signatures are always checked against the machine's.
    """

    def __init__(
        self,
        data: Path,
        keys: KeyPair,
        *,
        queues: Sequence[str] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        region: str = REGION,
        clock: Callable[[], float] = time.time,
        most_in_flight: int = limits.IN_FLIGHT,
        log_config: Any = None,
    ) -> None:
        self._service = QueueService(Core(data, region=region, clock=clock, most_in_flight=most_in_flight))
        verifier = Verifier(keys.access_key, keys.secret_key, region, time.time)
        super().__init__(
            uvicorn.Config(
                QueueApplication(self._service, verifier, queues),
                host=host,
                port=port,
                loop="uvloop",
                http="httptools",
                ws="none",
                lifespan="on",
                interface="asgi3",
                log_config=log_config,
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                # Longer than any pool of ours keeps an idle connection: the client is to close first.
                timeout_keep_alive=75,
                timeout_graceful_shutdown=1,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer the long polls first: uvicorn waits for its open answers."""
        self._service.stop_waiting()
        await super().shutdown(sockets)


class _AnnouncingServer(QueueServer):
    """The server as a process: it says when it is ready."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(f"queue server: ready on http://{self.config.host}:{self.config.port}", file=sys.stderr, flush=True)


def _keys_from(environment: Mapping[str, str]) -> KeyPair:
    absent = [name for name in _VARIABLES if not environment.get(name)]
    if absent:
        raise SystemExit(f"no key to check signatures with: set {' and '.join(absent)}")
    access_key, secret_key = (environment[name] for name in _VARIABLES)
    return KeyPair(access_key, secret_key)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the server until SIGTERM or SIGINT. The keys never stand in argv, where every user sees them."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.queue_server", description="SQS, locally")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the SQLite file, made if it is absent")
    parser.add_argument("--queue", action="append", default=[], metavar="NAME", help="create it if it is absent")
    options = parser.parse_args(argv)
    keys = _keys_from(os.environ)
    try:
        for name in options.queue:
            limits.check_queue_name(name, fifo=limits.is_fifo_name(name))
    except QueueError as error:
        parser.error(f"--queue {name}: {error}")
    # uvicorn raises the signal again after its graceful stop; being told to stop is a success.
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: sys.exit(0))
    _AnnouncingServer(
        options.data,
        keys,
        queues=options.queue,
        host=options.host,
        port=options.port,
        log_config=uvicorn.config.LOGGING_CONFIG,
    ).run()


if __name__ == "__main__":
    main()
