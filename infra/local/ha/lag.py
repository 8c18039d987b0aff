"""A front of a Redis that makes its replica lag behind: `python -m infra.local.ha.lag --port P --target Q --lag S`.

What Redis sends to a replica is passed on S seconds later; everybody else notices nothing. When the Redis behind it
dies, what it had not passed on yet is lost, as what a real primary had not sent yet would be. Replicas, Sentinels and
clients know the front's port only (the Redis announces it), so that nobody finds a replica that follows the wrong
address and puts that right.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from infra.local.loopback import HOST

# With this a replica asks for the stream of changes; it has waited for the answer to all that it said before.
_PSYNC: Final = b"*3\r\n$5\r\nPSYNC\r\n"
_READ_BYTES: Final = 65_536


class LaggingFront:
    """Passes connections on to a Redis. ``lag_s`` holds for those of replicas, in their direction."""

    def __init__(self, target_port: int, lag_s: float) -> None:
        self._target_port = target_port
        self._lag_s = lag_s

    async def serve(self, port: int) -> None:
        """Serve for ever."""
        server = await asyncio.start_server(self._connected, HOST, port)
        async with server:
            await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            redis_reader, redis_writer = await asyncio.open_connection(HOST, self._target_port)
        except OSError:
            writer.transport.abort()
            return
        replicates = asyncio.Event()
        flows = [
            asyncio.ensure_future(_requests(reader, redis_writer, replicates)),
            asyncio.ensure_future(self._answers(redis_reader, writer, replicates)),
        ]
        try:
            await asyncio.wait(flows, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for flow in flows:
                flow.cancel()
            await asyncio.gather(*flows, return_exceptions=True)
            for end in (writer, redis_writer):
                end.close()  # what was written already still goes out

    async def _answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, replicates: asyncio.Event
    ) -> None:
        """Pass on what Redis says, late if a replica listens. The end is not late: it takes along what waits."""
        # It holds what comes in `lag_s`, however much that is: a front is for drills and tests.
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        late = asyncio.ensure_future(_late(waiting, writer))
        clock = asyncio.get_running_loop().time
        try:
            with contextlib.suppress(OSError):
                while data := await reader.read(_READ_BYTES):
                    if replicates.is_set():
                        waiting.put_nowait((clock() + self._lag_s, data))
                    else:
                        writer.write(data)
                        await writer.drain()
        finally:
            late.cancel()


async def _requests(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, replicates: asyncio.Event) -> None:
    """Pass on what a client says, and notice when it turns out to be a replica."""
    with contextlib.suppress(OSError):
        while data := await reader.read(_READ_BYTES):
            if data.startswith(_PSYNC):
                replicates.set()
            writer.write(data)
            await writer.drain()


async def _late(waiting: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while True:
            due, data = await waiting.get()
            await asyncio.sleep(due - loop.time())
            writer.write(data)
            await writer.drain()


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.ha.lag", description="A replica that lags behind")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--target", type=int, required=True, help="the port of the Redis behind it")
    parser.add_argument("--lag", type=float, required=True, metavar="S")
    options = parser.parse_args(argv)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(LaggingFront(options.target, options.lag).serve(options.port))


if __name__ == "__main__":
    main()
