"""The floor: what the same Redis and gateway cost a client that does nothing but EVAL and SUBSCRIBE.

It sends the webhook function's own append script and arguments, and reads the same messages of the live feed as
the stream function does, by the same form of feed: a channel a mailbox, or one pattern for all where the product
takes one. It parses no push, checks nothing, and serves no client.
"""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import quote

from bench.append import Appends, mailbox
from bench.ledger import Ledger
from bench.processes import Processes
from bench.raw_http import Done, EventStream, request
from bench.subject import PUSH_CONNECTIONS, Audience, Sockets, all_of
from shared.live import MAX_CHANNEL_FEEDS
from shared.topic import gmail_topic


def uses_pattern(mailboxes: int) -> bool:
    """Whether the product carries so many mailboxes on one pattern feed."""
    return mailboxes > MAX_CHANNEL_FEEDS


class Floor:
    """Raw EVAL and SUBSCRIBE against the gateway."""

    name: ClassVar[str] = "floor"
    server: ClassVar[str | None] = None
    strict: ClassVar[bool] = True

    def __init__(self, processes: Processes) -> None:
        self._port = processes.ports.gateway
        self._token = processes.gateway_token
        self._appends = Appends("floor", self._port, self._token)
        self._sockets = Sockets()
        self._ledger: Ledger | None = None

    async def open(self, audience: Audience) -> None:
        """Open the connections and the feeds: each mailbox has one follower here."""
        self._sockets = Sockets()
        self._ledger = None
        await self._sockets.pool.open(self._port, PUSH_CONNECTIONS)
        if uses_pattern(audience.mailboxes):
            paths = [f"/psubscribe/{quote(f'{self._appends.keys.live_prefix}*', safe='')}"]
        else:
            topics = [gmail_topic(mailbox(number)) for number in range(audience.mailboxes)]
            paths = [f"/subscribe/{quote(self._appends.keys.live(topic), safe='')}" for topic in topics]
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "text/event-stream"}
        self._sockets.streams = await all_of(
            [EventStream.open(self._port, request("POST", path, self._port, headers), self._take) for path in paths]
        )
        await self._appends.settle(self._sockets.pool)

    def listen(self, ledger: Ledger) -> None:
        """Say where events are noted from now on."""
        self._ledger = ledger

    def request(self, mailbox: int, message_id: int) -> bytes:
        """Build one append."""
        return self._appends.request(mailbox, message_id)

    def send(self, data: bytes, done: Done) -> None:
        """Send one append."""
        self._sockets.pool.send(data, done)

    def fault(self, status: int, body: bytes) -> str | None:
        """Return what is wrong with the answer to an append, if anything."""
        return None if status == 200 and b'"0"' in body else f"an append was answered with {status} {body[:200]!r}"

    def ended(self) -> list[str]:
        """Return why feeds ended before they were closed."""
        return self._sockets.faults

    async def close(self) -> None:
        """Close everything."""
        self._sockets.close()

    def _take(self, stream: EventStream, frame: bytes) -> None:
        if frame.startswith((b"data: message,", b"data: pmessage,")):
            if self._ledger is not None:
                self._ledger.arrive(frame, None)
        elif not stream.opened.done():
            stream.opened.set_result(None)
