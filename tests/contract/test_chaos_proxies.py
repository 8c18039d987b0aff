"""The proxies of the chaos harness over real sockets: what each kind of fault does to what passes, and to whom."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from infra.chaos.canned import READONLY
from infra.chaos.http_messages import answer
from infra.chaos.http_proxy import CONNECTION
from infra.chaos.link import Link
from infra.chaos.origin import Origin, Streams
from infra.chaos.poster import Poster
from infra.chaos.resp_proxy import RespProxy
from infra.chaos.topology import Dialect, Kind, LinkSpec
from infra.local.loopback import HOST, shut
from tests.support.chaos_links import SEED, Site, client_site, request, site, suffering
from tests.support.waiting import until

BROKEN = (OSError, EOFError)
COMMAND = ["SET", "k", "v"]
MESSAGE = b"data: message,live:a,1 0-0 1-0 {}\n\n"
TIMEOUT_S = 5.0


@asynccontextmanager
async def posting(found: Site) -> AsyncIterator[Poster]:
    async with aclosing(Poster(found.origin, {"Authorization": "Bearer t"})) as poster:
        yield poster


async def test_without_a_fault_everything_passes_as_it_is_on_one_connection() -> None:
    async with site(Dialect.REDIS) as found, posting(found) as poster:
        for _ in range(3):
            assert await poster.post("/", COMMAND, timeout_s=TIMEOUT_S) == (200, {"result": "OK"}, False)
        found.server.answer = b"HTTP/1.1 418 X\r\ntransfer-encoding: chunked\r\n\r\n2\r\n[1\r\n1\r\n]\r\n0\r\n\r\n"
        assert await poster.post("/", COMMAND, timeout_s=TIMEOUT_S) == (418, [1], False)
        assert [body for _, body in found.server.requests] == [b'["SET", "k", "v"]'] * 4
        assert {head.fields["authorization"] for head, _ in found.server.requests} == {"Bearer t"}
        assert found.link.fired == {}


async def test_the_host_is_named_anew_where_the_server_looks_at_it() -> None:
    async with site(Dialect.FUNCTION, renamed=True) as found, posting(found) as poster:
        await poster.get("/", timeout_s=TIMEOUT_S)
        assert found.server.requests[0][0].fields["host"] == f"{HOST}:{found.server.port}"


async def test_a_slow_link_delays_and_passes_on() -> None:
    async with site(Dialect.REDIS) as found, posting(found) as poster:
        async with suffering(found.link, Kind.LATENCY, delay_s=0.1):
            began = time.monotonic()
            assert (await poster.post("/", COMMAND, timeout_s=TIMEOUT_S)).status == 200
            assert time.monotonic() - began >= 0.1
        assert found.link.fired == {Kind.LATENCY: 1}


async def test_a_link_that_hangs_answers_nobody_and_breaks_when_that_is_over() -> None:
    """Of the requests about half are carried out all the same: nobody can tell."""
    async with site(Dialect.REDIS) as found, posting(found) as poster:
        async with suffering(found.link, Kind.HANG):
            asked = [asyncio.ensure_future(poster.post("/", COMMAND, timeout_s=TIMEOUT_S)) for _ in range(20)]
            await until(lambda: found.link.fired[Kind.HANG] == 20, "all hang")
            await until(lambda: len(found.server.requests) >= 3, "some are carried out")
            assert not any(task.done() for task in asked)
        ends = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(end, BROKEN) and not isinstance(end, TimeoutError) for end in ends)
        assert len(found.server.requests) < 20


async def test_a_client_that_gives_up_on_a_hanging_link_lets_go_of_it() -> None:
    async with site(Dialect.REDIS) as found, posting(found) as poster, suffering(found.link, Kind.HANG):
        with pytest.raises(TimeoutError):
            await poster.post("/", COMMAND, timeout_s=0.05)
        await until(lambda: not found.proxy._serving, "the proxy has let go")


@pytest.mark.parametrize(("kind", "carried_out"), [(Kind.RESET_BEFORE, 0), (Kind.RESET_AFTER, 1), (Kind.HALF, 1)])
async def test_a_connection_breaks_before_or_after_its_request_is_carried_out(kind: Kind, carried_out: int) -> None:
    async with site(Dialect.REDIS) as found, posting(found) as poster:
        async with suffering(found.link, kind):
            with pytest.raises(BROKEN) as caught:
                await poster.post("/", COMMAND, timeout_s=TIMEOUT_S)
        assert not isinstance(caught.value, TimeoutError)
        assert len(found.server.requests) == carried_out
        assert found.link.fired == {kind: 1}
        assert (await poster.post("/", COMMAND, timeout_s=TIMEOUT_S)).status == 200


async def test_an_answer_is_written_in_part_and_never_whole() -> None:
    async with site(Dialect.REDIS) as found, suffering(found.link, Kind.HALF):
        parts: set[int] = set()
        for _ in range(12):
            reader, writer = await found.origin.connect()
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            with pytest.raises(BROKEN) as caught:
                await reader.readexactly(len(found.server.answer))
            if isinstance(caught.value, asyncio.IncompleteReadError):
                parts.add(len(caught.value.partial))
            await shut(writer)
        assert len(parts) > 2


@pytest.mark.parametrize(
    ("dialect", "kind", "statuses"),
    [
        (Dialect.REDIS, Kind.ERROR_500, {500, 502, 503}),
        (Dialect.REDIS, Kind.TOO_MANY, {429, 400}),
        (Dialect.REDIS, Kind.READONLY, {400}),
        (Dialect.FUNCTION, Kind.TOO_MANY, {429}),
        (Dialect.SQS, Kind.ERROR_500, {500, 503}),
        (Dialect.SQS, Kind.TOO_MANY, {400, 403, 429}),
    ],
)
async def test_an_error_is_given_in_the_servers_place_in_its_words(
    dialect: Dialect, kind: Kind, statuses: set[int]
) -> None:
    async with site(dialect) as found, posting(found) as poster, suffering(found.link, kind):
        replies = [await poster.post("/", COMMAND, timeout_s=TIMEOUT_S) for _ in range(30)]
    assert {reply.status for reply in replies} == statuses
    assert all(reply.injected for reply in replies)
    said = [reply.said for reply in replies]
    if kind is Kind.READONLY:
        assert said == [READONLY] * 30
    if dialect is Dialect.SQS:
        assert all(text["__type"].startswith("com.amazonaws.sqs#") for text in said)
    # A server that fails may have done what it was asked; one that refuses has not.
    assert (0 < len(found.server.requests) < 30) if kind is Kind.ERROR_500 else found.server.requests == []


async def test_garbage_has_a_good_status_and_says_nothing() -> None:
    async with site(Dialect.REDIS) as found, posting(found) as poster, suffering(found.link, Kind.GARBAGE):
        replies = [await poster.post("/", COMMAND, timeout_s=TIMEOUT_S) for _ in range(40)]
    assert {reply.status for reply in replies} == {200}
    assert all(reply.said != {"result": "OK"} for reply in replies)
    assert len({str(reply.said) for reply in replies}) > 3
    assert 0 < len(found.server.requests) < 40


async def test_a_function_is_never_put_a_false_status_into_its_mouth() -> None:
    """Pub/Sub believes a 2xx whatever the body: a lie about it would lose what the webhook did not keep."""
    async with site(Dialect.FUNCTION) as found, posting(found) as poster, suffering(found.link, Kind.GARBAGE):
        found.server.answer = answer(503, b"{}")
        assert (await poster.post("/push", {}, timeout_s=TIMEOUT_S)).status == 503
        found.server.answer = answer(200, b'{"status":"published"}')
        reply = await poster.post("/push", {}, timeout_s=TIMEOUT_S)
        assert reply.status == 200
        assert reply.said != {"status": "published"}
        assert len(found.server.requests) == 2


async def test_a_fault_of_a_share_hits_that_share() -> None:
    async with site(Dialect.REDIS) as found, posting(found) as poster:
        async with suffering(found.link, Kind.READONLY, share=0.3):
            replies = [await poster.post("/", COMMAND, timeout_s=TIMEOUT_S) for _ in range(60)]
        hit = sum(reply.injected for reply in replies)
        assert 5 < hit < 40
        assert found.link.fired == {Kind.READONLY: hit}


# --- feeds and streams


@asynccontextmanager
async def feed(found: Site, path: str = "/subscribe/live:a", *fields: str) -> AsyncIterator[Streams]:
    """Open a feed through the proxy, and wait until the server has it."""
    streams = await found.origin.connect()
    number = len(found.server.feeds)
    await request(streams, path, *fields)
    await until(lambda: len(found.server.feeds) > number and len(found.link.lines) > number, "the feed is open")
    try:
        yield streams
    finally:
        await shut(streams[1])


async def heard(streams: Streams, what: bytes) -> bytes:
    """Read until something was said; return all up to it."""
    async with asyncio.timeout(TIMEOUT_S):
        return await streams[0].readuntil(what)


async def test_a_feed_passes_on_what_is_said() -> None:
    async with site(Dialect.REDIS) as found, feed(found) as streams:
        found.server.say(b"data: subscribe,live:a,1\n\n", MESSAGE + MESSAGE, b"data: mess")
        found.server.say(b"age,live:a,last\n\n")
        assert (await heard(streams, b"last")).count(b"data: message") == 3


async def test_a_dropped_feed_ends() -> None:
    async with site(Dialect.REDIS) as found, feed(found) as streams, suffering(found.link, Kind.FEED_CUT):
        with pytest.raises(BROKEN):
            await heard(streams, b"never said")
        assert found.link.fired == {Kind.FEED_CUT: 1}


async def test_a_silent_feed_stays_open_and_swallows_every_message_for_good() -> None:
    """Also when the episode is over, as a connection that is half open would; one opened then speaks."""
    async with site(Dialect.REDIS) as found, feed(found) as silent:
        async with suffering(found.link, Kind.FEED_SILENT):
            found.server.say(MESSAGE)
            await until(lambda: found.link.fired[Kind.FEED_SILENT] == 1, "a message is swallowed")
        async with feed(found) as speaking:
            found.server.say(b"data: subscribe,live:a,2\n\n", MESSAGE)
            assert b"message" in await heard(speaking, b"1-0 {}")
        assert b"message" not in await heard(silent, b",2\n\n")
        await until(lambda: found.link.fired[Kind.FEED_SILENT] == 2, "another one is swallowed")
        assert not silent[0].at_eof()


@pytest.mark.parametrize(("kind", "copies"), [(Kind.FEED_LOSES, 0), (Kind.FEED_DOUBLES, 2)])
async def test_a_feed_loses_or_doubles_single_messages(kind: Kind, copies: int) -> None:
    async with site(Dialect.REDIS) as found, feed(found) as streams:
        async with suffering(found.link, kind):
            found.server.say(MESSAGE)
            await until(lambda: found.link.fired[kind] == 1, "a message was hit")
        found.server.say(b"data: message,live:a,last\n\n")
        assert (await heard(streams, b"last")).count(b"1-0 {}") == copies


async def test_a_stream_is_cut_within_the_next_bytes_and_whom_that_hurt_is_known() -> None:
    async with (
        client_site() as found,
        feed(found, "/events?client=a", f"{CONNECTION}: a-0") as cut,
        feed(found, "/events?client=b", f"{CONNECTION}: b-0") as other,
    ):
        [line] = [line for line in found.link.lines if getattr(line, "_named", "") == "b-0"]
        found.link.lines.discard(line)  # so that the fault passes it by
        async with suffering(found.link, Kind.CUT):
            found.server.say(b"data: " + b"x" * 2000 + b"\n\n")
            with pytest.raises(BROKEN):
                await heard(cut, b"\n\n\r\n")
        assert found.link.hurt == {"a-0"}
        assert found.link.fired == {Kind.CUT: 1}
        assert await heard(other, b"\n\n")


async def test_a_stream_on_which_nothing_is_said_is_cut_when_the_episode_ends() -> None:
    async with client_site() as found, feed(found, "/events", f"{CONNECTION}: a-0") as streams:
        async with suffering(found.link, Kind.CUT):
            assert not streams[0].at_eof()
        with pytest.raises(BROKEN):
            await heard(streams, b"never said")


async def test_a_stalled_stream_brings_everything_in_the_end() -> None:
    async with client_site() as found, feed(found, "/events", f"{CONNECTION}: a-0") as streams:
        async with suffering(found.link, Kind.STALL):
            found.server.say(b"data: 1\n\n", b"data: 2\n\n")
            await until(lambda: found.link.fired[Kind.STALL] == 1, "it stalls")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await streams[0].readuntil(b"data: 1")
        assert await heard(streams, b"data: 2\n\n")
        assert found.link.hurt == set()


# --- the link to Redis


@asynccontextmanager
async def redis_site() -> AsyncIterator[tuple[Link, Streams, list[bytes]]]:
    """Give a link before a server that says +OK to every line, a connection through it, and the lines."""
    lines: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            lines.append(line)
            writer.write(b"+OK\r\n")
        await shut(writer)

    server = await asyncio.start_server(serve, HOST, 0)
    link = Link(LinkSpec("gateway", "redis", Dialect.RESP, tuple(Kind)), SEED)
    port = server.sockets[0].getsockname()[1]
    async with RespProxy(link, Origin.local(port)).running() as proxy:
        streams = await Origin.local(proxy.port).connect()
        streams[1].write(b"PING\r\n")
        assert await streams[0].readline() == b"+OK\r\n"
        try:
            yield link, streams, lines
        finally:
            await shut(streams[1])
            server.close()


@pytest.mark.parametrize(("kind", "commands"), [(Kind.RESET_BEFORE, 1), (Kind.RESET_AFTER, 2), (Kind.HALF, 2)])
async def test_the_connection_to_redis_breaks_before_or_after_a_command(kind: Kind, commands: int) -> None:
    async with redis_site() as (link, (reader, writer), lines):
        async with suffering(link, kind):
            writer.write(b"INCR a\r\n")
            with pytest.raises(BROKEN):
                await reader.readexactly(5)
        assert lines == [b"PING\r\n", b"INCR a\r\n"][:commands]
        assert link.fired == {kind: 1}


async def test_the_connection_to_redis_is_slow() -> None:
    async with redis_site() as (link, (reader, writer), _), suffering(link, Kind.LATENCY, delay_s=0.1):
        began = time.monotonic()
        writer.write(b"INCR a\r\n")
        assert await reader.readline() == b"+OK\r\n"
        assert time.monotonic() - began >= 0.1


async def test_connections_to_redis_that_hang_go_on_late_or_break() -> None:
    went_on: set[bool] = set()
    for seed in range(12):
        async with redis_site() as (link, (reader, writer), lines):
            link.rng.seed(seed)
            async with suffering(link, Kind.HANG):
                writer.write(b"INCR a\r\n")
                await until(lambda link=link: link.fired[Kind.HANG] > 0, "it hangs")  # type: ignore[misc]
                assert lines == [b"PING\r\n"]
            async with asyncio.timeout(TIMEOUT_S):
                try:
                    went_on.add(await reader.readline() == b"+OK\r\n")
                except OSError:
                    went_on.add(False)
    assert went_on == {True, False}
