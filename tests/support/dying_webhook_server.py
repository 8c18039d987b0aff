"""The webhook under uvicorn, again and again, each time until it kills itself at a chosen suspension of a push.

    python -m tests.support.dying_webhook_server

Everything is imported once; each line on stdin (a number, -1 for never) has a fresh copy of the process started,
which serves until it is killed. What happens is told on stdout, a JSON object a line.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from functions.webhook.app import Deps, build_app
from infra.local.children import die_with
from infra.local.loopback import HOST
from shared.settings import Function
from shared.start import start
from tests.support.suspensions import counted


def tell(**what: int) -> None:
    """Tell it on stdout, at once."""
    os.write(1, json.dumps(what).encode() + b"\n")


class _Dying:
    """An application whose process dies when a request has been suspended so many times."""

    def __init__(self, app: ASGIApp, at: int) -> None:
        self._app = app
        self._at = at

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        suspensions = 0

        def note() -> None:
            nonlocal suspensions
            if suspensions == self._at:
                os.kill(os.getpid(), signal.SIGKILL)
            suspensions += 1

        async def serve() -> None:
            await self._app(scope, receive, send)

        await counted(serve(), note)
        tell(done=suspensions)


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        tell(ready=os.getpid())


def _serve(listening: socket.socket, at: int) -> None:
    app = build_app(Deps.of(start(Function.WEBHOOK)))
    config = uvicorn.Config(_Dying(app, at), lifespan="off", log_level="warning", proxy_headers=False)
    _Server(config).run(sockets=[listening])


def main() -> None:
    """Start one after the other until stdin ends."""
    listening = socket.socket()
    listening.bind((HOST, 0))
    listening.listen()
    tell(port=listening.getsockname()[1])
    for line in sys.stdin:
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            die_with(parent)
            _serve(listening, int(line))
            os._exit(0)
        os.waitpid(child, 0)
        tell(ended=child)


if __name__ == "__main__":
    main()
