"""Ours: pushes to the webhook function's process, streams from the stream function's process."""

from __future__ import annotations

import time
from typing import ClassVar
from urllib.parse import quote

from bench.append import mailbox, push_json
from bench.processes import KEY_ID, Processes
from bench.raw_http import EventStream, request
from bench.subject import Server
from shared.tokens import mint
from shared.topic import gmail_topic

_TOKEN_S = 3600


class Ours(Server):
    """The product, over HTTP on both sides. Each stream is a user of its own, unless ``users`` says how many."""

    name: ClassVar[str] = "ours"
    server: ClassVar[str | None] = "stream"
    strict: ClassVar[bool] = True

    def __init__(self, processes: Processes, *, users: int | None = None) -> None:
        super().__init__(processes.ports.webhook, processes.ports.stream)
        self._key = processes.token_key
        self._users = users

    def request(self, mailbox: int, message_id: int) -> bytes:
        """Build one push."""
        return request("POST", "/push", self._push_port, {}, push_json(mailbox, message_id))

    def fault(self, status: int, body: bytes) -> str | None:
        """Return what is wrong with the answer to a push, if anything."""
        if status == 200 and b'"status":"published"' in body:
            return None
        return f"a push was answered with {status} {body[:200]!r}"

    def stream_request(self, stream: int, mailbox: int, start: str = "now") -> bytes:
        """Build the request that opens a stream."""
        path = f"/events?topic={quote(_topic(mailbox), safe='')}&client=bench{stream}&from={start}"
        headers = {"Authorization": f"Bearer {self.token(stream, mailbox)}", "Accept": "text/event-stream"}
        return request("GET", path, self.stream_port, headers)

    def token(self, stream: int, mailbox: int) -> str:
        """Mint the token of a stream's user."""
        user = stream if self._users is None else stream % self._users
        return mint(f"user{user}", [_topic(mailbox)], kid=KEY_ID, key=self._key, ttl_s=_TOKEN_S, now=time.time())

    def take(self, number: int, stream: EventStream, frame: bytes) -> None:
        """Take a frame."""
        if b"event: " not in frame:
            if b"data: " in frame:
                self._arrived(frame, number)
        elif b"event: tidemark.hello" in frame:
            self._greeted(stream)
        elif b"event: tidemark.hb" not in frame and self._ledger is not None:
            self._ledger.fault(f"stream {number} was told {frame!r}")


def _topic(number: int) -> str:
    return gmail_topic(mailbox(number))
