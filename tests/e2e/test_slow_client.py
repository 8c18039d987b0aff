"""A client that reads nothing while its mailbox gets thousands of events harms nobody, and misses nothing."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from pathlib import Path

import httpx
import psutil

from functions.stream.buffer import MAX_BYTES, MAX_EVENTS
from infra.chaos.event_stream import EventStreamReader
from infra.chaos.part import Part
from infra.local.loopback import shut
from shared.keys import Keys
from shared.log import Log
from shared.retention import Retention
from shared.tokens import mint
from tests.support.faulty_gateway import plain_upstash
from tests.support.gateway import NO_TLS
from tests.support.recorder import Recorder, following
from tests.support.stack import KID, TOKEN_KEY, Stack
from tests.support.waiting import until

logger = logging.getLogger(__name__)

BOX = "ann@example.com"
TOPIC = f"gmail:{BOX}"
EVENTS = 10_000
#: More than kernels take for a client that does not read.
EVENT_BYTES = 700
OTHERS = 4
MIB = 1024 * 1024


async def test_who_reads_nothing_costs_little_and_gets_every_event_when_it_reads_on(tmp_path: Path) -> None:
    """Ten thousand events for it and for some others, who get them all meanwhile."""
    settings = {"TIDEMARK_TOPIC_MAX_EVENTS": str(2 * EVENTS)}
    async with Stack.running(tmp_path, settings=settings) as stack:
        others = [Recorder(stack.stream.port, [TOPIC], name=f"other{n}") for n in range(OTHERS)]
        async with following(*others):
            silent = await _Silent.open(stack.stream.port)
            before = _pss(stack.stream)
            written = await _append(stack, EVENTS)
            await until(lambda: all(len(o.events) == EVENTS for o in others), "the others have all", timeout_s=60)
            grown = _pss(stack.stream) - before
            told = await _load(stack)
            await silent.read_on(written[-1])
            await silent.leave()
    logger.info("the process has grown by %.1f MiB; %s", grown / MIB, told)
    assert silent.positions == written
    assert grown < 5 * MIB
    assert told["buffered_events_most"] <= MAX_EVENTS
    assert told["buffered_bytes_most"] <= MAX_BYTES
    assert told["open"] == OTHERS + 1
    assert told["slow_consumers"] == 0
    assert [len(other.connections) for other in others] == [1] * OTHERS


class _Silent:
    """A client that reads the greeting of its stream, and then nothing until it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.positions: list[str] = []
        self._reader = reader
        self._writer = writer
        self._frames = EventStreamReader()
        self._greeted = False

    @classmethod
    async def open(cls, port: int) -> _Silent:
        """Open a stream. The kernel takes next to nothing for it while it does not read."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        client = cls(*await asyncio.open_connection(sock=sock, limit=4096))
        token = mint("silent", [TOPIC], kid=KID, key=TOKEN_KEY, ttl_s=600, now=time.time())
        lines = ["GET /events?client=silent HTTP/1.1", "Host: x", f"Authorization: Bearer {token}"]
        client._writer.write("\r\n".join([*lines, "", ""]).encode())
        async with asyncio.timeout(10):
            while not client._greeted:
                await client._read()
        return client

    async def read_on(self, position: str) -> None:
        """Read until the event at a position has come."""
        async with asyncio.timeout(60):
            while not self.positions or self.positions[-1] != position:
                await self._read()

    async def leave(self) -> None:
        """Close the connection."""
        await shut(self._writer)

    async def _read(self) -> None:
        data = await self._reader.read(65_536)
        assert data, "the stream ended"
        for frame in self._frames.feed(data):
            self._greeted = self._greeted or frame.name == "tidemark.hello"
            if frame.name == "message" and frame.data is not None:
                self.positions.append(json.loads(frame.data)["position"])


async def _append(stack: Stack, count: int) -> list[str]:
    """Append events past the webhook, some at a time; returns their positions in order."""
    upstash = plain_upstash(stack.gateway.url, stack.gateway_token, max_connections=8)
    log = Log(upstash, Keys("dev"), Retention(keep_s=3600, topic_max_events=2 * EVENTS, dedupe_s=3600))
    filler = "x" * EVENT_BYTES
    numbers = iter(range(count))
    positions: list[str] = []

    async def some() -> None:
        for number in numbers:
            envelope = json.dumps({"id": str(number), "source": "s", "topic": TOPIC, "filler": filler})
            appended = await log.append(
                topic=TOPIC, envelope=envelope, subscription="s", message_id=str(number), timeout_s=10
            )
            positions.append(str(appended.position))

    try:
        await asyncio.gather(*(some() for _ in range(8)))
    finally:
        await upstash.close()
    return sorted(positions, key=lambda text: tuple(map(int, text.split("-"))))


async def _load(stack: Stack) -> dict[str, int]:
    async with httpx.AsyncClient(verify=NO_TLS, trust_env=False) as http:
        told: dict[str, int] = (await http.get(f"{stack.stream.url}/healthz", timeout=10)).json()["streams"]
        return told


def _pss(part: Part) -> int:
    """Return what a process holds of the machine's memory, bytes."""
    return int(psutil.Process(part.pid).memory_full_info().pss)
