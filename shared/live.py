"""The live feed: what Redis announces now, over Upstash's SSE ``SUBSCRIBE``.

It is fast and promises nothing: it may drop a message, double it, or go silent without closing. Whoever listens
proves each message by its ``prev`` and reads the log when that fails (see `shared.hub`).

One connection a topic while topics are few; beyond a threshold one pattern connection carries them all, so that
the number of upstream connections is bounded whatever the number of topics.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Iterable
from typing import Protocol
from urllib.parse import quote

import httpx

from shared.http_pool import PooledTransport
from shared.keys import Keys
from shared.sse import LineDecoder

logger = logging.getLogger("tidemark.live")

CONNECT_TIMEOUT_S = 1.0
#: How long Redis may take to confirm a subscription.
SUBSCRIBED_TIMEOUT_S = 3.0
#: Pause before a dropped feed is opened again: doubled each time up to the longest, and jittered.
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
#: Up to so many topics have a connection each; above, the pattern feed carries all. Coming back from it waits
#: for half of that, so that a process at the threshold does not swing between the two.
MAX_CHANNEL_FEEDS = 32

# What stays as it is in a path (RFC 3986, pchar), as Upstash's own client sends it.
_PLAIN = ":@*"

# A peer that vanished without a word looks like silence: the kernel asks after 30 s, and gives up 30 s later.
_KEEPALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
]


class Listener(Protocol):
    """Who hears the feed. Both methods are called from the event loop and must not block."""

    def feed_opened(self, topics: Iterable[str]) -> None:
        """Say that Redis has (again) confirmed the subscription of these topics; earlier messages may be lost."""

    def feed_message(self, topic: str, message: str) -> None:
        """Take one message of a topic."""


class LiveFeed:
    """The upstream connections of one process. ``start`` and ``close`` belong to its event loop."""

    def __init__(self, url: str, token: str, keys: Keys, *, max_channel_feeds: int = MAX_CHANNEL_FEEDS) -> None:
        self._prefix = keys.live_prefix
        self._max_channel_feeds = max_channel_feeds
        transport = PooledTransport(
            url,
            # Both kinds of feed are open for a moment when one takes over from the other.
            max_connections=max_channel_feeds + 2,
            socket_options=_KEEPALIVE,
        )
        self._client = httpx.AsyncClient(
            base_url=url.rstrip("/"),
            headers={"Authorization": f"Bearer {token}", "Accept": "text/event-stream"},
            transport=transport,
            timeout=httpx.Timeout(CONNECT_TIMEOUT_S, read=None),
        )
        self._listener: Listener | None = None
        self._topics: set[str] = set()
        self._channels: dict[str, _Feed] = {}
        self._pattern: _Feed | None = None
        self._waiters: set[asyncio.Future[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()

    def start(self, listener: Listener) -> None:
        """Say who hears the messages."""
        self._listener = listener

    @property
    def open_connections(self) -> int:
        """How many feeds are open now."""
        feeds = [*self._channels.values(), *([self._pattern] if self._pattern else [])]
        return sum(feed.opened for feed in feeds)

    def follow(self, topic: str) -> None:
        """Begin to listen to a topic. Not open yet when this returns: see `opened`."""
        self._topics.add(topic)
        self._arrange()

    def unfollow(self, topic: str) -> None:
        """Stop listening to a topic."""
        self._topics.discard(topic)
        self._arrange()

    async def opened(self, topics: Iterable[str]) -> None:
        """Wait until Redis has confirmed the subscription of followed topics."""
        waiting = [topic for topic in topics if not self._is_open(topic)]
        while waiting:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
            waiting = [topic for topic in waiting if not self._is_open(topic)]

    def suspect(self, topic: str) -> None:
        """Open a topic's feed anew: it has been silent about an event that the log holds."""
        for feed in self._feeds_of(topic):
            feed.restart()

    async def close(self) -> None:
        """Close every connection."""
        self._topics.clear()
        self._arrange()
        if self._closing:
            await asyncio.wait(self._closing)
        await self._client.aclose()

    def _is_open(self, topic: str) -> bool:
        return any(feed.opened for feed in self._feeds_of(topic))

    def _feeds_of(self, topic: str) -> list[_Feed]:
        channel = self._channels.get(topic)
        return [feed for feed in (channel, self._pattern) if feed is not None]

    def _arrange(self) -> None:
        """Bring the connections in line with the topics. What takes over is opened before what it replaces ends."""
        count = len(self._topics)
        crowded = count > (self._max_channel_feeds if self._pattern is None else self._max_channel_feeds // 2)
        if crowded and self._pattern is None:
            path = f"/psubscribe/{quote(f'{self._prefix}*', safe=_PLAIN)}"
            self._pattern = _Feed(self._client, path, self._pattern_opened, self._pattern_message)
        if not crowded:
            for topic in self._topics - self._channels.keys():
                self._channels[topic] = self._channel_feed(topic)
            self._end_pattern_if_replaced()
        for topic in self._channels.keys() - self._topics:
            self._end(self._channels.pop(topic))

    def _channel_feed(self, topic: str) -> _Feed:
        def opened() -> None:
            self._tell_opened((topic,))
            self._end_pattern_if_replaced()

        def message(_channel: str, text: str) -> None:
            self._tell(topic, text)

        path = f"/subscribe/{quote(f'{self._prefix}{topic}', safe=_PLAIN)}"
        return _Feed(self._client, path, opened, message)

    def _pattern_opened(self) -> None:
        for topic in list(self._channels):
            self._end(self._channels.pop(topic))
        self._tell_opened(tuple(self._topics))

    def _pattern_message(self, channel: str, text: str) -> None:
        topic = channel.removeprefix(self._prefix)
        if topic in self._topics:
            self._tell(topic, text)

    def _end_pattern_if_replaced(self) -> None:
        pattern = self._pattern
        if pattern is None or len(self._topics) > self._max_channel_feeds // 2:
            return
        if all(t in self._channels and self._channels[t].opened for t in self._topics):
            self._pattern = None
            self._end(pattern)

    def _end(self, feed: _Feed) -> None:
        task = feed.end()
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _tell_opened(self, topics: Iterable[str]) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self._listener is not None:
            self._listener.feed_opened(topics)

    def _tell(self, topic: str, text: str) -> None:
        if self._listener is not None:
            self._listener.feed_message(topic, text)


class _OnOpened(Protocol):
    def __call__(self) -> None: ...


class _OnMessage(Protocol):
    def __call__(self, channel: str, text: str, /) -> None: ...


class _Feed:
    """One upstream connection, opened again for as long as it is wanted."""

    def __init__(self, client: httpx.AsyncClient, path: str, on_opened: _OnOpened, on_message: _OnMessage) -> None:
        self.opened = False
        self._opened_at = 0.0
        self._client = client
        self._path = path
        self._on_opened = on_opened
        self._on_message = on_message
        self._ended = False
        self._attempt = self._start()
        self._task = asyncio.ensure_future(self._run())

    def restart(self) -> None:
        """Drop the connection and open it again."""
        self._attempt.cancel()

    def end(self) -> asyncio.Task[None]:
        """Drop the connection for good; the task returned is done when it is closed."""
        self._ended = True
        self._attempt.cancel()
        self._task.cancel()
        return self._task

    def _start(self) -> asyncio.Task[None]:
        return asyncio.ensure_future(self._listen())

    async def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        try:
            while not self._ended:
                await asyncio.wait([self._attempt])
                # One that opens only to close again is no success: each try is a request, and a read after it.
                lasted = self.opened and asyncio.get_running_loop().time() - self._opened_at > LONGEST_PAUSE_S
                self.opened = False
                if lasted:
                    pause_s = FIRST_PAUSE_S
                self._note_end()
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                self._attempt = self._start()
        except asyncio.CancelledError:
            await asyncio.wait([self._attempt])
            self._note_end()

    def _note_end(self) -> None:
        """Log why a connection ended; a defect of ours is shown whole, and the feed goes on all the same."""
        if self._attempt.cancelled():
            return
        error = self._attempt.exception()
        expected = isinstance(error, httpx.HTTPError | TimeoutError | ValueError | None)
        if not expected:
            logger.error("the live feed broke", exc_info=error)
        elif not self._ended:
            logger.info("the live feed ended", extra={"reason": f"{type(error).__name__}: {error}"})

    async def _listen(self) -> None:
        """Listen on one connection until it ends. Raises httpx.HTTPError, TimeoutError or ValueError."""
        decoder = LineDecoder()
        async with asyncio.timeout(SUBSCRIBED_TIMEOUT_S) as patience:
            async with self._client.stream("POST", self._path) as response:
                if response.status_code != httpx.codes.OK:
                    raise ValueError(f"the live feed answered {response.status_code}")
                async for chunk in response.aiter_raw():
                    for line in decoder.feed(chunk):
                        if line.startswith(b"data:"):
                            self._take(line[5:].strip().decode(), patience)

    def _take(self, text: str, patience: asyncio.Timeout) -> None:
        kind, _, rest = text.partition(",")
        if kind == "message":
            channel, _, payload = rest.partition(",")
            self._on_message(channel, payload)
        elif kind == "pmessage":
            _pattern, channel, payload = rest.split(",", 2)
            self._on_message(channel, payload)
        elif kind in ("subscribe", "psubscribe"):
            patience.reschedule(None)
            self.opened = True
            self._opened_at = asyncio.get_running_loop().time()
            self._on_opened()
