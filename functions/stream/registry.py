"""The open streams of this process: how many there may be, and how all of them end."""

from __future__ import annotations

from functions.stream.session import Stream
from shared.errors import ProcessFullError


class Registry:
    """Counts open streams against ``most``, and ends them all when the process shuts down."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._streams: set[Stream] = set()
        self._closing = False

    def __len__(self) -> int:
        return len(self._streams)

    def add(self, stream: Stream) -> None:
        """Count a stream in. Raises ProcessFullError when there is no room, or no time left."""
        if self._closing or len(self._streams) >= self._most:
            raise ProcessFullError(f"{len(self._streams)} streams are open.")
        self._streams.add(stream)

    def discard(self, stream: Stream) -> None:
        """Count a stream out."""
        self._streams.discard(stream)

    def shut_down(self) -> None:
        """End every stream with ``bye shutdown`` and take no more."""
        self._closing = True
        for stream in self._streams:
            stream.end("shutdown")
