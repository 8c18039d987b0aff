"""One function under uvicorn, as a process: ``python -m infra.local.serve --port N webhook``.

The stream function is started by its own run.sh; these two run behind Mangum when deployed.
"""

from __future__ import annotations

import argparse

import uvicorn

from functions.replay import app as replay
from functions.webhook import app as webhook
from shared.settings import Function
from shared.start import start


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.serve")
    parser.add_argument("function", choices=("webhook", "replay"))
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    if options.function == "webhook":
        app = webhook.build_app(webhook.Deps.of(start(Function.WEBHOOK)))
    else:
        app = replay.build_app(replay.Deps.of(start(Function.REPLAY)))
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=options.port,
        log_level="warning",
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main()
