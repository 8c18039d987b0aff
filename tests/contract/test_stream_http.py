"""`GET /events` on the wire, from a real uvicorn server over a real Redis behind the real gateway."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import urlencode

import httpx
import pytest
import uvicorn

from functions.stream import session
from functions.stream.app import REQUEST_CONNECTIONS, Deps, build_app
from functions.stream.buffer import MAX_BYTES, MOST_BYTES
from functions.stream.server import StreamProtocol
from infra.chaos.event_stream import EventStreamReader, Frame
from infra.local.mail import push_body
from shared.keys import Keys
from shared.log import Log
from shared.position import Position
from shared.settings import Function, Settings
from shared.start import Basis
from shared.tokens import mint
from tests.support.faulty_gateway import cheap_tls, plain_upstash
from tests.support.gateway import NO_TLS, Gateway, eventually, free_port
from tests.support.lambda_events import KID, TOKEN_KEY, LambdaFunction, deployed, environment
from tests.support.log_rig import KEEP, own_stage

ANN, BEN = "ann@example.com", "ben@example.com"
TOPICS = (f"gmail:{ANN}", f"gmail:{BEN}")
ORIGIN = "https://app.example"
NOTHING: Mapping[str, str] = {}
SSE = {"accept": "text/event-stream"}
TIMEOUT_S = 10.0


class StreamServer:
    """The stream function under uvicorn, in a thread, so that a test can look at its hub."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        settings = Settings.of(environ, Function.STREAM)
        with cheap_tls():
            self._upstash = plain_upstash(
                settings.redis_url, settings.redis_token, max_connections=REQUEST_CONNECTIONS
            )
            self.deps = Deps.of(Basis.of(settings, upstash=self._upstash))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    async def _serve(self) -> None:
        config = uvicorn.Config(
            build_app(self.deps), http=StreamProtocol, log_config=None, access_log=False, timeout_graceful_shutdown=1
        )
        config.load()
        server = self._server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        # Not `serve`: it looks only every 0.1 s whether it is to stop.
        await server.startup(sockets=[self._listener])
        await self._stopping.wait()
        await server.shutdown(sockets=[self._listener])
        await self._upstash.close()

    @classmethod
    @contextlib.contextmanager
    def running(cls, environ: Mapping[str, str]) -> Iterator[StreamServer]:
        """Serve in a thread, and stop for sure. The listener takes connections before the server does."""
        server = cls(environ)
        server._thread.start()
        try:
            yield server
        finally:
            server._loop.call_soon_threadsafe(server._stopping.set)
            server._thread.join(TIMEOUT_S)
            assert not server._thread.is_alive()
            server._loop.close()

    @property
    def connections(self) -> int:
        """How many connections the server holds."""
        return len(self._server.server_state.connections)

    @property
    def followers(self) -> int:
        """How many streams the hub hands events to, counted once a topic."""
        return sum(len(topic.followers) for topic in list(self.deps.hub._fanout.topics.values()))


class Connection:
    """One HTTP request and what of its answer has come: its status, its headers, its frames."""

    def __init__(
        self,
        port: int,
        target: str,
        headers: Mapping[str, str],
        method: str = "GET",
        *,
        receive_bytes: int = 0,
        requests: int = 1,
    ) -> None:
        """``receive_bytes`` is what the kernel takes for it while it does not read; usually megabytes.

        The same may be requested several times, without waiting for an answer.
        """
        self._reader = EventStreamReader()
        self._frames: list[Frame] = []
        self.closed = False
        self._socket = socket.socket()
        self._socket.settimeout(TIMEOUT_S)
        if receive_bytes:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self._socket.connect(("127.0.0.1", port))
        lines = [f"{method} {target} HTTP/1.1", f"host: 127.0.0.1:{port}"]
        lines += ["connection: close"] if requests == 1 else []
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode() * requests)
        while self._reader.status is None and self._receive():
            pass

    @property
    def status(self) -> int:
        assert self._reader.status is not None
        return self._reader.status

    @property
    def headers(self) -> dict[str, str]:
        return self._reader.headers

    def take(self, count: int = 1) -> list[Frame]:
        """Wait for the next frames, blocks without data not counted."""
        while len(self._frames) < count:
            assert self._receive(), f"the body ended; there came {self._frames}"
        taken, self._frames = self._frames[:count], self._frames[count:]
        return taken

    def rest(self) -> list[Frame]:
        """Wait for the end of the body and return what came until then."""
        while self._receive():
            pass
        assert not self._reader.inside_frame
        taken, self._frames = self._frames, []
        return taken

    def body(self) -> bytes:
        """Wait for the end of the body and return what is left of it, uninterpreted."""
        while self._receive():
            pass
        return self._reader.leftover

    def close(self) -> None:
        """Leave, as a closed tab does."""
        self._socket.close()

    def _receive(self) -> bool:
        data = self._socket.recv(65_536)
        self.closed = not data
        self._frames += [frame for frame in self._reader.feed(data) if frame.data is not None]
        return bool(data)


