"""The clients of the chaos harness against a scripted server: how each says where it was, and when it gives up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from infra.chaos.http_messages import Head, answer, read_body, read_head
from infra.chaos.origin import Origin
from infra.chaos.poller import AckingClient, Poller
from infra.chaos.poster import Poster
from infra.chaos.stream_client import Connection, End, Resume, StreamClient
from infra.local.loopback import HOST, shut
from tests.support.waiting import until

TOPIC = "gmail:ann@example.com"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\nretry: 10\n\n"


def frame(name: str, identity: str, data: Any) -> bytes:
    return f"id: {identity}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()


def hello(cursor: str = "1-0", heartbeat_s: float = 15) -> bytes:
    return frame("tidemark.hello", cursor, {"cursor": cursor, "heartbeat_s": heartbeat_s})


def event(position: str) -> dict[str, Any]:
    return {"source": "s", "id": f"m{position}", "topic": TOPIC, "position": position}


def message(position: str) -> bytes:
    return frame("message", position, event(position))


@asynccontextmanager
async def server(
    answers: Callable[[Head, bytes], bytes | None], *, stays_open: bool = False
) -> AsyncIterator[tuple[Origin, list[Head]]]:
    """Answer each request, and close the connection, unless it stays open; None keeps it open without a word."""
    asked: list[Head] = []
    closing = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        asked.append(head)
        said = answers(head, await read_body(reader, head, is_answer=False))
        writer.write(said or STREAM + hello(heartbeat_s=0.05))
        if said is None or stays_open:
            await closing.wait()
        await shut(writer)

    listening = await asyncio.start_server(serve, HOST, 0)
    try:
        yield Origin.local(listening.sockets[0].getsockname()[1]), asked
    finally:
        closing.set()
        listening.close()


def client(origin: Origin, **more: Any) -> StreamClient:
    return StreamClient(origin, [TOPIC], name="c", token="t", **more)


@pytest.mark.parametrize(
    ("resume", "field", "query"),
    [
        (Resume.HEADER, "2-0", "topic=gmail%3Aann%40example.com&client=c"),
        (Resume.QUERY, None, "topic=gmail%3Aann%40example.com&client=c&last_event_id=2-0"),
        (Resume.ACKED, None, "topic=gmail%3Aann%40example.com&client=c&from=acked"),
    ],
)
async def test_a_client_comes_back_with_the_id_of_the_last_complete_frame(
    resume: Resume, field: str | None, query: str
) -> None:
    said = STREAM + hello() + message("2-0") + message("3-0")[:-1]
    async with server(lambda _head, _body: said) as (origin, asked):
        follower = client(origin, resume=resume)
        first, second = await follower.connect_once(), await follower.connect_once()
    assert asked[0].target.endswith("&client=c&from=now")
    assert asked[1].target == f"/events?{query}"
    assert asked[1].fields.get("last-event-id") == field
    assert asked[1].fields["x-chaos-connection"] == second.name == "c-1"
    assert (first.end, first.inside_frame) == (End.BROKEN, True)
    assert [str(arrival.position) for arrival in first.arrivals] == ["2-0"]
    assert set(follower.events) == {("s", "m2-0")}


async def test_a_client_that_hears_nothing_for_three_heartbeats_reconnects() -> None:
    async with server(lambda _head, _body: None) as (origin, _):
        assert (await client(origin).connect_once()).end is End.SILENCE


@pytest.mark.parametrize("said", [b"HTTP/1.1 401 X\r\n\r\n", STREAM + hello()], ids=["refused", "cut"])
async def test_a_client_that_is_cancelled_ends_at_whatever_point_that_finds_it(said: bytes) -> None:
    """Also while it closes a connection to open the next one: nobody could stop it any more."""
    async with server(lambda _head, _body: said) as (origin, asked):
        for turns in range(150):
            follower = client(origin, obeys_retry=False)
            running = asyncio.ensure_future(follower.run())
            for _ in range(turns):
                await asyncio.sleep(0)
            running.cancel()
            _, goes_on = await asyncio.wait([running], timeout=2)
            assert not goes_on, f"cancelled after {turns} turns"
    assert len(asked) > 100


async def test_a_client_may_leave_by_itself_and_comes_back_at_once() -> None:
    async with server(lambda _head, _body: STREAM + hello(heartbeat_s=9), stays_open=True) as (origin, asked):
        restless = client(origin, leaves_after_s=(0.0, 0.02))
        running = asyncio.ensure_future(restless.run())
        await until(lambda: len(asked) > 3, "it comes back")
        running.cancel()
    assert {connection.end for connection in restless.connections[:3]} == {End.LEFT}


@pytest.mark.parametrize(
    "said",
    [
        answer(500, b"{}"),
        answer(429, b"{}"),
        answer(200, b'data: {"a":1}\n\n'),
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\nid: 9-9\n\n",
    ],
)
async def test_what_is_no_stream_tells_a_client_nothing(said: bytes) -> None:
    async with server(lambda _head, _body: said) as (origin, _):
        follower = client(origin)
        connection = await follower.connect_once()
    assert connection.end is End.BROKEN
    assert (connection.hello, connection.ids, follower.cursor) == (None, [], None)


async def test_nobody_is_there() -> None:
    async with server(lambda _head, _body: STREAM) as (origin, _):
        pass
    assert (await client(origin).connect_once()).end is End.REFUSED


async def test_a_client_that_is_told_to_stay_away_stays_away() -> None:
    bye = frame("tidemark.bye", "1-0", {"reason": "revoked", "reconnect": False})
    async with server(lambda _head, _body: STREAM + hello() + bye) as (origin, asked):
        await client(origin).run()
        assert len(asked) == 1


# --- the replay function's


def _page(*positions: str, more: bool = False) -> bytes:
    events = [event(position) for position in positions]
    page = {"events": events, "cursor": positions[-1] if positions else "9-0", "more": more, "gaps": []}
    return answer(200, json.dumps(page).encode(), connection="close")


async def test_a_poller_goes_on_from_the_cursor_of_a_page_and_acknowledges_it() -> None:
    acks: list[Any] = []

    def answers(head: Head, body: bytes) -> bytes:
        if head.target == "/ack":
            acks.append(json.loads(body))
            return b"HTTP/1.1 204 X\r\nconnection: close\r\n\r\n"
        return _page("2-0", "3-0", more=True) if "after=earliest" in head.target else _page()

    async with server(answers) as (origin, asked), aclosing(Poster(origin, {})) as poster:
        poller = Poller(poster, [TOPIC], name="p", seed=1)
        running = asyncio.ensure_future(poller.run())
        await until(lambda: any("after=acked" in head.target for head in asked), "it resumes from its ack")
        running.cancel()
    assert "after=3-0" in asked[1].target or asked[1].target == "/ack"
    assert acks[0]["client"] == "p"
    assert {connection.cursor for connection in poller.connections} >= {None, "3-0"}
    assert set(poller.events) == {("s", "m2-0"), ("s", "m3-0")}
    assert poller.strange == []


@pytest.mark.parametrize(("status", "strange"), [(503, 0), (500, 1), (404, 1)])
async def test_what_the_replay_function_should_never_say_is_noted(status: int, strange: int) -> None:
    async with (
        server(lambda _head, _body: answer(status, b"{}", connection="close")) as (origin, asked),
        aclosing(Poster(origin, {})) as poster,
    ):
        poller = Poller(poster, [TOPIC], name="p", seed=1)
        running = asyncio.ensure_future(poller.run())
        await until(lambda: len(asked) > 1, "it has asked twice")
        running.cancel()
    assert min(len(poller.strange), 1) == strange
    assert poller.cursor is None


async def test_a_client_that_acknowledges_resumes_from_what_is_surely_kept() -> None:
    kept: list[str] = []

    def answers(head: Head, body: bytes) -> bytes | None:
        if head.target == "/ack":
            kept.append(json.loads(body)["cursor"])
            return b"HTTP/1.1 204 X\r\nconnection: close\r\n\r\n"
        return STREAM + hello() + message("2-0")

    async with server(answers) as (origin, asked), aclosing(Poster(origin, {})) as poster:
        follower = AckingClient(poster, origin, [TOPIC], name="a", token="t")
        running = asyncio.ensure_future(follower.run())

        def resumed() -> list[Connection]:
            return [connection for connection in follower.connections if connection.cursor is not None]

        await until(lambda: bool(resumed()), "it comes back after its ack")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert resumed()[0].cursor in kept
    assert sum("from=now" in head.target for head in asked) == 1
