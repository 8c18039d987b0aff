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


async def shut(writer: asyncio.StreamWriter) -> None:
    """Close a connection, whatever state it is in."""
    writer.close()
    with contextlib.suppress(OSError, asyncio.CancelledError):
        await writer.wait_closed()


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