class Open(Protocol):
    """Opens connections that are closed with the test."""

    def __call__(
        self,
        *topics: str,
        bearer: str | None = ...,
        headers: Mapping[str, str] = ...,
        method: str = ...,
        path: str = ...,
        server: StreamServer | None = ...,
        start: str | None = ...,
        query: Mapping[str, str] = ...,
        receive_bytes: int = ...,
        requests: int = ...,
        **more: object,
    ) -> Connection: ...


@pytest.fixture
def stage() -> str:
    return own_stage()


@pytest.fixture
def serving(gateway: Gateway, stage: str) -> Iterator[Callable[..., StreamServer]]:
    """Start servers with the settings that a test wants."""
    with contextlib.ExitStack() as stack:

        def start(**settings: str) -> StreamServer:
            environ = environment(gateway, stage, TIDEMARK_CORS_ORIGINS=ORIGIN, **settings)
            return stack.enter_context(StreamServer.running(environ))

        yield start


@pytest.fixture
def server(serving: Callable[..., StreamServer]) -> StreamServer:
    return serving()


def token_for(*topics: str, user: str = "ann", ttl_s: int = 600) -> str:
    return mint(user, topics or TOPICS, kid=KID, key=TOKEN_KEY, ttl_s=ttl_s, now=time.time())


@pytest.fixture
def connect(
    request: pytest.FixtureRequest,
    serving: Callable[..., StreamServer],  # noqa: ARG001 - asked for, so that its servers stop after these end
) -> Iterator[Open]:
    with contextlib.ExitStack() as stack:

        def connect(
            *topics: str,
            bearer: str | None = None,
            headers: Mapping[str, str] = SSE,
            method: str = "GET",
            path: str = "/events",
            server: StreamServer | None = None,
            start: str | None = None,
            query: Mapping[str, str] = NOTHING,
            receive_bytes: int = 0,
            requests: int = 1,
            **more: object,
        ) -> Connection:
            port = (server or request.getfixturevalue("server")).port
            asked = [("topic", topic) for topic in topics] + [(name, str(value)) for name, value in more.items()]
            asked += [("from", start)] if start is not None else []
            asked += query.items()
            authorization = token_for() if bearer is None else bearer
            sent = {**({"authorization": f"Bearer {authorization}"} if authorization else {}), **headers}
            target = f"{path}?{urlencode(asked)}"
            connection = Connection(port, target, sent, method, receive_bytes=receive_bytes, requests=requests)
            stack.callback(connection.close)
            return connection

        yield connect


class Mail:
    """Pushes through the webhook; gives positions."""

    def __init__(self, webhook: LambdaFunction) -> None:
        self._webhook = webhook
        self._numbers = itertools.count(1)

    def push(self, *mailboxes: str) -> list[str]:
        return [self.send(mailbox)["id"] for mailbox in mailboxes]

    def send(self, mailbox: str, **message: object) -> dict[str, Any]:
        number = next(self._numbers)
        body = push_body(mailbox, number, f"m-{number}")
        body["message"] |= message
        answer: dict[str, Any] = self._webhook.invoke("POST", "/push", body=json.dumps(body).encode()).json()
        return answer


@pytest.fixture
def mail(gateway: Gateway, stage: str) -> Iterator[Mail]:
    with deployed("functions.webhook.handler", environment(gateway, stage)) as webhook:
        yield Mail(webhook)


def data_of(frame: Frame) -> dict[str, Any]:
    assert frame.data is not None
    data: dict[str, Any] = json.loads(frame.data)
    return data


def positions(frames: list[Frame]) -> list[str]:
    return [data_of(frame)["position"] for frame in frames if frame.name == "message"]


def problem_of(connection: Connection, status: int, code: str) -> dict[str, Any]:
    """Hold an error answer to RFC 9457 and the contract."""
    body = connection.body()
    assert connection.status == status, body
    assert connection.headers["content-type"] == "application/problem+json"
    assert connection.headers["cache-control"] == "no-store"
    problem: dict[str, Any] = json.loads(body)
    assert problem.keys() == {"type", "title", "status", "code", "detail"}
    assert (problem["status"], problem["code"]) == (status, code)
    return problem


# -- the body


