"""The transport under every request to Redis: its places, its answers, and servers that misbehave at each point."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import httpx
import pytest

from shared.http_connection import MAX_HEAD_BYTES, MAX_UNREAD_BYTES
from shared.http_pool import PooledTransport
from tests.support.scripted_server import Connection, Script, ScriptedServer
from tests.support.stream_rig import eventually

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Rig:
    """A scripted server and a client of our transport to it."""

    def __init__(self, server: ScriptedServer, transport: PooledTransport, client: httpx.AsyncClient) -> None:
        self.server = server
        self.transport = transport
        self.client = client

    async def get(self, **more: float | None) -> httpx.Response:
        """Send a request."""
        return await self.client.get("/", **more)  # type: ignore[arg-type]


@asynccontextmanager
async def talking(script: Script, *, most: int = 5) -> AsyncIterator[Rig]:
    """Serve the script to a client; at the end no connection is left on either side."""
    async with ScriptedServer.running(script) as server:
        transport = PooledTransport(server.url, max_connections=most)
        async with httpx.AsyncClient(transport=transport, base_url=server.url, timeout=5) as client:
            yield Rig(server, transport, client)
        assert transport.open_connections == 0


def saying(*parts: bytes, then_stay: bool = False) -> Script:
    """Answer the first request of each connection with these bytes, part by part, and close it."""

    async def script(connection: Connection) -> None:
        await connection.request()
        for part in parts:
            await connection.send(part)
            await asyncio.sleep(0)
        if then_stay:
            await connection.left()

    return script


async def polite(connection: Connection) -> None:
    """Answer every request."""
    while True:
        await connection.request()
        await connection.send(HELLO)


async def all_places_are_free(rig: Rig, most: int = 5) -> None:
    """As many requests as there are places go on at the same time."""
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*(rig.get() for _ in range(2 * most)))
    assert [answer.content for answer in answers] == [b"hello"] * 2 * most
    assert rig.transport._places._value == most
    assert rig.transport.open_connections <= most


# --- answers -----------------------------------------------------------------------------------------------

ANSWERS = {
    "a length": (HELLO, b"hello"),
    "chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nT: x\r\n\r\n",
        b"hello",
    ),
    "the end of the connection": (b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello"),
    "informational answers before it": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + HELLO,
        b"hello",
    ),
    "no body": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b""),
}


@pytest.mark.parametrize(("wire", "body"), ANSWERS.values(), ids=ANSWERS.keys())
@pytest.mark.parametrize("step", [1, 7, 10_000])
async def test_an_answer_is_read_however_it_is_cut(wire: bytes, body: bytes, step: int) -> None:
    """Byte for byte, or all at once."""
    parts = [wire[start : start + step] for start in range(0, len(wire), step)]
    async with talking(saying(*parts)) as rig:
        answer = await rig.get()
        assert answer.content == body
        assert "link" not in answer.headers
        assert "t" not in answer.headers


async def test_a_head_request_has_no_body_whatever_its_length_says() -> None:
    """And the next request is not confused by it."""

    async def script(connection: Connection) -> None:
        while True:
            first, _ = await connection.request()
            await connection.send(HELLO[:-5] if first.startswith("HEAD") else HELLO)

    async with talking(script) as rig:
        answer = await rig.client.head("/")
        assert (answer.content, answer.headers["content-length"]) == (b"", "5")
        assert (await rig.get()).content == b"hello"


async def test_a_request_arrives_as_it_was_given() -> None:
    """Path, query, headers and body."""
    seen: list[tuple[str, bytes, str]] = []

    async def script(connection: Connection) -> None:
        first, body = await connection.request()
        seen.append((first, body, connection.headers["x-name"]))
        await connection.send(HELLO)

    async with talking(script) as rig:
        await rig.client.post("/a%20b?c=d&e", content=b"\x00\r\n\xff", headers={"X-Name": "v"})
    assert seen == [("POST /a%20b?c=d&e HTTP/1.1", b"\x00\r\n\xff", "v")]


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b"])
async def test_a_header_cannot_smuggle_another(value: str) -> None:
    """It is refused before anything is sent."""
    async with talking(polite) as rig:
        with pytest.raises(httpx.LocalProtocolError):
            await rig.client.get("/", headers={"X-Name": value})
        assert rig.server.connections == 0


async def test_another_server_is_not_spoken_to() -> None:
    """The pool's token would go there."""
    async with talking(polite) as rig:
        with pytest.raises(httpx.UnsupportedProtocol):
            await rig.client.get("http://elsewhere.test/")
        with pytest.raises(httpx.UnsupportedProtocol):
            await rig.client.get(rig.server.url.replace("http:", "https:"))


