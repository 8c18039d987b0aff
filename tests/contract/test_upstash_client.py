"""The Upstash client: its time-outs, its one retry, what it takes for whose fault, and connections that died."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import respx

from shared.errors import LogDefectError, LogUnavailableError, TidemarkError
from shared.http_pool import Headers, PooledTransport
from shared.upstash import PROBE_AFTER_S, PROBE_TIMEOUT_S, Upstash
from tests.support.faulty_gateway import cheap_tls, plain_upstash
from tests.support.gateway import GatewayProcess
from tests.support.scripted_server import Connection, ScriptedServer
from tests.support.stream_rig import eventually

URL = "http://redis.test"
TOKEN = "s3cret-token"
OK = b'{"result":"OK"}'
PONG = b'{"result":"PONG"}'


class Clock:
    """Monotonic seconds that only a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@asynccontextmanager
async def client(url: str, *, token: str = TOKEN, **more: Any) -> AsyncIterator[Upstash]:
    """Give a client and close it."""
    upstash = plain_upstash(url, token, **more)
    try:
        yield upstash
    finally:
        await upstash.close()
        assert upstash.open_connections == 0


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> respx.MockRouter:
    """Answer in the place of a server that nobody runs."""
    router = respx.MockRouter(base_url=URL, assert_all_called=False)

    async def answer(_transport: PooledTransport, data: bytes, *, connect_s: float) -> tuple[int, Headers, bytes]:
        assert connect_s > 0
        head, _, content = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        method, target, _version = first.split()
        headers = dict(line.split(": ", 1) for line in lines)
        answered = await router.async_handler(httpx.Request(method, URL + target, headers=headers, content=content))
        return answered.status_code, answered.headers.raw, answered.content

    monkeypatch.setattr(PooledTransport, "exchange", answer)
    return router


async def refused(url: str, *, timeout_s: float = 1.0, idempotent: bool = True) -> TidemarkError:
    """Run a command that fails, and return our error for it."""
    async with client(url) as upstash:
        with pytest.raises(TidemarkError) as caught:
            await upstash.execute(["GET", "k"], timeout_s=timeout_s, idempotent=idempotent)
    return caught.value


# --- whose fault -------------------------------------------------------------------------------------------

DEFECTS = [
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "WRONGTYPE Operation against a key holding the wrong kind of value script: 0a1b, on @user_script:76.",
    "ERR Error running script (call to f_0a1b): @user_script:26: WRONGTYPE Operation against a key",
    "ERR user_script:38: user_script:38: attempt to index field '?' (a nil value) script: 0a1b, on @user_script:38.",
    "ERR wrong number of arguments for 'set' command",
    "ERR unknown command 'FOO', with args beginning with: ",
    "ERR syntax error",
    "ERR value is not an integer or out of range",
    "ERR Error compiling script (new function): user_script:1: '=' expected near 'x'",
    "ERR Command is not available: 'CONFIG'. See https://upstash.com/docs",
    'ERR Command "BLPOP" is not allowed in REST or it has a special context path',
    "TIDEMARK malformed position x",
    "ERR Error running script (call to f_0a1b): @user_script:8: user_script:8: TIDEMARK malformed position x",
]
TEMPORARY = [
    "READONLY You can't write against a read only replica.",
    "ERR Error running script (call to f_0a1b): @user_script:12: READONLY You can't write",
    "LOADING Redis is loading the dataset in memory",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "BUSY Redis is busy running a script.",
    "MASTERDOWN Link with MASTER is down",
    "MISCONF Redis is configured to save RDB snapshots",
    "NOREPLICAS Not enough good replicas to write.",
    "CLUSTERDOWN The cluster is down",
    "NOPERM this user has no permissions to run the 'set' command",
    "WRONGPASS invalid or missing auth token",
    "ERR max requests limit exceeded. Limit: 10000, Usage: 10000",
    "ERR max daily request limit exceeded",
    "ERR max concurrent connections exceeded",
    "ERR DB is deleted",
    "something that nobody has ever seen",
]


