"""What goes on the wire for `upstash-redis`, and how answers are read."""

from __future__ import annotations

import json

import httpx
import pytest

from shared.http_pool import Headers, PooledTransport
from shared.rest_client import RestClient


class Wire(PooledTransport):
    """Keeps what is sent, and answers."""

    def __init__(self) -> None:
        super().__init__("http://redis.example:8080", max_connections=1)
        self.sent = b""
        self.answer: tuple[int, Headers, bytes] = (200, [(b"Upstash-SYNC-Token", b"abc")], b'{"result":"OK"}')

    async def exchange(self, data: bytes, *, connect_s: float) -> tuple[int, Headers, bytes]:
        """Send nothing."""
        assert connect_s == 1.0
        self.sent = data
        return self.answer


@pytest.mark.parametrize(("base", "target"), [("", b"/"), ("/", b"/"), ("/base/pipeline", b"/base/pipeline")])
async def test_a_post_is_one_whole_request_with_its_length(base: str, target: bytes) -> None:
    wire = Wire()
    url = f"http://redis.example:8080{base}"
    client = RestClient(url, wire, connect_timeout_s=1.0)
    answer = await client.post(url, headers={"Authorization": "Bearer t"}, json=["SET", "k", "ü\r\n"])
    head, _, body = wire.sent.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST %b HTTP/1.1" % target,
        b"Host: redis.example:8080",
        b"Authorization: Bearer t",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
    ]
    assert json.loads(body) == ["SET", "k", "ü\r\n"]
    assert answer.json() == {"result": "OK"}
    assert answer.headers.get("upstash-sync-token") == "abc"
    assert answer.headers.get("Upstash-Encoding") is None
    await client.aclose()


async def test_no_header_can_end_early() -> None:
    """The sync token comes from the server, and is sent back to it."""
    client = RestClient("http://redis.example:8080", Wire(), connect_timeout_s=1.0)
    with pytest.raises(httpx.LocalProtocolError):
        await client.post("http://redis.example:8080", headers={"Upstash-Sync-Token": "a\r\nX: y"}, json=[])


async def test_what_is_no_json_is_a_value_error_whatever_its_status() -> None:
    wire = Wire()
    wire.answer = (502, [], b"<html>")
    client = RestClient("http://redis.example:8080", wire, connect_timeout_s=1.0)
    answer = await client.post("http://redis.example:8080", headers={}, json=[])
    assert answer.status_code == 502
    with pytest.raises(ValueError, match="Expecting value"):
        answer.json()