# --- servers that misbehave --------------------------------------------------------------------------------

GARBAGE = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "a page without a head": b"<html></html>",
    "a bad status": b"HTTP/1.1 2x0 OK\r\n\r\n",
    "a bad length": b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "a bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "an upgrade": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nabc",
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * MAX_HEAD_BYTES,
    "a header without end": b"HTTP/1.1 200 OK\r\nA: " + b"b" * 5 * MAX_HEAD_BYTES,
    "informational answers without end": b"HTTP/1.1 100 Continue\r\n\r\n" * MAX_HEAD_BYTES,
}


@pytest.mark.parametrize("wire", GARBAGE.values(), ids=GARBAGE.keys())
async def test_what_is_not_http_is_a_fault_of_the_server(wire: bytes) -> None:
    """It costs the connection, and no place."""
    async with talking(saying(wire, then_stay=True)) as rig:
        for _ in range(10):
            with pytest.raises(httpx.RemoteProtocolError):
                await rig.get()
            assert rig.transport.open_connections == 0
        rig.server.script = polite
        await all_places_are_free(rig)


@pytest.mark.parametrize(
    "framed", ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
)
async def test_a_server_that_closes_at_any_point_before_the_end_is_noticed(framed: str) -> None:
    """After each byte."""
    wire = f"HTTP/1.1 200 OK\r\n{framed}".encode()
    async with talking(polite) as rig:
        for end in range(len(wire)):
            rig.server.script = saying(wire[:end])
            with pytest.raises(httpx.RemoteProtocolError):
                await rig.get()
        rig.server.script = polite
        await all_places_are_free(rig)


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\n\r\nhe"])
async def test_a_reset_is_a_read_error(sent: bytes) -> None:
    """Even where the end of the connection would be that of the body."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(sent)
        await asyncio.sleep(0.01)
        # Closed with a lingering time of zero, a socket is reset.
        sock = connection._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection._writer.transport.abort()

    async with talking(script) as rig:
        with pytest.raises(httpx.ReadError):
            await rig.get()


async def test_nobody_there_is_a_connect_error() -> None:
    """And so is a name that nobody has; no place is lost by it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        transport = PooledTransport(url, max_connections=1)
        async with httpx.AsyncClient(transport=transport) as client:
            for _ in range(3):
                with pytest.raises(httpx.ConnectError):
                    await client.get(url)
                assert transport.open_connections == 0


