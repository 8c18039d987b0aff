"""ReceiveMessage: at once, or by a long poll that ends as soon as there is something."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Mapping

from infra.local.queue.addresses import name_in
from infra.local.queue.core import Action, Answer, Asker, ClientLeftError, Core
from infra.local.queue.fields import Fields
from infra.local.queue.queues import Queue
from infra.local.queue.receiving import Received, Receiver, Wish, read_wish


class ReceiveAction:
    """ReceiveMessage. It waits by the event loop's clock."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.by_name: Mapping[str, Action] = {"ReceiveMessage": self._receive}

    async def _receive(self, fields: Fields, asker: Asker) -> Answer:
        name, wish = name_in(fields), read_wish(fields)
        loop = asyncio.get_running_loop()
        asked = loop.time()
        with self._core.bells.listening(name) as bell, contextlib.ExitStack() as watch:
            leaving: asyncio.Future[None] | None = None
            while True:
                # Cleared before the look: what is sent during it rings again.
                bell.clear()
                received = await self._look(name, wish)
                left_s = asked + received.wait_s - loop.time()
                if received.messages or left_s <= 0 or self._core.bells.stopped:
                    return {"Messages": received.messages} if received.messages else {}
                if leaving is None:
                    leaving = asyncio.ensure_future(asker.until_left())
                    leaving.add_done_callback(lambda _: bell.set())
                    watch.callback(leaving.cancel)
                if received.next_ms is not None:
                    # A millisecond more, as the clock's milliseconds are rounded down.
                    left_s = min(left_s, (received.next_ms - self._core.now_ms() + 1) / 1_000)
                with contextlib.suppress(TimeoutError):
                    # Python 3.11's `wait_for` hides a cancellation that comes together with what is waited for.
                    async with asyncio.timeout(max(left_s, 0)):
                        await bell.wait()
                if leaving.done():
                    # A message taken now would be hidden from everybody and be seen by nobody.
                    raise ClientLeftError

    async def _look(self, name: str, wish: Wish) -> Received:
        def receive(connection: sqlite3.Connection, queue: Queue) -> Received:
            core = self._core
            receiver = Receiver(
                connection, queue, now_ms=core.now_ms(), region=core.region, most_in_flight=core.most_in_flight
            )
            return receiver.receive(wish)

        received = await self._core.on_queue(name, receive)
        if received.redriven_to is not None:
            self._core.bells.ring(received.redriven_to)
        return received
