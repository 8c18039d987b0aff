"""Following a stream from Python: cursors, reconnects, each event once. The wire is respx's."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import httpx
import pytest
import respx

from infra.local import follow
from infra.local.follow import Follower, Frame, RefusedError

URL = "http://stream.test"
RETRY_NOW = b"retry: 0\n\n"


def block(name: str | None = None, data: Any = None, cursor: str | None = None) -> bytes:
    lines = [f"id: {cursor}"] if cursor else []
    lines += [f"event: {name}"] if name else []
    return "\n".join([*lines, f"data: {json.dumps(data or {})}", "", ""]).encode()


def hello(cursor: str = "1-0", heartbeat_s: float = 15) -> bytes:
    return block("tidemark.hello", {"cursor": cursor, "heartbeat_s": heartbeat_s}, cursor)


def event(number: int) -> bytes:
    return block(data={"source": "s", "id": str(number), "position": f"{number}-0"}, cursor=f"{number}-0")


def bye(*, reconnect: bool) -> bytes:
    return block("tidemark.bye", {"reason": "evicted", "reconnect": reconnect})


def body(*blocks: bytes, content_type: str = "text/event-stream") -> httpx.Response:
    return httpx.Response(200, headers={"content-type": content_type}, content=b"".join(blocks))


class Route:
    """Answers one after the other; the last one for ever. `asked` are the queries that came."""

    def __init__(self, mock: respx.MockRouter, *answers: httpx.Response | Exception) -> None:
        self.asked: list[dict[str, list[str]]] = []
        self.requests: list[httpx.Request] = []
        self._answers = list(answers)
        mock.get(f"{URL}/events").mock(side_effect=self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        query = request.url.params
        self.asked.append({name: query.get_list(name) for name in query})
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(found, Exception):
            raise found
        return httpx.Response(found.status_code, headers=found.headers, content=found.content)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let the follower wait for nothing, and note what it would have waited: jitter is at its longest."""
    waited: list[float] = []
    really = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        await really(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(random, "uniform", lambda _least, most: most)
    return waited


async def take(follower: Follower, count: int) -> list[Frame]:
    frames: list[Frame] = []
    stream: AsyncIterator[Frame] = follower.frames()
    async with asyncio.timeout(5), aclosing(stream):  # type: ignore[type-var]  # it is an async generator
        async for frame in stream:
            frames.append(frame)
            if len(frames) == count:
                break
    return frames


async def refusal(follower: Follower) -> str:
    with pytest.raises(RefusedError) as caught:
        await take(follower, 1000)
    return str(caught.value)


async def test_frames_come_with_their_names_and_the_cursor_after_them(respx_mock: respx.MockRouter) -> None:
    """A frame without an id leaves the cursor where it was; a lone retry field is no frame."""
    Route(respx_mock, body(b"retry: 2000\n\n", hello("1-0"), event(2), block("tidemark.hb")))
    frames = await take(Follower(URL, "t", ["a"]), 3)
    assert [(frame.name, frame.cursor) for frame in frames] == [
        ("tidemark.hello", "1-0"),
        ("message", "2-0"),
        ("tidemark.hb", "2-0"),
    ]
    assert frames[1].data["position"] == "2-0"


async def test_the_first_request_names_topics_client_and_start(respx_mock: respx.MockRouter) -> None:
    """The token goes into a header, never into the query, where logs would keep it."""
    route = Route(respx_mock, body(hello()))
    await take(Follower(URL, "tok", ["a", "b"], start="earliest", client="tab"), 1)
    assert route.asked == [{"topic": ["a", "b"], "client": ["tab"], "from": ["earliest"]}]
    assert route.requests[0].headers["authorization"] == "Bearer tok"
    assert route.requests[0].headers["accept"] == "text/event-stream"


async def test_a_start_that_is_a_cursor_is_resumed_from(respx_mock: respx.MockRouter) -> None:
    """`from` knows words only."""
    route = Route(respx_mock, body(hello("7-1")))
    await take(Follower(URL, "t", ["a"], start="7-1"), 1)
    assert route.asked == [{"topic": ["a"], "last_event_id": ["7-1"]}]


async def test_a_stream_that_ends_is_resumed_from_its_last_cursor(
    respx_mock: respx.MockRouter, pauses: list[float]
) -> None:
    """The start cursor of `hello` counts: whoever is cut off before its first event misses nothing."""
    route = Route(respx_mock, body(RETRY_NOW, hello("5-0")), body(hello("5-0"), event(6)))
    await take(Follower(URL, "t", ["a"]), 3)
    assert [asked.get("last_event_id") for asked in route.asked] == [None, ["5-0"]]
    assert pauses == [0]


async def test_an_event_that_comes_again_after_a_reconnect_is_dropped(
    respx_mock: respx.MockRouter, pauses: list[float]
) -> None:
    """Known by its source and id, whatever its position: a failover may have stored it anew."""
    again = block(data={"source": "s", "id": "2", "position": "9-0"}, cursor="9-0")
    Route(respx_mock, body(hello(), event(2)), body(hello(), again, event(10)))
    frames = await take(Follower(URL, "t", ["a"]), 4)
    assert [frame.data.get("id") for frame in frames if frame.name == "message"] == ["2", "10"]
    assert len(pauses) == 1


async def test_the_server_says_how_long_to_wait(respx_mock: respx.MockRouter, pauses: list[float]) -> None:
    """In milliseconds; it holds until it says something else."""
    Route(
        respx_mock, body(b"retry: 500\n\n", hello()), body(hello()), body(b"retry: 3000\n\n", hello()), body(hello())
    )
    await take(Follower(URL, "t", ["a"]), 4)
    assert pauses == [0.5, 0.5, 3.0]


async def test_what_fails_is_tried_again_with_growing_pauses_for_hours(
    respx_mock: respx.MockRouter, pauses: list[float]
) -> None:
    """Doubled up to 15 s. A night of outages is more than a thousand tries."""
    down = [httpx.ConnectError("down")] * 1100
    Route(respx_mock, *down, body(hello()))
    await take(Follower(URL, "t", ["a"]), 1)
    assert pauses[:5] == [2.0, 4.0, 8.0, 15.0, 15.0]
    assert pauses[-1] == 15.0
    assert len(pauses) == 1100


async def test_a_frame_ends_the_growing_of_pauses(respx_mock: respx.MockRouter, pauses: list[float]) -> None:
    """The server is back: the next failure is a new one."""
    down = httpx.ConnectError("down")
    Route(respx_mock, down, down, body(hello()), down, body(hello()))
    await take(Follower(URL, "t", ["a"]), 2)
    assert pauses == [2.0, 4.0, 2.0, 4.0]


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(503, json={"detail": "later"}),
        httpx.Response(500),
        httpx.Response(502, text="<html>"),
        httpx.Response(429),
        httpx.Response(204),
        httpx.Response(301, headers={"location": "/x"}),
        body(b"<html>", content_type="text/html"),
        body(b"data: no json\n\n"),
        body(b"data: {}"),
        httpx.ReadError("cut"),
        httpx.RemoteProtocolError("cut"),
    ],
    ids=lambda answer: str(answer)[:40],
)
async def test_whatever_may_pass_is_tried_again(
    respx_mock: respx.MockRouter, pauses: list[float], answer: httpx.Response | Exception
) -> None:
    """A busy server, a proxy in between, half an answer."""
    Route(respx_mock, answer, body(hello("3-0")))
    frames = await take(Follower(URL, "t", ["a"]), 1)
    assert frames[0].name == "tidemark.hello"
    assert pauses


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_what_is_refused_is_not_tried_again(respx_mock: respx.MockRouter, status: int) -> None:
    """It would be refused for ever."""
    Route(respx_mock, httpx.Response(status, json={"detail": "The token has expired."}))
    assert await refusal(Follower(URL, "t", ["a"])) == f"{status}: The token has expired."


