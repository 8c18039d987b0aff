"""Connections on this machine: where they go, and how they are closed without a trace."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct

HOST = "127.0.0.1"
# Below the range from which the kernel takes the local ports of clients: while a part is away, a client that keeps
# trying to reach it must not be given its port, nor connect to itself.
_PORTS = range(20_000, 32_000)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_FLUSHED_WITHIN_S = 5.0


async def shut(writer: asyncio.StreamWriter) -> None:
    """Close a connection, whatever state it is in, and return when it is closed.

    What was written still goes out, if the other side takes it in time. A cancellation passes, and the connection is
    closed all the same.
    """
    writer.close()
    # In a task of its own: a cancellation would reach the future of the connection, and whoever waits for that next.
    closing = asyncio.ensure_future(writer.wait_closed())
    closing.add_done_callback(_take_note)
    try:
        await asyncio.wait([closing], timeout=_FLUSHED_WITHIN_S)
    finally:
        if writer.transport.get_write_buffer_size():
            writer.transport.abort()


def _take_note(closing: asyncio.Future[None]) -> None:
    """Hear how it ended: one that broke is closed as well."""
    if not closing.cancelled():
        closing.exception()


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a RST instead of a FIN."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


def steady_port() -> int:
    """Give a free port that stays free while nobody listens on it."""
    while True:
        port = random.SystemRandom().choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port