def test_a_stream_says_that_it_must_not_be_stored_changed_or_held_back(connect: Open) -> None:
    """Proxies compress, buffer and cache unless they are told."""
    stream = connect()
    assert stream.status == 200
    assert stream.headers["content-type"].partition(";")[0] == "text/event-stream"
    assert stream.headers["cache-control"] == "no-store, no-transform"
    assert stream.headers["x-accel-buffering"] == "no"
    assert "content-length" not in stream.headers
    assert "content-encoding" not in stream.headers


def test_the_body_begins_with_retry_and_hello_and_goes_on_with_events(server: StreamServer, mail: Mail) -> None:
    """Byte for byte the contract's order of frames and fields."""
    first, second = mail.push(ANN, ANN)
    query = {"topic": TOPICS[0], "client": "tab-1", "last_event_id": first}
    headers = {"authorization": f"Bearer {token_for()}"}
    url = f"http://127.0.0.1:{server.port}/events"
    body = ""
    with httpx.stream("GET", url, params=query, headers=headers, verify=NO_TLS, trust_env=False) as answer:
        for data in answer.iter_raw():
            body += data.decode()
            if body.count("\n\n") == 3:
                break
    assert "\r" not in body
    retry, hello, event = body.removesuffix("\n\n").split("\n\n")
    assert retry == "retry: 2000"
    hello_lines = hello.split("\n")
    assert hello_lines[:2] == [f"id: {first}", "event: tidemark.hello"]
    told = json.loads(hello_lines[2].removeprefix("data: "))
    assert re.fullmatch(r"c_[0-9a-f]{16}", told.pop("connection"))
    assert 590 <= told.pop("expires_in_s") <= 600
    assert told == {"client": "tab-1", "topics": [TOPICS[0]], "cursor": first, "heartbeat_s": 15}
    event_lines = event.split("\n")
    assert event_lines[0] == f"id: {second}"
    assert len(event_lines) == 2
    envelope = json.loads(event_lines[1].removeprefix("data: "))
    assert envelope.pop("time").endswith("Z")
    assert envelope == {
        "specversion": "1.0",
        "id": "m-2",
        "source": "//pubsub.googleapis.com/projects/tidemark-local/subscriptions/gmail",
        "type": "gmail.mailbox.changed",
        "subject": ANN,
        "topic": TOPICS[0],
        "position": second,
        "data": {"emailAddress": ANN, "historyId": "2"},
    }


def test_an_event_arrives_before_the_next_one_is_published(connect: Open, mail: Mail) -> None:
    """Nothing waits for more to come: each byte leaves as soon as it is there, the greeting first of all."""
    stream = connect(TOPICS[0])
    assert stream.take()[0].name == "tidemark.hello"
    for _ in range(3):
        [pushed] = mail.push(ANN)
        [frame] = stream.take()
        assert (frame.name, frame.id, data_of(frame)["position"]) == ("message", pushed, pushed)


def test_hello_carries_a_cursor_from_which_nothing_is_missed(connect: Open, mail: Mail) -> None:
    """A client that drops before its first event comes back with it."""
    mail.push(ANN)
    [hello] = connect(TOPICS[0]).take()
    assert hello.id == data_of(hello)["cursor"]
    pushed = mail.push(ANN, ANN)
    back = connect(TOPICS[0], headers={**SSE, "last-event-id": str(hello.id)})
    assert positions(back.take(3)) == pushed


def test_with_several_topics_the_id_never_goes_back_and_never_runs_ahead(connect: Open, mail: Mail) -> None:
    """Everything at or below an id was sent, in every topic of the stream; it may trail the event's own position."""
    stream = connect()
    [hello] = stream.take()
    pushed = mail.push(ANN, BEN, ANN, ANN, BEN)
    frames = stream.take(5)
    assert sorted(positions(frames)) == sorted(pushed)
    ids = [Position.parse(frame.id) for frame in [hello, *frames] if frame.id is not None]
    assert ids == sorted(ids)
    last = hello.id
    for number, frame in enumerate(frames):
        last = frame.id or last
        unsent = set(pushed) - set(positions(frames[: number + 1]))
        assert not [position for position in unsent if Position.parse(position) <= Position.parse(str(last))]


def test_a_gap_is_told_before_what_is_still_held(connect: Open, gateway: Gateway, stage: str) -> None:
    """As an event of its own, with the cursor that was lost and where the topic goes on."""
    settings = environment(gateway, stage, TIDEMARK_TOPIC_MAX_EVENTS="2")
    with deployed("functions.webhook.handler", settings) as webhook:
        pushed = Mail(webhook).push(*[ANN] * 5)
    hello, gap, *events = connect(TOPICS[0], last_event_id=pushed[0]).take(4)
    assert hello.id == pushed[0]
    assert gap.name == "tidemark.gap"
    assert data_of(gap) == {"topic": TOPICS[0], "after": pushed[0], "resume": pushed[2]}
    assert positions(events) == pushed[3:]