@pytest.mark.parametrize("text", DEFECTS)
@pytest.mark.parametrize("status", [200, 400, 500])
async def test_what_only_a_defect_of_ours_explains_is_told_at_once(
    wire: respx.MockRouter, text: str, status: int
) -> None:
    """It would fail again: no second try."""
    route = wire.post("/").respond(status, json={"error": text})
    error = await refused(URL)
    assert isinstance(error, LogDefectError)
    assert not error.temporary
    assert text in str(error)
    assert route.call_count == 1


@pytest.mark.parametrize("text", TEMPORARY)
async def test_every_other_error_is_the_logs_trouble_and_passes(wire: respx.MockRouter, text: str) -> None:
    """It is tried once more, and is temporary."""
    route = wire.post("/").respond(400, json={"error": text})
    error = await refused(URL)
    assert isinstance(error, LogUnavailableError)
    assert error.temporary
    assert text in str(error)
    assert route.call_count == 2


GARBAGE: dict[str, httpx.Response] = {
    "a page instead of JSON": httpx.Response(200, html="<html>Welcome</html>"),
    "a proxy's 502 page": httpx.Response(502, html="<html>Bad Gateway</html>"),
    "a plain 500": httpx.Response(500, text="Internal Server Error"),
    "nothing": httpx.Response(200, content=b""),
    "nothing, and no content": httpx.Response(204),
    "half of an object": httpx.Response(200, content=b'{"result":"O'),
    "a list": httpx.Response(200, json=["OK"]),
    "an empty list": httpx.Response(200, json=[]),
    "null": httpx.Response(200, content=b"null"),
    "a string": httpx.Response(200, json="OK"),
    "a number": httpx.Response(200, json=1),
    "true": httpx.Response(200, json=True),
    "no result": httpx.Response(200, json={}),
    "another object": httpx.Response(200, json={"message": "Forbidden"}),
    "an empty error": httpx.Response(400, json={"error": ""}),
    "a null error": httpx.Response(400, json={"error": None}),
    "an error that is an object": httpx.Response(400, json={"error": {"code": 7}}),
    "an error that is a list": httpx.Response(400, json={"error": ["x"]}),
    "429 from a limiter": httpx.Response(429, json={"message": "Too many requests"}),
    "429 without a body": httpx.Response(429),
    "a redirect": httpx.Response(302, headers={"location": "http://elsewhere.test/"}),
    "not UTF-8": httpx.Response(200, content=b'{"result":"\xff\xfe"', headers={"content-type": "application/json"}),
    "nested beyond reason": httpx.Response(200, content=b"[" * 200_000),
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE.keys())
async def test_an_answer_that_no_redis_gives_is_the_logs_trouble(
    wire: respx.MockRouter, answer: httpx.Response
) -> None:
    """A proxy answers in its place; never an exception of Python's own, never taken for a result."""
    route = wire.post("/").mock(return_value=answer)
    error = await refused(URL)
    assert isinstance(error, LogUnavailableError)
    assert TOKEN not in str(error)
    assert route.call_count == 2


@pytest.mark.parametrize(
    "fault",
    [
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
        httpx.ReadError("reset"),
        httpx.ReadTimeout("slow"),
        httpx.WriteError("reset"),
        httpx.RemoteProtocolError("not HTTP"),
        httpx.PoolTimeout("full"),
        httpx.DecodingError("not gzip"),
    ],
    ids=lambda fault: type(fault).__name__,
)
async def test_a_fault_of_the_transport_is_the_logs_trouble(wire: respx.MockRouter, fault: httpx.HTTPError) -> None:
    """Each is tried once more."""
    route = wire.post("/").mock(side_effect=fault)
    error = await refused(URL)
    assert isinstance(error, LogUnavailableError)
    assert type(fault).__name__ in str(error)
    assert route.call_count == 2