@pytest.mark.parametrize("text", ["", "<html>", "[]", "7", "null", "{}"])
async def test_a_refusal_without_a_reason_is_told_by_its_status(respx_mock: respx.MockRouter, text: str) -> None:
    """Something else than our server answered."""
    Route(respx_mock, httpx.Response(403, text=text))
    assert await refusal(Follower(URL, "t", ["a"])) == "refused with 403"


async def test_a_bye_for_good_ends_the_following(respx_mock: respx.MockRouter) -> None:
    """After what came before it."""
    Route(respx_mock, body(hello(), event(2), bye(reconnect=False)))
    assert await refusal(Follower(URL, "t", ["a"])) == "the stream has ended: evicted"


async def test_a_bye_for_now_is_followed_by_a_reconnect(respx_mock: respx.MockRouter, pauses: list[float]) -> None:
    """It is shown, too."""
    route = Route(respx_mock, body(hello("4-0"), bye(reconnect=True)), body(hello("4-0")))
    frames = await take(Follower(URL, "t", ["a"]), 3)
    assert [frame.name for frame in frames] == ["tidemark.hello", "tidemark.bye", "tidemark.hello"]
    assert route.asked[1]["last_event_id"] == ["4-0"]
    assert len(pauses) == 1


async def test_a_stream_that_is_silent_for_three_heartbeats_is_dead(
    respx_mock: respx.MockRouter, pauses: list[float]
) -> None:
    """A half-open connection looks like silence: the follower gives it up and comes back."""

    async def half_open() -> AsyncIterator[bytes]:
        yield hello("5-0", heartbeat_s=0.01)
        await asyncio.Event().wait()

    headers = {"content-type": "text/event-stream"}
    route = respx_mock.get(f"{URL}/events")
    route.side_effect = [httpx.Response(200, headers=headers, content=half_open()), body(hello("5-0"))]
    frames = await take(Follower(URL, "t", ["a"]), 2)
    assert [frame.cursor for frame in frames] == ["5-0", "5-0"]
    assert len(pauses) == 1


async def test_what_is_remembered_of_seen_events_is_bounded(
    respx_mock: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tail may run for months."""
    monkeypatch.setattr(follow, "_REMEMBERED", 3)
    Route(respx_mock, body(hello(), *(event(number) for number in range(2, 12))))
    follower = Follower(URL, "t", ["a"])
    assert len(await take(follower, 11)) == 11
    assert [identity for _source, identity in follower._seen] == ["9", "10", "11"]