def test_a_silent_stream_beats_and_tells_a_cursor_that_has_advanced(
    serving: Callable[..., StreamServer], connect: Open, mail: Mail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heartbeat is an event with ``{}``; it has an id only when other topics have moved the log on."""
    monkeypatch.setattr(session, "HEARTBEAT_S", 0.2)
    stream = connect(TOPICS[0], server=serving(TIDEMARK_RECONCILE_S="1"))
    hello, beat = stream.take(2)
    assert (beat.name, beat.data, beat.id) == ("tidemark.hb", "{}", None)
    [elsewhere] = mail.push(BEN)
    while beat.id is None:
        [beat] = stream.take()
        assert beat.name == "tidemark.hb"
    assert Position.parse(str(hello.id)) < Position.parse(beat.id) <= Position.parse(elsewhere)


# -- what could break a frame


@pytest.mark.parametrize("end", ["\r\n\r\n", "\n\ndata: {}\n\n", "\r", "\u2028", "\0", "\x85", "\x1b[0m"])
def test_nothing_that_a_push_brings_can_break_a_frame(connect: Open, mail: Mail, end: str) -> None:
    """Ids with control characters or line ends are refused; a time with them is replaced; the rest is not read."""
    stream = connect(TOPICS[0])
    stream.take()
    assert mail.send(ANN, messageId=f"m{end}", message_id=f"m{end}") == {
        "status": "rejected",
        "reason": "no messageId",
    }
    assert mail.send(f"{ANN}{end}") == {"status": "rejected", "reason": "emailAddress cannot be a topic"}
    moment = f"2026-11-23T14:00:00Z{end}"
    sent = mail.send(ANN, publishTime=moment, publish_time=moment, orderingKey=end, attributes={end: end})
    assert sent["status"] == "published"
    [pushed] = mail.push(ANN)
    dirty, clean = stream.take(2)
    assert positions([dirty, clean]) == [sent["id"], pushed]
    assert (dirty.name, dirty.id) == ("message", sent["id"])
    assert dirty.data is not None
    assert dirty.data.isascii()
    assert dirty.data.isprintable()
    assert data_of(dirty)["time"] != moment


# -- where it begins


def test_a_stream_begins_now_unless_it_is_told_otherwise(connect: Open, mail: Mail) -> None:
    """What was before is not sent; the cursor is the log's clock."""
    before = mail.push(ANN, ANN)
    stream = connect(TOPICS[0])
    [hello] = stream.take()
    assert hello.id == before[-1]
    [named] = connect(TOPICS[0], start="now").take()
    assert named.id == before[-1]
    pushed = mail.push(ANN)
    assert positions(stream.take()) == pushed


def test_from_earliest_sends_all_that_is_held(connect: Open, mail: Mail) -> None:
    """Of every topic, in one order, without a gap."""
    pushed = mail.push(ANN, BEN, ANN)
    frames = connect(start="earliest").take(4)
    assert [frame.name for frame in frames] == ["tidemark.hello", "message", "message", "message"]
    assert positions(frames) == pushed


def test_the_last_event_id_header_counts_before_the_query_and_the_query_before_from(
    connect: Open, mail: Mail
) -> None:
    """A native EventSource that reconnects sends the header beside its first query. An empty header is none."""
    one, two, three = mail.push(ANN, ANN, ANN)
    header = connect(TOPICS[0], headers={**SSE, "last-event-id": two}, last_event_id=one, start="earliest")
    assert positions(header.take(2)) == [three]
    query = connect(TOPICS[0], headers={**SSE, "last-event-id": ""}, last_event_id=one, start="earliest")
    assert positions(query.take(3)) == [two, three]
    start = connect(TOPICS[0], headers=SSE, last_event_id="", start="earliest")
    assert positions(start.take(4)) == [one, two, three]


def test_from_acked_begins_at_the_ack_of_this_client(connect: Open, mail: Mail, gateway: Gateway, stage: str) -> None:
    """And at the earliest for a client, or a user, that has acknowledged nothing."""
    one, two, three = mail.push(ANN, ANN, ANN)
    with deployed("functions.replay.handler", environment(gateway, stage)) as replay:
        body = json.dumps({"cursor": two, "client": "tab"}).encode()
        authorization = {"authorization": f"Bearer {token_for()}"}
        assert replay.invoke("POST", "/ack", headers=authorization, body=body).status == 204
    assert positions(connect(TOPICS[0], client="tab", start="acked").take(2)) == [three]
    assert positions(connect(TOPICS[0], client="other", start="acked").take(4)) == [one, two, three]
    assert positions(connect(TOPICS[0], client="tab", bearer=token_for(user="ben"), start="acked").take(4)) == [
        one,
        two,
        three,
    ]


def test_from_acked_needs_the_client_that_acknowledged(connect: Open) -> None:
    """A name that the server makes up has never acknowledged anything."""
    problem = problem_of(connect(TOPICS[0], start="acked"), 400, "bad_client")
    assert "client=" in problem["detail"]


# -- who may follow what


def test_without_topics_all_of_the_token_are_followed(connect: Open, mail: Mail) -> None:
    """In the token's order; ``hello`` says which."""
    stream = connect()
    assert data_of(stream.take()[0])["topics"] == list(TOPICS)
    pushed = mail.push(BEN)
    assert positions(stream.take()) == pushed


def test_the_topics_of_a_stream_are_the_ones_asked_for(connect: Open, mail: Mail) -> None:
    """Each once; events of others do not come."""
    stream = connect(TOPICS[1], TOPICS[1])
    assert data_of(stream.take()[0])["topics"] == [TOPICS[1]]
    pushed = mail.push(ANN, BEN)
    assert positions(stream.take()) == pushed[1:]


def test_a_prefix_allows_topics_that_are_named(connect: Open) -> None:
    """And needs them to be."""
    team = token_for("gmail:team-*")
    assert data_of(connect("gmail:team-1@b.c", bearer=team).take()[0])["topics"] == ["gmail:team-1@b.c"]
    problem_of(connect(bearer=team), 400, "topic_required")
    problem_of(connect("gmail:ann@b.c", bearer=team), 403, "topic_forbidden")


def test_a_client_is_named_by_itself_or_by_the_server(connect: Open) -> None:
    """Two streams of one client are two connections."""
    told = [data_of(connect(client="tab_1-A").take()[0]) for _ in range(2)]
    assert [hello["client"] for hello in told] == ["tab_1-A", "tab_1-A"]
    assert told[0]["connection"] != told[1]["connection"]
    unnamed = [data_of(connect().take()[0])["client"] for _ in range(2)]
    assert unnamed[0] != unnamed[1]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", client) for client in unnamed)


def test_the_token_may_come_in_the_query(connect: Open) -> None:
    """A native EventSource sends no headers. When both come, the header counts."""
    assert connect(bearer="x", token=token_for()).status == 401
    assert connect(bearer="", token=token_for()).take()[0].name == "tidemark.hello"
    assert connect(bearer="", token="x").status == 401


def test_a_request_without_a_good_token_is_401(connect: Open) -> None:
    """Whatever it accepts: a native EventSource stops, which is right. The token is not in the answer."""
    expired = mint("ann", TOPICS, kid=KID, key=TOKEN_KEY, ttl_s=1, now=time.time() - 10)
    for token, code in (("", "token_missing"), ("x.y.z", "token_invalid"), (expired, "token_expired")):
        refused = connect(bearer=token)
        problem = problem_of(refused, 401, code)
        assert refused.headers["www-authenticate"] == "Bearer"
        assert token == "" or token not in json.dumps(problem)


def test_a_topic_outside_of_the_token_is_403(connect: Open) -> None:
    """Even beside one that is inside; it is not repeated in the answer."""
    assert "eve" not in json.dumps(problem_of(connect("gmail:eve@b.c"), 403, "topic_forbidden"))
    problem_of(connect(TOPICS[0], "gmail:eve@b.c"), 403, "topic_forbidden")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"topic": ""}, "bad_topic"),
        ({"topic": "a,b"}, "bad_topic"),
        ({"topic": "a\r\ndata: x"}, "bad_topic"),
        ({"last_event_id": "x"}, "bad_cursor"),
        ({"last_event_id": "1-01"}, "bad_cursor"),
        ({"last_event_id": f"{2**53}-0"}, "bad_cursor"),
        ({"last_event_id": "now"}, "bad_cursor"),
        ({"from": "never"}, "bad_cursor"),
        ({"from": ""}, "bad_cursor"),
        ({"from": "1-1"}, "bad_cursor"),
        ({"client": ""}, "bad_client"),
        ({"client": "a b"}, "bad_client"),
        ({"client": "a" * 65}, "bad_client"),
        ({"client": "a\n\ndata: x"}, "bad_client"),
    ],
)
def test_a_bad_query_is_400(connect: Open, query: dict[str, str], code: str) -> None:
    """With the code of what is bad."""
    assert problem_of(connect(query=query), 400, code)["detail"]


