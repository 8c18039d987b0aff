"""The bare Starlette stream as a subject: one process takes an event and gives it to its streams."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import ClassVar

from bench.append import push_json
from bench.processes import UVICORN, Processes
from bench.raw_http import EventStream, request
from bench.subject import Server
from infra.local.stack import answers, free_port
from shared.envelope import envelope_of
from shared.push import parse_push


class Bare(Server):
    """Starlette's own StreamingResponse and a queue a stream, in memory."""

    name: ClassVar[str] = "bare Starlette"
    server: ClassVar[str | None] = "bare"
    strict: ClassVar[bool] = True

    def __init__(self, port: int) -> None:
        super().__init__(port, port)

    @classmethod
    async def start(cls, processes: Processes) -> Bare:
        """Start its process. Raises ChildError."""
        port = free_port()
        argv = [sys.executable, *UVICORN, "bench.bare_server:app", "--port", str(port)]
        await processes.start_child("bare", argv, {}, lambda: answers(f"http://127.0.0.1:{port}/healthz"))
        return cls(port)

    def request(self, mailbox: int, message_id: int) -> bytes:
        """Build one push: the event as it will be sent."""
        note = parse_push(push_json(mailbox, message_id), {}, received_at=datetime.now(UTC))
        return request("POST", f"/events/{mailbox}", self._push_port, {}, envelope_of(note).encode())

    def fault(self, status: int, body: bytes) -> str | None:
        """Return what is wrong with the answer to a push, if anything."""
        return None if status == 204 else f"a push was answered with {status} {body[:200]!r}"

    def stream_request(self, _stream: int, mailbox: int) -> bytes:
        """Build the request that opens a stream."""
        return request("GET", f"/events/{mailbox}", self.stream_port, {"Accept": "text/event-stream"})

    def take(self, number: int, stream: EventStream, frame: bytes) -> None:
        """Take a frame."""
        if frame.startswith(b"event: hello"):
            self._greeted(stream)
        else:
            self._arrived(frame, number)
