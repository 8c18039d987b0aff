"""RESP2 without a socket: commands into bytes, bytes into replies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias, cast

import hiredis

Argument: TypeAlias = bytes | str | int | float
Reply: TypeAlias = bytes | int | list[Any] | hiredis.ReplyError | None


class Status(bytes):
    """A status reply (`+…`), which is not a value that somebody stored."""

    __slots__ = ()


OK: Final = Status(b"OK")
_OK_LINE: Final = b"+OK\r\n"


def packed(command: Sequence[Argument]) -> bytes:
    """Give a command as Redis reads it from the wire."""
    return cast("bytes", hiredis.pack_command(cast("Any", tuple(command))))


class ReplyParser:
    """Bytes in, replies out. hiredis builds the values; this adds which of them was the status OK.

    hiredis gives a status and a bulk string as the same bytes. The raw bytes still know, so they are kept
    from the last reply boundary on and walked once more, but only when they can hold a status OK or when the
    boundary would be lost otherwise.
    """

    __slots__ = ("_raw", "_reader")

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._raw = bytearray()

    def feed(self, data: bytes, awaited: int) -> list[Reply]:
        """Give the replies that `data` completes, while `awaited` replies are outstanding.

        Raises hiredis.ProtocolError for what is not RESP.
        """
        self._reader.feed(data)
        self._raw += data
        replies: list[Reply] = []
        # RESP2 has no booleans: False is hiredis's word for "not yet".
        while (reply := self._reader.gets()) is not False:
            replies.append(reply)
        if not replies:
            return replies
        if len(replies) == awaited and _OK_LINE not in self._raw:
            self._raw.clear()
            return replies
        position = 0
        for index, reply in enumerate(replies):
            replies[index], position = self._marked(reply, position)
        del self._raw[:position]
        return replies

    def _marked(self, reply: Reply, position: int) -> tuple[Reply, int]:
        """Give the reply, whose raw bytes start at `position`, with its OKs marked, and where they end."""
        raw = self._raw
        end = raw.index(b"\r\n", position)
        kind = raw[position]
        if kind == ord("$"):
            size = int(raw[position + 1 : end])
            return reply, end + 2 if size < 0 else end + 2 + size + 2
        end += 2
        if kind == ord("*") and isinstance(reply, list):
            for index, item in enumerate(reply):
                reply[index], end = self._marked(item, end)
        elif kind == ord("+") and reply == b"OK":
            return OK, end
        return reply, end