@pytest.mark.parametrize("value", ["x", "1", "1-1-1", "0x1-0", "c_1"])
def test_a_bad_last_event_id_header_is_400(connect: Open, value: str) -> None:
    """It is not ignored: a client that resumes from it would miss events without a word."""
    problem = problem_of(connect(headers={**SSE, "last-event-id": value}), 400, "bad_cursor")
    assert "cursor" in problem["detail"]


def test_more_than_fifty_topics_are_refused(connect: Open) -> None:
    """Fifty are followed."""
    everything = token_for("*")
    assert len(data_of(connect(*[f"t{n}" for n in range(50)], bearer=everything).take()[0])["topics"]) == 50
    problem_of(connect(*[f"t{n}" for n in range(51)], bearer=everything), 400, "too_many_topics")


def test_a_head_that_is_too_large_is_refused(connect: Open) -> None:
    """Fields beyond 32 KiB, or a path and query beyond it; almost as much is served."""
    assert connect(headers={**SSE, "cookie": "c" * 31_000}).take()[0].name == "tidemark.hello"
    assert connect(query={"x": "q" * 31_000}).take()[0].name == "tidemark.hello"
    problem_of(connect(headers={**SSE, "cookie": "c" * 33_000}), 431, "headers_too_large")
    problem_of(connect(query={"x": "q" * 33_000}), 414, "query_too_long")


