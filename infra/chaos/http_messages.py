"""HTTP/1.1 messages as bytes, so that a proxy can pass them on unchanged, or break them where it wants (RFC 9112)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

_HEAD_END = b"\r\n\r\n"
_READ_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Head:
    """A first line and header fields. ``raw`` is what stood on the wire, ``fields`` have lower-case names."""

    raw: bytes
    first: str
    fields: dict[str, str]

    @property
    def target(self) -> str:
        """The target of a request: the path with its query."""
        return self.first.split(" ", 2)[1]

    @property
    def status(self) -> int:
        """The status of an answer."""
        return int(self.first.split(" ", 2)[1])

    @property
    def is_event_stream(self) -> bool:
        """Whether an answer is one that goes on until somebody ends it."""
        return self.fields.get("content-type", "").startswith("text/event-stream")

    @property
    def is_chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return self.fields.get("transfer-encoding", "").lower() == "chunked"

    @property
    def keeps_alive(self) -> bool:
        """Whether another message may follow on the connection."""
        return "close" not in self.fields.get("connection", "").lower()


async def read_head(reader: asyncio.StreamReader) -> Head:
    """Read a head. Raises IncompleteReadError when the connection ends first, ValueError for what is no HTTP."""
    raw = await reader.readuntil(_HEAD_END)
    first, *lines = raw[: -len(_HEAD_END)].decode("latin-1").split("\r\n")
    if " " not in first:
        raise ValueError(f"not HTTP: {first!r}")
    split = (line.partition(":") for line in lines)
    return Head(raw, first, {name.lower(): value.strip() for name, _, value in split})


async def read_body(reader: asyncio.StreamReader, head: Head, *, is_answer: bool) -> bytes:
    """Read a whole body as it stands on the wire, chunks included. Raises IncompleteReadError."""
    if head.is_chunked:
        return b"".join([raw async for raw, _ in chunks(reader)])
    if "content-length" in head.fields:
        return await reader.readexactly(int(head.fields["content-length"]))
    if is_answer and head.status not in (204, 304):
        return await reader.read(-1)
    return b""


async def chunks(reader: asyncio.StreamReader) -> AsyncIterator[tuple[bytes, bytes]]:
    """Give each chunk as it stands on the wire, and what it holds; the last one holds nothing.

    Raises IncompleteReadError when the connection ends first.
    """
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.partition(b";")[0], 16)
        data = await reader.readexactly(size + 2)
        yield line + data, data[:size]
        if size == 0:
            return


async def parts(reader: asyncio.StreamReader, head: Head) -> AsyncIterator[bytes]:
    """Give a body part by part, without its framing, as the parts arrive."""
    if head.is_chunked:
        async for _, data in chunks(reader):
            if data:
                yield data
    else:
        while data := await reader.read(_READ_BYTES):
            yield data


def content(head: Head, body: bytes) -> bytes:
    """Return what a body says, without its framing."""
    if not head.is_chunked:
        return body
    said = b""
    while body:
        line, _, body = body.partition(b"\r\n")
        size = int(line.partition(b";")[0], 16)
        said, body = said + body[:size], body[size + 2 :]
    return said


def chunk(data: bytes) -> bytes:
    """Frame data as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def answer(status: int, body: bytes, **fields: str) -> bytes:
    """Write a whole JSON answer. Underscores in the names of fields stand for hyphens."""
    lines = [f"HTTP/1.1 {status} X", "content-type: application/json", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
