"""Upstash's REST API over a local Redis: what the application talks to when there is no cloud.

    TIDEMARK_GATEWAY_TOKEN=… python -m infra.local.gateway --port 8079 --redis-url redis://127.0.0.1:6379

It follows https://upstash.com/docs/redis/features/restapi (statuses, encodings, path form, pipeline,
multi-exec) and, where that is silent, what real clients and users have seen. It accepts nothing that Upstash
refuses: code that works here must work there. Two things are its own: 503 when Redis is away, and
`GET /_gateway/stats`.

With `--redis-url redis+sentinel://host:port,host:port,host:port/NAME` it follows the primary that Redis Sentinels
name: what led to the old one ends with a failover, feeds included, so that clients open them again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from infra.local.resp import upstream_of
from infra.local.rest_routes import Connection, Gateway, Router

TOKEN_VARIABLE: Final = "TIDEMARK_GATEWAY_TOKEN"  # noqa: S105 - the variable's name


def build_gateway(redis_url: str, token: str) -> Starlette:
    """Build the ASGI application: Upstash's REST API for `token`, over the Redis at `redis_url`.

    It opens its connection to Redis with the first command and closes it with the lifespan's end. Raises
    ValueError for a URL that is not `redis://…`, `unix:///…` or `redis+sentinel://…`, and for an empty token.
    """
    upstream = upstream_of(redis_url)
    if not token:
        raise ValueError("the gateway's token is empty")
    gateway = Gateway(upstream, token)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await gateway.close()

    app = Starlette(lifespan=lifespan)
    app.router.default = Router(gateway)
    app.state.end_feeds = gateway.end_feeds
    return app


class _CountingProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with one object per TCP connection in the scope's state."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it
        self.app_state = {**self.app_state, "connection": Connection()}
        super().connection_made(transport)


class GatewayServer(uvicorn.Server):
    """uvicorn with the gateway in it. It stops at once, open feeds or not: by `should_exit` or SIGTERM."""

    def __init__(
        self, redis_url: str, token: str, *, host: str = "127.0.0.1", port: int = 0, log_config: Any = None
    ) -> None:
        app = build_gateway(redis_url, token)
        self._end_feeds: Callable[[], None] = app.state.end_feeds
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                loop="uvloop",
                http=_CountingProtocol,
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
        """End the feeds first: uvicorn waits for its open answers."""
        self._end_feeds()
        await super().shutdown(sockets)


def _token_from(file: Path | None, environment: Mapping[str, str]) -> str:
    token = file.read_text(encoding="utf-8").strip() if file is not None else environment.get(TOKEN_VARIABLE, "")
    if not token:
        raise SystemExit(f"no token: give --token-file, or set {TOKEN_VARIABLE}")
    return token


def main(argv: Sequence[str] | None = None) -> None:
    """Run the gateway until SIGTERM or SIGINT. The token never stands in argv, where every user sees it."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.gateway", description="Upstash's REST API, locally")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--redis-url",
        required=True,
        help="redis://host:port/db, unix:///path or redis+sentinel://host:port,host:port/NAME",
    )
    parser.add_argument("--token-file", type=Path, help=f"default: the variable {TOKEN_VARIABLE}")
    options = parser.parse_args(argv)
    token = _token_from(options.token_file, os.environ)
    # uvicorn raises the signal again after its graceful stop; being told to stop is a success.
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: sys.exit(0))
    log_config = uvicorn.config.LOGGING_CONFIG
    try:
        server = GatewayServer(options.redis_url, token, host=options.host, port=options.port, log_config=log_config)
    except ValueError as error:
        parser.error(str(error))
    server.run()


if __name__ == "__main__":
    main()