# -- how it ends


def test_a_client_that_leaves_frees_its_stream_at_once(server: StreamServer, connect: Open) -> None:
    """Where a disconnect is seen (not on Lambda), nothing of it stays in the hub."""
    streams = [connect(TOPICS[0]), connect(TOPICS[0])]
    for stream in streams:
        stream.take()
    assert server.followers == 2
    streams[0].close()
    eventually(lambda: server.followers == 1, "the stream of the client that left is gone")
    streams[1].close()
    eventually(lambda: server.followers == 0, "both are gone")


def _flood(gateway: Gateway, stage: str, count: int) -> list[str]:
    """Append events of 60 KB each: more than kernels take for a client that does not read. Returns positions."""

    async def run() -> list[str]:
        upstash = plain_upstash(gateway.url, gateway.token, max_connections=4)
        log = Log(upstash, Keys(stage), KEEP)
        filler = "x" * 60_000
        try:
            return [
                str(
                    (
                        await log.append(
                            topic=TOPICS[0],
                            envelope=json.dumps({"id": str(n), "filler": filler}),
                            subscription="s",
                            message_id=str(n),
                        )
                    ).position
                )
                for n in range(count)
            ]
        finally:
            await upstash.close()

    return asyncio.run(run())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let streams lose their patience within a second."""
    monkeypatch.setattr(session, "STALLED_S", 0.6)
    monkeypatch.setattr(session, "LOOK_S", 0.1)


@pytest.mark.usefixtures("impatient")
def test_a_client_that_stopped_reading_is_told_goodbye_and_comes_back_to_the_rest(
    server: StreamServer, connect: Open, gateway: Gateway, stage: str
) -> None:
    """What it had been sent is all there before the goodbye, which came although its socket was full."""
    slow = connect(TOPICS[0], receive_bytes=8192)
    slow.take()
    written = _flood(gateway, stage, 150)
    eventually(lambda: server.followers == 0, "its stream has ended", TIMEOUT_S)
    frames = slow.rest()
    assert data_of(frames[-1]) == {"reason": "slow_consumer", "reconnect": True}
    got = positions(frames)
    assert 0 < len(got) < 150
    assert got == written[: len(got)]
    again = connect(TOPICS[0], last_event_id=got[-1])
    assert positions(again.take(1 + 150 - len(got))) == written[len(got) :]
    counts = server.deps.counts
    assert counts["slow_consumers"] == 1
    assert counts[MOST_BYTES] <= MAX_BYTES


@pytest.mark.usefixtures("impatient")
def test_a_client_that_never_reads_again_does_not_hold_its_connection_for_ever(
    server: StreamServer, connect: Open, gateway: Gateway, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its goodbye waits for a while, and then it is dropped."""
    monkeypatch.setattr("functions.stream.outlet.LINGER_S", 0.3)
    slow = connect(TOPICS[0], receive_bytes=8192)
    slow.take()
    _flood(gateway, stage, 150)
    eventually(lambda: server.followers == 0, "its stream has ended", TIMEOUT_S)
    eventually(lambda: not server.connections, "its connection is gone", TIMEOUT_S)
    assert server.deps.counts["slow_consumers"] == 1