async def test_a_server_without_tls_is_a_connect_error() -> None:
    """What it says instead is no handshake."""
    async with ScriptedServer.running(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
        url = server.url.replace("http:", "https:")
        async with httpx.AsyncClient(transport=PooledTransport(url, max_connections=1), timeout=1) as client:
            with pytest.raises((httpx.ConnectError, httpx.ConnectTimeout)):
                await client.get(url)


def test_the_certificates_are_verified_and_read_once() -> None:
    """By every transport of the process; without TLS, never."""
    first = PooledTransport("https://a.test", max_connections=1)._tls
    assert first is not None
    assert first is PooledTransport("https://b.test", max_connections=1)._tls
    context = first.result(timeout=10)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert PooledTransport("http://a.test", max_connections=1)._tls is None


async def test_an_answer_that_drips_is_given_up_by_the_read_timeout_or_the_caller() -> None:
    """A slow loris holds its place no longer than it is waited for."""

    async def drip(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            await connection.send(b"x")
            await asyncio.sleep(0.01)

    async with talking(drip, most=1) as rig:
        with pytest.raises(httpx.ReadTimeout):
            await rig.get(timeout=0.1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await rig.get()
        assert rig.transport.open_connections == 0
        rig.server.script = polite
        await all_places_are_free(rig, most=1)


# --- which connections are used again ----------------------------------------------------------------------


async def test_the_connection_used_last_is_used_first() -> None:
    """The others may rest until the server closes them."""
    used: list[int] = []
    gate = asyncio.Event()

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            used.append(connection.number)
            await gate.wait()
            await asyncio.sleep(0.02 * connection.number)
            await connection.send(HELLO)

    async with talking(script) as rig:
        calls = [asyncio.ensure_future(rig.get()) for _ in range(3)]
        await eventually(lambda: len(used) == 3, "each has a connection")
        gate.set()
        await asyncio.gather(*calls)
        for _ in range(3):
            await rig.get()
        assert used[3:] == [3, 3, 3]


async def test_a_connection_that_the_server_closed_while_idle_is_not_used() -> None:
    """Even if the event loop has not looked since: as in a Lambda that was frozen."""
    async with talking(saying(HELLO)) as rig:
        for number in range(1, 6):
            assert (await rig.get()).content == b"hello"
            assert rig.server.connections == number

    def serve_and_close(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(65_536)
            peer.sendall(HELLO)
            peer.setblocking(True)
            left.append(peer.dup())

    left: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx.AsyncClient(transport=PooledTransport(url, max_connections=1)) as client:
            for _ in range(3):
                serving = asyncio.ensure_future(asyncio.to_thread(serve_and_close, listener))
                assert (await client.get(url)).content == b"hello"
                await serving
                left.pop().close()  # no turn of the event loop between this and the next request


@pytest.mark.parametrize("surplus", [b"x", HELLO, b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
@pytest.mark.parametrize("later", [False, True])
async def test_what_nobody_asked_for_is_never_taken_for_an_answer(surplus: bytes, *, later: bool) -> None:
    """The connection it came on is given up; the answer before it is good."""

    async def script(connection: Connection) -> None:
        await connection.request()
        if later:
            await connection.send(HELLO)
            await asyncio.sleep(0.02)
            await connection.send(surplus)
        else:
            await connection.send(HELLO + surplus)
        await connection.left()

    async with talking(script) as rig:
        for number in range(1, 4):
            assert (await rig.get()).content == b"hello"
            await eventually(lambda: rig.transport.open_connections == 0, "it is given up")
            assert rig.server.connections == number


async def test_a_connection_that_the_server_will_close_is_not_kept() -> None:
    """It says so in its answer."""
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"
    async with talking(saying(closing, then_stay=True)) as rig:
        assert (await rig.get()).content == b"hello"
        assert rig.transport.open_connections == 0


async def test_a_reused_connection_that_fails_before_an_answer_is_an_error_and_no_second_request() -> None:
    """Whether a request may be repeated is known above."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(HELLO)
        await connection.request()

    async with talking(script) as rig:
        await rig.get()
        with pytest.raises(httpx.RemoteProtocolError):
            await rig.get()
        assert rig.server.connections == 1


# --- places, and who leaves --------------------------------------------------------------------------------


async def test_who_waits_for_a_place_is_served_in_order() -> None:
    """First come, first served; one that leaves the line is not missed."""
    served: list[bytes] = []

    async def script(connection: Connection) -> None:
        while True:
            _, body = await connection.request()
            served.append(body)
            await connection.send(HELLO)

    async with talking(script, most=1) as rig:
        calls = [asyncio.ensure_future(rig.client.post("/", content=b"%d" % n)) for n in range(20)]
        await asyncio.sleep(0)
        for call in calls[1::4]:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert served == [b"%d" % n for n in range(20) if n % 4 != 1]


async def test_a_place_is_waited_for_no_longer_than_the_pool_timeout() -> None:
    """It is an error of its own."""
    async with talking(saying(then_stay=True), most=1) as rig:
        holding = asyncio.ensure_future(rig.get())
        await eventually(lambda: rig.server.open == 1, "the place is taken")
        with pytest.raises(httpx.PoolTimeout):
            await rig.get(timeout=0.05)
        holding.cancel()
        rig.server.script = polite
        await all_places_are_free(rig, most=1)


@pytest.mark.parametrize("wire", [HELLO, ANSWERS["chunks"][0]])
async def test_a_request_that_is_cancelled_at_any_await_gives_its_place_back(wire: bytes) -> None:
    """While it waits in line, connects, sends, reads the head, reads the body, after each turn of the event loop."""

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            for byte in wire:
                await connection.send(bytes([byte]))
                await asyncio.sleep(0)

    async with talking(script, most=2) as rig:
        finished = False
        for turns in range(400):
            calls = [asyncio.ensure_future(rig.get()) for _ in range(3)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for call in calls:
                call.cancel()
            seen = await asyncio.gather(*calls, return_exceptions=True)
            assert rig.transport._places._value == 2
            assert rig.transport.open_connections == len(rig.transport._idle) <= 2
            assert all(answer.content == b"hello" for answer in seen if isinstance(answer, httpx.Response))
            finished = not any(isinstance(answer, BaseException) for answer in seen)
            if finished:
                break
        assert finished
        await all_places_are_free(rig, most=2)


@pytest.mark.parametrize("seed", range(3))
async def test_two_hundred_requests_of_which_many_leave_end_with_all_places_free(seed: int) -> None:
    """Over five connections, each answer still goes to whom it belongs."""
    schedule = random.Random(seed)
    most = 0

    async def script(connection: Connection) -> None:
        nonlocal most
        while True:
            _, body = await connection.request()
            most = max(most, rig.transport.open_connections)
            await asyncio.sleep(schedule.random() * 0.004)
            await connection.respond(body)

    async def call(number: int) -> None:
        body = b"%d" % number
        with suppress(TimeoutError):
            async with asyncio.timeout(schedule.choice([5, 0.001, 0.01, 0.02, 0.05])):
                assert (await rig.client.post("/", content=body)).content == body

    async with talking(script) as rig:
        await asyncio.gather(*(call(number) for number in range(200)))
        assert most == 5
        assert rig.transport._places._value == 5
        assert rig.transport.open_connections == len(rig.transport._idle)
        await eventually(lambda: rig.server.open == rig.transport.open_connections, "the others are closed")


async def test_a_closed_pool_fails_who_is_on_it_and_opens_no_more_connections() -> None:
    """Those under way and those in line."""
    async with talking(saying(then_stay=True), most=2) as rig:
        calls = [asyncio.ensure_future(rig.get()) for _ in range(5)]
        await eventually(lambda: rig.server.open == 2, "two are under way")
        await rig.transport.aclose()
        seen = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(error, httpx.TransportError) for error in seen)
        await eventually(lambda: rig.server.open == 0, "both are closed")
        assert rig.server.connections == 2


# --- bodies that are streamed ------------------------------------------------------------------------------


async def test_a_stream_that_is_left_is_closed_and_its_place_is_free() -> None:
    """By cancellation in the middle of a feed, or by leaving its block."""

    async def feed(connection: Connection) -> None:
        await connection.request()
        await connection.start_feed()
        await connection.chunk(b"data: 1\n\n")
        await connection.left()

    async def listen(heard: Callable[[bytes], None]) -> None:
        async with rig.client.stream("GET", "/") as answer:
            async for chunk in answer.aiter_raw():
                heard(chunk)

    async with talking(feed, most=1) as rig:
        for _ in range(3):
            parts: list[bytes] = []
            task = asyncio.ensure_future(listen(parts.append))
            await eventually(lambda parts=parts: parts == [b"data: 1\n\n"], "the feed has begun")  # type: ignore[misc]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await eventually(lambda: rig.server.open == rig.transport.open_connections == 0, "it is closed")
        async with rig.client.stream("GET", "/") as answer:
            assert answer.status_code == 200
        await eventually(lambda: rig.server.open == rig.transport.open_connections == 0, "it is closed")


async def test_a_reader_that_is_slow_makes_the_server_wait() -> None:
    """What is not read does not heap up here."""
    size, sent = 64 * MAX_UNREAD_BYTES, 0

    async def script(connection: Connection) -> None:
        nonlocal sent
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            await connection.send(b"x" * 65_536)
            sent += 65_536
        await connection.left()

    async with talking(script, most=1) as rig, rig.client.stream("GET", "/") as answer:
        connection = next(iter(rig.transport._connections))
        await eventually(lambda: connection._unread_bytes > MAX_UNREAD_BYTES, "the server is made to wait")
        held = connection._unread_bytes
        assert held <= 2 * MAX_UNREAD_BYTES
        assert sent < size
        assert sum([len(part) async for part in answer.aiter_raw()]) == size
