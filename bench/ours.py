"""Ours: pushes to the webhook function's process, streams from the stream function's process."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import quote

from bench.append import mailbox, push_json
from bench.ledger import Ledger
from bench.processes import KEY_ID, Processes
from bench.raw_http import Done, EventStream, request
from bench.subject import PUSH_CONNECTIONS, Sockets, all_of
from shared.tokens import mint
from shared.topic import gmail_topic

_TOKEN_S = 3600


class Ours:
    """The product, over HTTP on both sides. Each stream is a user of its own with one mailbox."""

    name = "ours"

    def __init__(self, processes: Processes) -> None:
        self._ports = processes.ports
        self._key = processes.token_key
        self._sockets = Sockets()
        self._ledger: Ledger | None = None

    async def open(self, streams: int) -> None:
        """Open the push connections and one stream a mailbox."""
        self._sockets = Sockets()
        self._ledger = None
        await self._sockets.pool.open(self._ports.webhook, PUSH_CONNECTIONS)
        port = self._ports.stream
        self._sockets.streams = await all_of(
            [EventStream.open(port, self._stream_request(n), self._reader(n)) for n in range(streams)]
        )

    def listen(self, ledger: Ledger) -> None:
        """Say where events are noted from now on."""
        self._ledger = ledger

    def request(self, stream: int, message_id: int) -> bytes:
        """Build one push."""
        return request("POST", "/push", self._ports.webhook, {}, push_json(stream, message_id))

    def send(self, data: bytes, done: Done) -> None:
        """Send one push."""
        self._sockets.pool.send(data, done)

    async def push(self, stream: int, message_id: int) -> None:
        """Send one push and wait for its answer."""
        status, body = await self._sockets.pool.fetch(self.request(stream, message_id))
        assert self.fault(status, body) is None, body

    def fault(self, status: int, body: bytes) -> str | None:
        """Return what is wrong with the answer to a push, if anything."""
        if status == 200 and b'"status":"published"' in body:
            return None
        return f"a push was answered with {status} {body[:200]!r}"

    def ended(self) -> list[str]:
        """Return why streams ended before they were closed."""
        return self._sockets.faults

    async def close(self) -> None:
        """Close everything."""
        self._sockets.close()

    def _stream_request(self, number: int) -> bytes:
        topic = gmail_topic(mailbox(number))
        token = mint(f"user{number}", [topic], kid=KEY_ID, key=self._key, ttl_s=_TOKEN_S, now=time.time())
        path = f"/events?topic={quote(topic, safe='')}&client=bench{number}"
        headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
        return request("GET", path, self._ports.stream, headers)

    def _reader(self, number: int) -> Callable[[EventStream, bytes], None]:
        def take(stream: EventStream, frame: bytes) -> None:
            if b"event: " not in frame:
                if self._ledger is not None and b"data: " in frame:
                    self._ledger.arrive(frame, number)
            elif b"event: tidemark.hello" in frame:
                if not stream.opened.done():
                    stream.opened.set_result(None)
            elif b"event: tidemark.hb" not in frame and self._ledger is not None:
                self._ledger.fault(f"stream {number} was told {frame!r}")

        return take
