"""Reading one HTTP answer that carries server-sent events, however its bytes arrive. Pure: bytes in, frames out.

Written from the standards (HTML, section 9.2; RFC 9112, section 7.1) and not from the project's own code, which
it is there to judge.
"""

from __future__ import annotations

from dataclasses import dataclass

_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands between two blank lines. ``data`` is None for a block that dispatches nothing."""

    name: str
    data: str | None
    id: str | None
    retry: str | None


class EventStreamReader:
    """Takes the bytes of one HTTP/1.1 answer and gives the frames that they complete.

    Bytes after the last complete frame are what a connection cut here would waste: see `inside_frame`.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.ended = False
        """Whether the body came to its proper end."""
        self._rest = b""
        self._chunk_left = 0
        self._block = b""

    @property
    def inside_frame(self) -> bool:
        """Whether a frame has begun and is not complete."""
        return bool(self._block)

    @property
    def leftover(self) -> bytes:
        """What the body holds after the last complete frame: all of it, when it is no event stream."""
        return self._block

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes. Raises ValueError for what is not HTTP, and for a CR in the body: it would end a line."""
        self._rest += data
        if self.status is None and not self._take_head():
            return []
        body = self._take_body()
        if b"\r" in body:
            raise ValueError(f"a CR in the event stream: {body!r}")
        *blocks, self._block = (self._block + body).split(b"\n\n")
        return [_frame(block.decode()) for block in blocks]

    def _take_head(self) -> bool:
        head, found, rest = self._rest.partition(_HEAD_END)
        if not found:
            return False
        status_line, *lines = head.decode("latin-1").split("\r\n")
        version, _, status = status_line.partition(" ")
        if not version.startswith("HTTP/1.1"):
            raise ValueError(f"not an answer: {status_line!r}")
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()
        self._rest = rest
        self.status = int(status[:3])
        return True

    def _take_body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            body, self._rest = self._rest, b""
            return body
        parts: list[bytes] = []
        while self._rest and not self.ended:
            if self._chunk_left > 0:
                part = self._rest[: self._chunk_left]
                self._rest = self._rest[len(part) :]
                self._chunk_left -= len(part)
                parts.append(part)
                continue
            # The CRLF that closes the chunk before stands in front of this one's size.
            line, found, rest = self._rest.removeprefix(b"\r\n").partition(b"\r\n")
            if not found:
                break
            self._rest = rest
            self._chunk_left = int(line, 16)
            self.ended = self._chunk_left == 0
        return b"".join(parts)


def _frame(block: str) -> Frame:
    name, identity, retry = "message", None, None
    data: list[str] = []
    for line in block.split("\n"):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            identity = value
        elif field == "retry":
            retry = value
    return Frame(name, "\n".join(data) if data else None, identity, retry)
