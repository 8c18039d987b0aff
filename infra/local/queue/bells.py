"""Long polls that wait: each hears when something has changed in its queue, and when the server stops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


class Bells:
    """One bell for each receiver that waits, by the queue's name. All ring, and all look: one will find it."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self.stopped = False

    @contextlib.contextmanager
    def listening(self, name: str) -> Iterator[asyncio.Event]:
        """Give a bell of one's own."""
        bell = asyncio.Event()
        waiting = self._waiting.setdefault(name, set())
        waiting.add(bell)
        try:
            yield bell
        finally:
            waiting.discard(bell)
            if not waiting and self._waiting.get(name) is waiting:
                del self._waiting[name]

    def ring(self, name: str) -> None:
        """Say that messages of a queue may be there to receive."""
        for bell in self._waiting.get(name, ()):
            bell.set()

    def stop(self) -> None:
        """Let nobody wait any more."""
        self.stopped = True
        for waiting in self._waiting.values():
            for bell in waiting:
                bell.set()
