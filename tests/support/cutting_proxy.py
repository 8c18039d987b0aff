"""A TCP proxy before the stream function that cuts each client's connection after a number of bytes.

    async with CuttingProxy.running(stack.stream.port, plan) as proxy:
        ...  # clients talk to proxy.port

Afterwards ``proxy.cuts`` and ``proxy.inside_frame`` say how many there were, and how many fell inside a frame.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from infra.chaos.event_stream import EventStreamReader
from infra.local.loopback import HOST, shut

_READ_BYTES = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a connection ends: after so many bytes of its answer, then at once or with the frame that is under way.

    ``reset`` ends it with a RST instead of a FIN.
    """

    after_bytes: int
    at_frame_end: bool
    reset: bool


#: Decides from a client's name and the number of its connection (0 the first) where that one is cut, if at all.
Plan = Callable[[str, int], Cut | None]


def never(_client: str, _number: int) -> Cut | None:
    """Cut nothing."""
    return None


def seeded(seed: int, early_bytes: tuple[int, int], *, early: int, later_bytes: tuple[int, int]) -> Plan:
    """Cut each connection after a random number of bytes; the same seed gives the same plan.

    The first ``early`` connections of a client are cut in one range, the others in another. A quarter of the cuts
    falls between two frames.
    """

    def plan(client: str, number: int) -> Cut:
        rng = random.Random(f"{seed}:{client}:{number}")
        after = rng.randint(*(early_bytes if number < early else later_bytes))
        return Cut(after, at_frame_end=rng.random() < 0.25, reset=rng.random() < 0.5)

    return plan


class CuttingProxy:
    """Forwards each connection until its cut, and counts."""

    def __init__(self, target_port: int, plan: Plan) -> None:
        self.port = 0
        self.plan = plan
        self.cuts_of: Counter[str] = Counter()
        self.inside_frame = 0
        self._target_port = target_port
        self._connections_of: Counter[str] = Counter()
        self._serving: set[asyncio.Task[None]] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, target_port: int, plan: Plan) -> AsyncIterator[CuttingProxy]:
        """Listen on any port; at the end every connection is closed."""
        proxy = cls(target_port, plan)
        server = await asyncio.start_server(proxy._accept, HOST, 0)
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            server.close()
            for task in proxy._serving:
                task.cancel()
            await asyncio.gather(*proxy._serving, return_exceptions=True)
            await server.wait_closed()

    @property
    def cuts(self) -> int:
        """How many connections were cut."""
        return self.cuts_of.total()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # one of the two sides has gone, or the proxy ends
        finally:
            await shut(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        client = _client_of(head)
        cut = self.plan(client, self._connections_of[client])
        self._connections_of[client] += 1
        answers, requests = await asyncio.open_connection(HOST, self._target_port)
        left = asyncio.ensure_future(reader.read(1))
        forwarding = asyncio.ensure_future(self._forward(client, answers, writer, cut))
        try:
            requests.write(head)
            await asyncio.wait([left, forwarding], return_when=asyncio.FIRST_COMPLETED)
        finally:
            requests.close()
            for task in (left, forwarding):
                task.cancel()
            await asyncio.gather(left, forwarding, return_exceptions=True)
            await shut(requests)

    async def _forward(
        self, client: str, answers: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: Cut | None
    ) -> None:
        shears = None if cut is None else _Shears(cut)
        while data := await answers.read(_READ_BYTES):
            passed = data if shears is None else shears.pass_through(data)
            writer.write(passed)
            await writer.drain()
            if shears is not None and shears.closed:
                self.cuts_of[client] += 1
                self.inside_frame += shears.inside_frame
                if shears.cut.reset:
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                return


class _Shears:
    """Decides which bytes of one connection pass."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut
        self.closed = False
        self._passed = 0
        self._reader = EventStreamReader()

    @property
    def inside_frame(self) -> bool:
        return self._reader.inside_frame

    def pass_through(self, data: bytes) -> bytes:
        room = self.cut.after_bytes - self._passed
        end = min(len(data), max(0, room))
        self._reader.feed(data[:end])
        self._passed += end
        if self._passed < self.cut.after_bytes:
            return data
        while self.cut.at_frame_end and self._reader.inside_frame and end < len(data):
            self._reader.feed(data[end : end + 1])
            end += 1
        self.closed = not (self.cut.at_frame_end and self._reader.inside_frame)
        return data[:end]


def _client_of(head: bytes) -> str:
    target = head.split(b" ", 2)[1].decode()
    return parse_qs(urlsplit(target).query).get("client", [""])[0]