@pytest.mark.usefixtures("impatient")
def test_requests_that_are_sent_ahead_by_a_client_that_never_reads_are_not_served(
    server: StreamServer, connect: Open, gateway: Gateway, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The goodbye of the first is let through though nobody reads. Whatever followed it would be, too."""
    monkeypatch.setattr("functions.stream.outlet.LINGER_S", 0.5)
    most = 0

    def gone() -> bool:
        nonlocal most
        connections = [c for c in list(server._server.server_state.connections) if isinstance(c, StreamProtocol)]
        most = max([most, *(c.unsent for c in connections)])
        return not connections

    _flood(gateway, stage, 150)
    connect(TOPICS[0], start="earliest", receive_bytes=8192, requests=4)
    eventually(gone, "its connection is gone", TIMEOUT_S)
    assert 0 < most < 2 * MAX_BYTES
    assert server.deps.counts["slow_consumers"] == 1


def test_a_client_that_leaves_is_seen_to_leave_whatever_it_sent_ahead(server: StreamServer, connect: Open) -> None:
    """Also when only the first of its requests is being answered: the others are not served at all."""
    stream = connect(TOPICS[0], requests=3)
    stream.take()
    assert server.followers == 1
    stream.close()
    eventually(lambda: server.followers == 0, "its stream is gone")


def test_what_was_sent_ahead_is_not_answered(connect: Open) -> None:
    """The connection ends with the first answer: a client that sent more asks again."""
    answer = connect(path="/healthz", headers={}, requests=3)
    body = answer.body()
    assert body.count(b'"status"') == 1
    assert answer.status == 200


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"max_rate": "0"}, "max_rate must be a number from 0.01 to 10000."),
        ({"max_rate": "-1"}, "max_rate"),
        ({"max_rate": "fast"}, "max_rate"),
        ({"max_rate": "1e3"}, "max_rate"),
        ({"client": "tab", "window": "0"}, "window must be a whole number from 1 to 10000."),
        ({"client": "tab", "window": "1.5"}, "window"),
    ],
)
def test_a_pace_that_cannot_be_is_400(connect: Open, query: dict[str, str], told: str) -> None:
    assert told in problem_of(connect(query=query), 400, "bad_number")["detail"]


def test_a_window_needs_the_client_that_will_acknowledge(connect: Open) -> None:
    assert "client=" in problem_of(connect(window=5), 400, "bad_client")["detail"]


def test_max_rate_spreads_what_is_caught_up(connect: Open, mail: Mail) -> None:
    """At 20 a second, one after the other: ten events take half a second, less the two that may go at once."""
    written = mail.push(*[ANN] * 10)
    began = time.monotonic()
    paced = connect(TOPICS[0], start="earliest", max_rate=20)
    assert positions(paced.take(11)) == written
    assert time.monotonic() - began > 0.35


def test_a_stream_ends_with_rotate_when_its_time_is_over(serving: Callable[..., StreamServer], connect: Open) -> None:
    """The client is asked to come back, and the body ends properly."""
    stream = connect(server=serving(TIDEMARK_STREAM_MAX_S="1"))
    [hello] = stream.take()
    assert data_of(hello)["expires_in_s"] <= 1
    [bye] = stream.rest()
    assert (bye.name, bye.retry, bye.id) == ("tidemark.bye", None, None)
    assert data_of(bye) == {"reason": "rotate", "reconnect": True}


def test_a_stream_ends_with_its_token(connect: Open) -> None:
    """For good: a native client would otherwise come back with the same token every two seconds."""
    stream = connect(bearer=token_for(ttl_s=2))
    assert data_of(stream.take()[0])["expires_in_s"] <= 2
    [bye] = stream.rest()
    assert (bye.name, bye.retry) == ("tidemark.bye", "3600000")
    assert data_of(bye) == {"reason": "token_expired", "reconnect": False}


def test_a_full_process_sends_event_sources_away_for_a_moment(
    serving: Callable[..., StreamServer], connect: Open
) -> None:
    """200 and a ``bye``: any other status would end a native EventSource for good. Who leaves makes room."""
    server = serving(TIDEMARK_MAX_STREAMS="1")
    first = connect(server=server)
    first.take()
    waits = set()
    for accept in ("text/event-stream", "text/html, Text/Event-Stream;q=0.9", "text/event-stream, */*"):
        refused = connect(server=server, headers={"accept": accept})
        assert refused.status == 200
        assert refused.headers["content-type"].partition(";")[0] == "text/event-stream"
        assert refused.headers["cache-control"] == "no-store, no-transform"
        [bye] = refused.rest()
        assert (bye.name, data_of(bye)) == ("tidemark.bye", {"reason": "unavailable", "reconnect": True})
        assert bye.id is None
        waits.add(int(str(bye.retry)))
    assert len(waits) > 1
    assert all(2000 <= wait <= 8000 for wait in waits)
    first.close()
    eventually(lambda: server.followers == 0, "the first has left")
    assert connect(server=server).take()[0].name == "tidemark.hello"


@pytest.mark.parametrize("headers", [{}, {"accept": "*/*"}, {"accept": "application/json"}])
def test_a_full_process_tells_others_503(
    serving: Callable[..., StreamServer], connect: Open, headers: dict[str, str]
) -> None:
    """With Retry-After, as HTTP has it."""
    server = serving(TIDEMARK_MAX_STREAMS="1")
    connect(server=server).take()
    refused = connect(server=server, headers=headers)
    problem_of(refused, 503, "process_full")
    assert int(refused.headers["retry-after"]) > 0


def test_without_redis_new_streams_are_told_to_come_back(serving: Callable[..., StreamServer], connect: Open) -> None:
    """The same two forms; nothing stays behind."""
    server = serving(UPSTASH_REDIS_REST_URL=f"http://127.0.0.1:{free_port()}")
    with contextlib.ExitStack() as stack:
        plain = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S)
        stack.callback(plain.close)
        # Sent first and read last: both wait for the live feed at the same time.
        plain.sendall(f"GET /events HTTP/1.0\r\nauthorization: Bearer {token_for()}\r\n\r\n".encode())
        [bye] = connect(server=server).rest()
        assert data_of(bye) == {"reason": "unavailable", "reconnect": True}
        assert bye.retry is not None
        answer = b""
        while data := plain.recv(65_536):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 2" in head
    assert json.loads(body)["code"] == "log_unavailable"
    eventually(lambda: server.followers == 0, "neither is followed")


# -- the rest


def test_a_head_request_opens_no_stream(server: StreamServer, connect: Open) -> None:
    """The headers, and an end."""
    answer = connect(method="HEAD")
    assert answer.status == 200
    assert answer.headers["content-type"].partition(";")[0] == "text/event-stream"
    assert answer.body() == b""
    assert server.followers == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_any_other_method_is_405(connect: Open, method: str) -> None:
    """With the ones that are allowed."""
    answer = connect(method=method)
    problem_of(answer, 405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize("path", ["/", "/push", "/replay", "/events/x"])
def test_any_other_path_is_404(connect: Open, path: str) -> None:
    """As a problem."""
    assert problem_of(connect(path=path), 404, "not_found")["title"] == "Not Found"


def test_a_preflight_is_answered_by_the_allowlist(connect: Open) -> None:
    """Last-Event-ID is a header that a script may send."""
    asked = {"access-control-request-method": "GET", "access-control-request-headers": "authorization,last-event-id"}
    allowed = connect(method="OPTIONS", bearer="", headers={"origin": ORIGIN, **asked})
    assert (allowed.status, allowed.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert "last-event-id" in allowed.headers["access-control-allow-headers"].lower()
    refused = connect(method="OPTIONS", bearer="", headers={"origin": "https://evil.example", **asked})
    problem_of(refused, 400, "cors_refused")
    assert "access-control-allow-origin" not in refused.headers


def test_a_stream_and_a_refusal_may_be_read_by_an_allowed_origin_only(connect: Open) -> None:
    """The header is there once: two make a browser refuse both."""
    for token, status in ((None, 200), ("x", 401)):
        allowed = connect(bearer=token, headers={**SSE, "origin": ORIGIN})
        assert (allowed.status, allowed.headers["access-control-allow-origin"]) == (status, ORIGIN)
        assert "origin" in allowed.headers["vary"].lower()
        refused = connect(bearer=token, headers={**SSE, "origin": "https://evil.example"})
        assert refused.status == status
        assert "access-control-allow-origin" not in refused.headers


def test_healthz_tells_whether_redis_answers(serving: Callable[..., StreamServer], connect: Open) -> None:
    """200, or 503 with the name of what does not. No token is needed."""
    good = connect(server=serving(), path="/healthz", bearer="")
    told = json.loads(good.body())
    assert (good.status, told["status"], told["checks"]) == (200, "ok", {"log": "ok"})
    assert told["streams"] == {
        "open": 0,
        "most": 10_000,
        "buffered_events_most": 0,
        "buffered_bytes_most": 0,
        "slow_consumers": 0,
    }
    away = serving(UPSTASH_REDIS_REST_URL=f"http://127.0.0.1:{free_port()}")
    bad = connect(server=away, path="/healthz", bearer="")
    assert (bad.status, json.loads(bad.body())["checks"]) == (503, {"log": "log_unavailable"})
