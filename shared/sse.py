"""Server-sent events: the frames we write, and the lines that Upstash's live feed sends.

Source: HTML standard, section 9.2 (server-sent events). Everything here takes values and returns bytes.
"""

from __future__ import annotations

import json
from typing import Any

from shared.entry import Entry, Gap
from shared.envelope import with_position
from shared.position import Position

CONTENT_TYPE = "text/event-stream"
#: What a native EventSource waits before it reconnects, ms.
RETRY_MS = 2000
#: The same after a `bye` that asks for no reconnect: long enough that tabs do not fight over slots.
RETRY_NEVER_MS = 3_600_000


def _json(data: Any) -> bytes:
    # ASCII JSON holds no raw line end (CR, LF, U+2028), so a value can never end a frame.
    return json.dumps(data, separators=(",", ":")).encode("ascii")


def frame(*, event: str | None = None, data: bytes, cursor: Position | None = None) -> bytes:
    """Build one event. ``data`` must be one line; the blank line that dispatches it is included."""
    head = b"" if cursor is None else b"id: %d-%d\n" % cursor
    name = b"" if event is None else b"event: %s\n" % event.encode("ascii")
    return b"%s%sdata: %s\n\n" % (head, name, data)


def retry(ms: int) -> bytes:
    """Build the field that sets a client's reconnection time, in milliseconds (digits only, by the standard)."""
    return b"retry: %d\n\n" % ms


def event_data(entry: Entry) -> bytes:
    """Build an event's frame without its ``id:`` line: the part that is the same for every stream."""
    return b"data: %s\n\n" % with_position(entry.envelope, entry.position).encode("ascii")


def id_line(cursor: Position) -> bytes:
    """Build the line that moves a client's last event id; it must stand directly before a frame."""
    return b"id: %d-%d\n" % cursor


def hello(
    *,
    connection: str,
    client: str,
    topics: tuple[str, ...],
    cursor: Position,
    expires_in_s: int,
    heartbeat_s: int,
) -> bytes:
    """Build the first frame of a stream. It carries the start cursor as its id."""
    data = {
        "connection": connection,
        "client": client,
        "topics": list(topics),
        "cursor": str(cursor),
        "expires_in_s": expires_in_s,
        "heartbeat_s": heartbeat_s,
    }
    return frame(event="tidemark.hello", data=_json(data), cursor=cursor)


def heartbeat(cursor: Position | None, *, coalesced: int = 0) -> bytes:
    """Build a heartbeat; with a cursor when it has advanced since the client was last told.

    ``coalesced`` events of low priority were left out since the last one, because newer ones took their place.
    """
    return frame(event="tidemark.hb", data=_json({"coalesced": coalesced} if coalesced else {}), cursor=cursor)


def gap(told: Gap, cursor: Position | None) -> bytes:
    """Build the frame that says that events may be lost."""
    data = {"topic": told.topic, "after": str(told.after), "resume": str(told.resume)}
    return frame(event="tidemark.gap", data=_json(data), cursor=cursor)


def bye(reason: str, *, reconnect: bool, retry_ms: int | None = None) -> bytes:
    """Build the last frame of a stream.

    ``retry_ms`` overrides what a native EventSource waits; with ``reconnect=False`` it is an hour.
    """
    wait_ms = retry_ms if reconnect else RETRY_NEVER_MS
    head = b"" if wait_ms is None else b"retry: %d\n" % wait_ms
    return head + frame(event="tidemark.bye", data=_json({"reason": reason, "reconnect": reconnect}))


class LineDecoder:
    """Split a byte stream into lines ended by CR, LF or CRLF, however the bytes arrive.

    ``max_line`` bounds what an endless line may hold in memory; beyond it ValueError is raised.
    """

    def __init__(self, max_line: int = 1_048_576) -> None:
        self._rest = b""
        self._max_line = max_line
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, return the lines that they complete, without their line ends."""
        if data:
            split_crlf = self._after_cr and data.startswith(b"\n")
            self._after_cr = data.endswith(b"\r")
            if split_crlf:
                data = data[1:]  # the LF of a CRLF whose CR came with the bytes before
        buffer = self._rest + data
        if b"\r" in buffer:
            buffer = buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._rest = buffer.split(b"\n")
        # A line that is too long may also be completed by these very bytes.
        if len(buffer) > self._max_line and any(len(line) > self._max_line for line in (*lines, self._rest)):
            raise ValueError("a line of the live feed is too long")
        return lines
