"""The keys that pushes are signed with, and the server in the harness that publishes them, in Google's place."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator

from infra.chaos.http_messages import answer, read_head
from infra.local.loopback import HOST, shut
from infra.local.push_signer import PushSigner, new_key

PATH = "/certs"


@functools.cache
def signer() -> PushSigner:
    """Give a key: always the same one, because making it takes a while."""
    return PushSigner(new_key())


@contextlib.asynccontextmanager
async def key_server() -> AsyncIterator[int]:
    """Serve the key set on the port that is given."""
    body = answer(200, json.dumps(signer().key_set()).encode(), connection="close")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            await read_head(reader)
            writer.write(body)
        await shut(writer)

    server = await asyncio.start_server(serve, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