async def test_a_body_that_ends_too_soon_is_the_logs_trouble() -> None:
    """By its length, or inside a chunk."""
    for ending in (
        b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"result":',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{"result":',
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
    ):

        async def script(connection: Connection, ending: bytes = ending) -> None:
            await connection.request()
            await connection.send(ending)

        async with ScriptedServer.running(script) as server:
            assert isinstance(await refused(server.url), LogUnavailableError)
            assert server.connections == 2


async def test_the_token_is_in_no_error_and_in_no_log_line(
    wire: respx.MockRouter, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither when it is refused."""
    caplog.set_level(logging.DEBUG)
    wire.post("/").respond(401, json={"error": "WRONGPASS invalid or missing auth token"})
    error = await refused(URL)
    assert TOKEN not in str(error) + repr(error.__cause__)
    assert TOKEN not in caplog.text
    assert not any(TOKEN in str(record.__dict__) for record in caplog.records)


# --- one retry, within the time ----------------------------------------------------------------------------


async def test_a_temporary_failure_is_tried_once_more_and_may_succeed(wire: respx.MockRouter) -> None:
    """The second answer is the answer."""
    wire.post("/").mock(side_effect=[httpx.ConnectError("no"), httpx.Response(200, content=OK)])
    async with client(URL) as upstash:
        assert await upstash.execute(["GET", "k"], timeout_s=1) == "OK"


async def test_a_command_that_may_not_be_repeated_is_not(wire: respx.MockRouter) -> None:
    """And a ping says at once how things are."""
    route = wire.post("/").respond(400, json={"error": "LOADING"})
    await refused(URL, idempotent=False)
    assert route.call_count == 1
    async with client(URL) as upstash:
        with pytest.raises(LogUnavailableError):
            await upstash.ping(timeout_s=1)
    assert route.call_count == 2


async def test_there_is_no_second_try_when_its_time_would_be_over(wire: respx.MockRouter) -> None:
    """The failure that was seen says more than a time-out."""
    route = wire.post("/").respond(400, json={"error": "LOADING"})
    error = await refused(URL, timeout_s=0.04)
    assert "LOADING" in str(error)
    assert route.call_count == 1


async def test_the_time_holds_for_both_tries_together() -> None:
    """The first takes most of it, the second hangs."""

    async def script(connection: Connection) -> None:
        await connection.request()
        if connection.number == 1:
            await asyncio.sleep(0.3)
            return
        await connection.left()

    async with ScriptedServer.running(script) as server:
        began = time.monotonic()
        error = await refused(server.url, timeout_s=0.6)
        assert 0.55 < time.monotonic() - began < 0.9
        assert isinstance(error, LogUnavailableError)
        assert "within 0.6 s" in str(error)
        assert server.connections == 2


async def test_a_server_that_does_not_even_accept_is_given_up_after_a_second_and_tried_again() -> None:
    """Its queue of new connections is full, as behind a dead load balancer. 1.5 s in all, as for an append."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        upstash = plain_upstash(f"http://127.0.0.1:{listener.getsockname()[1]}", TOKEN)
        seen: list[float] = []
        once = upstash._once
        began = time.monotonic()

        async def watched(command: Any) -> Any:
            try:
                return await once(command)
            except LogUnavailableError:
                seen.append(time.monotonic() - began)
                raise

        upstash._once = watched  # type: ignore[method-assign]
        with pytest.raises(LogUnavailableError):
            await upstash.execute(["GET", "k"], timeout_s=1.5)
        assert 1.4 < time.monotonic() - began < 1.8
        assert len(seen) == 1
        assert 0.9 < seen[0] < 1.3
        await upstash.close()


async def test_a_connection_whose_request_was_given_up_is_not_used_again() -> None:
    """Its late answer would be taken for that of the next request."""
    late = asyncio.Event()

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            if connection.number == 1:
                await late.wait()
                await connection.respond(b'{"result":"the answer to the first"}')
            await connection.respond(OK)

    async with ScriptedServer.running(script) as server, client(server.url) as upstash:
        with pytest.raises(LogUnavailableError, match=r"within 0\.2 s"):
            await upstash.execute(["GET", "first"], timeout_s=0.2)
        assert upstash.open_connections == 0
        late.set()
        assert await upstash.execute(["GET", "second"], timeout_s=1) == "OK"
        assert server.connections == 2


async def test_a_caller_that_leaves_takes_nothing_with_it() -> None:
    """Cancelled in the middle, its connection is closed and the others' calls go on."""
    go_on = asyncio.Event()

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            await go_on.wait()
            await connection.respond(OK)

    async with ScriptedServer.running(script) as server, client(server.url) as upstash:
        calls = [asyncio.ensure_future(upstash.execute(["GET", "k"], timeout_s=5)) for _ in range(10)]
        await eventually(lambda: server.connections == 10, "all have a connection")
        for call in calls[::2]:
            call.cancel()
        go_on.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert answers[1::2] == ["OK"] * 5
        assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
        await eventually(lambda: server.open == upstash.open_connections == 5, "theirs are closed")


# --- the pool ----------------------------------------------------------------------------------------------


async def test_two_hundred_parallel_calls_share_fifty_connections() -> None:
    """Never one more, and every call is answered."""
    most = 0
    crowd = asyncio.Event()

    async def script(connection: Connection) -> None:
        nonlocal most
        while True:
            await connection.request()
            most = max(most, server.open)
            if server.open >= 50:
                crowd.set()
            await crowd.wait()
            await connection.respond(OK)

    async with ScriptedServer.running(script) as server, client(server.url) as upstash:
        calls = (upstash.execute(["GET", str(n)], timeout_s=10) for n in range(200))
        assert await asyncio.gather(*calls) == ["OK"] * 200
        assert most == server.connections == upstash.open_connections == 50


async def test_calls_one_after_the_other_share_one_connection(gateway: GatewayProcess) -> None:
    """Warm from the first to the last, as the gateway counts them."""
    before = gateway.stats()["connections"]["seen"]
    async with client(gateway.url, token=gateway.token) as upstash:
        assert upstash.open_connections == 0
        for _ in range(50):
            await upstash.ping(timeout_s=5)
        assert upstash.open_connections == 1
    assert gateway.stats()["connections"]["seen"] - before == 1


async def test_a_full_pool_is_waited_for_no_longer_than_the_call_may_take() -> None:
    """Then it is the log's trouble, and the pool is whole again afterwards."""
    go_on = asyncio.Event()

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            await go_on.wait()
            await connection.respond(OK)

    async with ScriptedServer.running(script) as server, client(server.url, max_connections=2) as upstash:
        holding = [asyncio.ensure_future(upstash.execute(["GET", "k"], timeout_s=10)) for _ in range(2)]
        with pytest.raises(LogUnavailableError, match=r"within 0\.1 s"):
            await upstash.execute(["GET", "k"], timeout_s=0.1)
        go_on.set()
        assert await asyncio.gather(*holding) == ["OK", "OK"]
        calls = (upstash.execute(["GET", "k"], timeout_s=1) for _ in range(10))
        assert await asyncio.gather(*calls) == ["OK"] * 10
        assert upstash.open_connections == 2


@pytest.mark.parametrize("crowd", [1, 2, 5])
async def test_callers_that_leave_at_any_moment_take_no_connection_with_them(crowd: int) -> None:
    """While they wait for a place, while their connection opens, the moment after: the pool of two stays two.

    A process that forgets such connections ends with no place left, for good.
    """
    both = asyncio.Event()

    async def script(connection: Connection) -> None:
        while True:
            _, body = await connection.request()
            if b"both" in body:
                waiting.add(connection.number)
                if len(waiting) > 1:
                    both.set()
                await both.wait()
            await connection.respond(OK)

    waiting: set[int] = set()
    async with ScriptedServer.running(script) as server, client(server.url, max_connections=2) as upstash:
        for steps in range(60):
            calls = [asyncio.ensure_future(upstash.execute(["GET", "k"], timeout_s=5)) for _ in range(crowd)]
            for _ in range(steps):
                await asyncio.sleep(0)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            assert upstash.open_connections <= 2
            waiting.clear()
            both.clear()
            # Each is answered only when the other is there as well: there is room for two.
            calls = [asyncio.ensure_future(upstash.execute(["GET", "both"], timeout_s=2)) for _ in range(2)]
            assert await asyncio.gather(*calls) == ["OK", "OK"], f"after {steps} steps"


# --- connections that died while nobody looked -------------------------------------------------------------


class Recorded:
    """A server that keeps what it was asked, by connection; a connection may be told to fall silent or to close."""

    def __init__(self) -> None:
        self.asked: dict[int, list[str]] = {}
        self.silent: set[int] = set()
        self.close_after: set[int] = set()
        self.sync_tokens: list[str] = []

    async def __call__(self, connection: Connection) -> None:
        """Serve one connection."""
        asked = self.asked.setdefault(connection.number, [])
        while True:
            _, body = await connection.request()
            command = body.decode().split('"')[1]
            asked.append(command)
            if connection.number in self.silent:
                await connection.left()
                return
            await connection.respond(PONG if command == "PING" else OK)
            if connection.number in self.close_after:
                return


@pytest.fixture
def clock() -> Clock:
    """Give a clock that stands."""
    return Clock()


async def test_a_connection_in_use_is_not_probed(clock: Clock) -> None:
    """Just under thirty seconds is in use."""
    script = Recorded()
    async with ScriptedServer.running(script) as server, client(server.url, clock=clock) as upstash:
        for _ in range(3):
            await upstash.execute(["GET", "k"], timeout_s=1)
            clock.now_s += PROBE_AFTER_S - 0.1
        assert script.asked == {1: ["GET"] * 3}


async def test_an_idle_connection_is_tried_before_it_is_used(clock: Clock) -> None:
    """Alive, it costs one ping and stays."""
    script = Recorded()
    async with ScriptedServer.running(script) as server, client(server.url, clock=clock) as upstash:
        await upstash.execute(["GET", "k"], timeout_s=1)
        clock.now_s += PROBE_AFTER_S
        await upstash.execute(["GET", "k"], timeout_s=1)
        await upstash.execute(["GET", "k"], timeout_s=1)
        assert script.asked == {1: ["GET", "PING", "GET", "GET"]}


async def test_a_connection_that_the_server_closed_meanwhile_is_replaced_by_exactly_one(clock: Clock) -> None:
    """The request itself goes to the new one and nothing fails."""
    script = Recorded()
    script.close_after = {1}
    async with ScriptedServer.running(script) as server, client(server.url, clock=clock) as upstash:
        await upstash.execute(["GET", "k"], timeout_s=1)
        await eventually(lambda: server.open == 0, "the server has closed it")
        clock.now_s += PROBE_AFTER_S
        assert await upstash.execute(["GET", "k"], timeout_s=1) == "OK"
        assert script.asked == {1: ["GET"], 2: ["PING", "GET"]}
        assert (server.connections, upstash.open_connections) == (2, 1)


async def test_a_half_dead_connection_is_evicted_in_time_for_the_call_to_succeed(clock: Clock) -> None:
    """It accepts what is sent and never answers, as after a freeze: half a second, then a new one."""
    script = Recorded()
    async with ScriptedServer.running(script) as server, client(server.url, clock=clock) as upstash:
        await upstash.execute(["GET", "k"], timeout_s=1)
        script.silent = {1}
        clock.now_s += 3600
        began = time.monotonic()
        assert await upstash.execute(["GET", "k"], timeout_s=1.5) == "OK"
        assert PROBE_TIMEOUT_S <= time.monotonic() - began < PROBE_TIMEOUT_S + 0.5
        assert script.asked == {1: ["GET", "PING"], 2: ["GET"]}
        await eventually(lambda: server.open == 1, "the dead one is closed on this side")
        assert upstash.open_connections == 1


async def test_half_dead_connections_are_evicted_all_at_once(clock: Clock) -> None:
    """A pool of them would cost half a second each."""
    script = Recorded()
    async with ScriptedServer.running(script) as server, client(server.url, clock=clock) as upstash:
        await asyncio.gather(*(upstash.execute(["GET", "k"], timeout_s=1) for _ in range(10)))
        dead = server.connections
        script.silent = set(range(1, dead + 1))
        clock.now_s += 3600
        calls = (upstash.execute(["GET", "k"], timeout_s=1.5) for _ in range(20))
        assert await asyncio.gather(*calls) == ["OK"] * 20
        assert sum(asked.count("PING") for asked in script.asked.values()) == 1
        assert all(asked.count("GET") == 1 for number, asked in script.asked.items() if number <= dead)


async def test_calls_that_arrive_together_after_a_pause_share_one_probe(clock: Clock) -> None:
    """And one of them that leaves does not take it away from the others."""
    script = Recorded()
    async with ScriptedServer.running(script) as server, client(server.url, clock=clock) as upstash:
        await upstash.execute(["GET", "k"], timeout_s=1)
        script.silent = {1}
        clock.now_s += 3600
        calls = [asyncio.ensure_future(upstash.execute(["GET", "k"], timeout_s=1.5)) for _ in range(5)]
        await eventually(lambda: script.asked[1] == ["GET", "PING"], "it is probed")
        calls[0].cancel()
        assert await asyncio.gather(*calls[1:]) == ["OK"] * 4
        assert script.asked[1] == ["GET", "PING"]


async def test_a_probe_that_its_caller_has_left_can_be_waited_for(clock: Clock) -> None:
    """On Lambda nothing may be left running when a handler answers."""
    script = Recorded()
    async with ScriptedServer.running(script) as server, client(server.url, clock=clock) as upstash:
        await upstash.settle()
        await upstash.execute(["GET", "k"], timeout_s=1)
        script.silent = {1}
        clock.now_s += 3600
        with pytest.raises(LogUnavailableError):
            await upstash.execute(["GET", "k"], timeout_s=0.05)
        assert upstash._probing is not None
        await upstash.settle()
        assert upstash._probing is None


async def test_a_server_that_stays_dead_fails_the_call_in_its_time_and_not_later(clock: Clock) -> None:
    """The probe counts against it; when the server is back, the next call succeeds."""
    script = Recorded()
    async with ScriptedServer.running(script) as server, client(server.url, clock=clock) as upstash:
        await upstash.execute(["GET", "k"], timeout_s=1)
        script.silent = {1, 2, 3}
        clock.now_s += 3600
        began = time.monotonic()
        with pytest.raises(LogUnavailableError):
            await upstash.execute(["GET", "k"], timeout_s=0.8)
        assert 0.75 < time.monotonic() - began < 1.1
        script.silent = set(range(1, server.connections + 1))
        assert await upstash.execute(["GET", "k"], timeout_s=1) == "OK"


async def test_an_evicted_pool_keeps_what_is_needed_to_read_ones_own_writes(clock: Clock) -> None:
    """Upstash's sync token goes on to the new connections."""
    seen: list[str] = []

    async def script(connection: Connection) -> None:
        while True:
            first, _ = await connection.request()
            del first
            seen.append(connection.headers.get("upstash-sync-token", ""))
            if connection.number == 1 and len(seen) > 1:
                await connection.left()
                return
            await connection.send(
                b"HTTP/1.1 200 OK\r\nUpstash-Sync-Token: t%d\r\nContent-Length: %d\r\n\r\n%s"
                % (len(seen), len(OK), OK)
            )

    async with ScriptedServer.running(script) as server, client(server.url, clock=clock) as upstash:
        await upstash.execute(["SET", "k", "v"], timeout_s=1)
        clock.now_s += 3600
        await upstash.execute(["GET", "k"], timeout_s=1.5)
        assert seen == ["", "t1", "t1"]


async def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool that is counted and bounded is the one that is used."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    script = Recorded()
    with cheap_tls():
        async with ScriptedServer.running(script) as server, client(server.url) as upstash:
            assert await upstash.execute(["GET", "k"], timeout_s=1) == "OK"
            assert upstash.open_connections == server.connections == 1
