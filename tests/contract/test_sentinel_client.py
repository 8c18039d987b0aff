"""Whom the gateway follows when Sentinels disagree, are silent, or talk nonsense: real Redis, scripted Sentinels."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from infra.local.gateway import build_gateway
from infra.local.resp import RedisAddress, RespClient, RespConnectionError, SentinelPrimary, SentinelUrl, ask
from tests.support.gateway import NO_TLS, GatewayThread, RedisServer, free_port
from tests.support.ha import FakeSentinel
from tests.support.waiting import until

PATIENCE_S = 5.0


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, RedisServer]]:
    """Give two Redis that know nothing of each other."""
    with (
        RedisServer.running(tmp_path_factory.mktemp("old")) as old,
        RedisServer.running(tmp_path_factory.mktemp("new")) as new,
    ):
        yield old, new


@pytest.fixture
async def old(pair: tuple[RedisServer, RedisServer]) -> AsyncIterator[RedisServer]:
    """Give the one that is the primary at first; it is a primary again afterwards."""
    yield pair[0]
    await on(pair[0], "REPLICAOF", "NO", "ONE")
    await on(pair[0], "DEL", "k")


@pytest.fixture
async def new(pair: tuple[RedisServer, RedisServer]) -> AsyncIterator[RedisServer]:
    """Give the other."""
    yield pair[1]
    await on(pair[1], "DEL", "k")


@pytest.fixture
async def trio(old: RedisServer) -> AsyncIterator[list[FakeSentinel]]:
    """Give three Sentinels that agree on the old primary."""
    async with contextlib.AsyncExitStack() as stack:
        sentinels = [await stack.enter_async_context(FakeSentinel.running()) for _ in range(3)]
        for sentinel in sentinels:
            sentinel.primary, sentinel.epoch = at(old), 1
        yield sentinels


class Rest:
    """A client of a gateway."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def __call__(self, *command: str) -> httpx.Response:
        return await self.http.post("/", json=command)

    @contextlib.asynccontextmanager
    async def feed(self) -> AsyncIterator[AsyncIterator[str]]:
        """Open a feed of channel c; give its lines."""
        async with self.http.stream("GET", "/subscribe/c") as response:
            lines = response.aiter_lines()
            assert await anext(lines) == "data: subscribe,c,1"
            assert await anext(lines) == ""
            yield lines


@contextlib.asynccontextmanager
async def gateway_over(sentinels: list[FakeSentinel]) -> AsyncIterator[Rest]:
    with GatewayThread.running(url_of(sentinels)) as gateway:
        async with httpx.AsyncClient(
            base_url=gateway.url, headers=gateway.headers, timeout=PATIENCE_S, verify=NO_TLS, trust_env=False
        ) as http:
            yield Rest(http)


def url_of(sentinels: list[FakeSentinel]) -> str:
    return f"redis+sentinel://{','.join(f'127.0.0.1:{sentinel.port}' for sentinel in sentinels)}/m"


def at(redis: RedisServer) -> str:
    return f"127.0.0.1:{redis.port}"


async def on(redis: RedisServer, *command: str) -> object:
    """Run a command on one Redis itself."""
    client = RespClient(redis.url)
    try:
        return await client.execute(*command)
    finally:
        await client.close()


async def ended(lines: AsyncIterator[str]) -> bool:
    """Wait for the end of a feed."""
    async with asyncio.timeout(PATIENCE_S):
        return [line async for line in lines] in ([], [""])


# -- whom it follows


async def test_the_newest_configuration_counts_whoever_is_in_the_majority(
    trio: list[FakeSentinel], new: RedisServer
) -> None:
    """Two that missed the last failover are outvoted by one that has not."""
    trio[2].primary, trio[2].epoch = at(new), 2
    async with gateway_over(trio) as rest:
        assert (await rest("SET", "k", "v")).status_code == 200
    assert await on(new, "GET", "k") == b"v"


async def test_a_sentinel_that_missed_a_failover_is_not_believed_when_it_is_alone(
    trio: list[FakeSentinel], old: RedisServer, new: RedisServer
) -> None:
    """Its primary may be back and take itself for one; what is written there would be lost."""
    trio[2].primary, trio[2].epoch = at(new), 2
    async with gateway_over(trio) as rest:
        assert (await rest("PING")).status_code == 200
        trio[1].silent = trio[2].silent = True
        await on(new, "CLIENT", "KILL", "TYPE", "normal")
        answer = await rest("SET", "k", "v")
        assert answer.status_code == 503
        assert "do not know of the last failover" in answer.json()["error"]
        trio[2].silent = False
        assert (await rest("SET", "k", "v")).status_code == 200
    assert await on(old, "GET", "k") is None


async def test_silent_sentinels_cost_half_a_second_and_dead_ones_nothing(trio: list[FakeSentinel]) -> None:
    trio[0].silent = True
    url = SentinelUrl.parse(url_of(trio))
    started = time.monotonic()
    assert (await ask(url)).epoch == 1
    assert 0.4 < time.monotonic() - started < 2
    trio[0].silent = False
    dead = SentinelUrl((RedisAddress("127.0.0.1", free_port()), *url.sentinels), url.name)
    started = time.monotonic()
    assert (await ask(dead)).epoch == 1
    assert time.monotonic() - started < 0.4


async def test_what_the_sentinels_call_the_primary_must_call_itself_one(
    trio: list[FakeSentinel], old: RedisServer, new: RedisServer
) -> None:
    """Commands and feeds alike are refused until it is."""
    await on(old, "REPLICAOF", "127.0.0.1", str(new.port))
    async with gateway_over(trio) as rest:
        for answer in (await rest("GET", "k"), await rest.http.get("/subscribe/c")):
            assert answer.status_code == 503
            assert answer.json() == {"error": f"ERR Redis at {at(old)} is not the primary"}
        await on(old, "REPLICAOF", "NO", "ONE")
        assert (await rest("GET", "k")).status_code == 200
        async with rest.feed():
            pass


# -- a demoted primary


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/", ["SET", "k", "v"], 400),
        ("/", ["EVAL", "return redis.call('SET', KEYS[1], 'v')", "1", "k"], 400),
        ("/pipeline", [["GET", "k"], ["SET", "k", "v"]], 200),
        ("/multi-exec", [["SET", "k", "v"]], 400),
    ],
    ids=["a command", "a script", "a pipeline", "a transaction"],
)
async def test_a_refused_write_is_told_as_it_is_and_the_next_goes_to_the_new_primary(
    trio: list[FakeSentinel], old: RedisServer, new: RedisServer, path: str, body: list[object], status: int
) -> None:
    async with gateway_over(trio) as rest:
        assert (await rest("GET", "k")).status_code == 200
        await on(old, "REPLICAOF", "127.0.0.1", str(new.port))
        for sentinel in trio:
            sentinel.primary, sentinel.epoch = at(new), 2
        refused = await rest.http.post(path, json=body)
        assert refused.status_code == status
        assert "READONLY" in refused.text
        assert (await rest.http.post(path, json=body)).status_code == 200
    assert await on(new, "GET", "k") == b"v"


async def test_with_one_redis_a_refused_write_changes_nothing(old: RedisServer, new: RedisServer) -> None:
    """There is no other to go to: the connection stays, as Upstash's would."""
    await on(old, "REPLICAOF", "127.0.0.1", str(new.port))
    client = RespClient(old.url)
    first = await client.execute("CLIENT", "ID")
    assert str(await client.execute("SET", "k", "v")).startswith("READONLY")
    assert await client.execute("CLIENT", "ID") == first
    await client.close()


# -- what Sentinels say by themselves


async def test_a_switch_ends_all_that_leads_to_the_old_primary_though_it_is_frozen(
    trio: list[FakeSentinel], old: RedisServer, new: RedisServer
) -> None:
    """A feed and a command under way would wait for ever otherwise."""
    async with gateway_over(trio) as rest, rest.feed() as lines:
        await until(lambda: all(sentinel.listeners == 1 for sentinel in trio), "all are listened to")
        os.kill(old.pid, signal.SIGSTOP)
        try:
            waiting = asyncio.ensure_future(rest("GET", "k"))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(waiting), 0.2)
            trio[1].primary, trio[1].epoch = at(new), 2
            trio[1].say("+switch-master", f"m 127.0.0.1 {old.port} 127.0.0.1 {new.port}")
            assert (await waiting).status_code == 503
            assert await ended(lines)
            assert (await rest("SET", "k", "v")).status_code == 200
        finally:
            os.kill(old.pid, signal.SIGCONT)
    assert await on(new, "GET", "k") == b"v"


async def test_a_primary_that_is_down_for_most_sentinels_is_left_and_refused_quickly_while_it_hangs(
    trio: list[FakeSentinel], old: RedisServer
) -> None:
    """No other is named yet, and nobody waits until one is. It is taken back as soon as it answers."""
    async with gateway_over(trio) as rest, rest.feed() as lines:
        await until(lambda: all(sentinel.listeners == 1 for sentinel in trio), "all are listened to")
        os.kill(old.pid, signal.SIGSTOP)
        try:
            trio[0].say("+odown", f"master m 127.0.0.1 {old.port} #quorum 2/2")
            assert await ended(lines)
            for path in ("/get/k", "/subscribe/c"):
                started = time.monotonic()
                answer = await rest.http.get(path)
                assert answer.status_code == 503
                assert "did not answer within 1.0 s" in answer.json()["error"]
                assert time.monotonic() - started < 2
        finally:
            os.kill(old.pid, signal.SIGCONT)
        assert (await rest("GET", "k")).status_code == 200


@pytest.mark.parametrize(
    ("channel", "text"),
    [
        ("+odown", "master other 127.0.0.1 {port} #quorum 2/2"),
        ("+odown", "master m 127.0.0.1 1 #quorum 2/2"),
        ("+odown", "slave 127.0.0.1:{port} 127.0.0.1 {port} @ m 127.0.0.1 {port}"),
        ("+odown", ""),
        ("+switch-master", "other 127.0.0.1 {port} 127.0.0.1 1"),
        ("+switch-master", "m 127.0.0.1 {port} 127.0.0.1 1"),
        ("+switch-master", ""),
    ],
)
async def test_news_of_others_and_news_that_the_sentinels_do_not_stand_by_change_nothing(
    trio: list[FakeSentinel], old: RedisServer, channel: str, text: str
) -> None:
    """What a message says is never believed; it makes the gateway ask."""
    async with gateway_over(trio) as rest, rest.feed() as lines:
        await until(lambda: all(sentinel.listeners == 1 for sentinel in trio), "all are listened to")
        for sentinel in trio:
            sentinel.say(channel, text.format(port=old.port))
        assert (await rest("PUBLISH", "c", "still here")).json() == {"result": 1}
        assert await anext(lines) == "data: message,c,still here"


async def test_a_failover_while_no_sentinel_was_listened_to_is_found_out_afterwards(
    trio: list[FakeSentinel], new: RedisServer
) -> None:
    """Whoever listens again asks first."""
    async with gateway_over(trio) as rest, rest.feed() as lines:
        await until(lambda: all(sentinel.listeners == 1 for sentinel in trio), "all are listened to")
        for sentinel in trio:
            sentinel.primary, sentinel.epoch = at(new), 2
            sentinel.hang_up()
        assert await ended(lines)
        assert (await rest("SET", "k", "v")).status_code == 200
    assert await on(new, "GET", "k") == b"v"


async def test_nonsense_on_a_subscription_is_survived(
    trio: list[FakeSentinel], old: RedisServer, new: RedisServer
) -> None:
    """What is not RESP ends the subscription, and it is opened again; the rest is passed over."""
    async with gateway_over(trio) as rest, rest.feed() as lines:
        await until(lambda: all(sentinel.listeners == 1 for sentinel in trio), "all are listened to")
        for nonsense in (b":1\r\n", b"*0\r\n", b"$-1\r\n", b"*3\r\n$7\r\nmessage\r\n$7\r\n+odown\x00\r\n:1\r\n"):
            trio[0].say_raw(nonsense)
        trio[1].say_raw(b"HTTP/1.1 200 OK\r\n\r\n")
        trio[2].say_raw(b"-ERR no more\r\n")
        await until(lambda: trio[1].listeners == 0, "the broken one is left")
        await until(lambda: all(sentinel.listeners == 1 for sentinel in trio), "all are listened to again")
        assert (await rest("PUBLISH", "c", "still here")).json() == {"result": 1}
        assert await anext(lines) == "data: message,c,still here"
        trio[0].primary, trio[0].epoch = at(new), 2
        trio[0].say("+switch-master", f"m 127.0.0.1 {old.port} 127.0.0.1 {new.port}")
        assert await ended(lines)


# -- no answer to be had


async def test_sentinels_that_are_away_at_the_start_are_503_at_once_until_one_is_there(old: RedisServer) -> None:
    port = free_port()
    absent = FakeSentinel()
    absent.port = port
    async with gateway_over([absent]) as rest:
        for path in ("/get/k", "/subscribe/c"):
            started = time.monotonic()
            answer = await rest.http.get(path)
            assert answer.status_code == 503
            assert answer.json()["error"].startswith("ERR no Sentinel names a primary of 'm': 127.0.0.1:")
            assert time.monotonic() - started < 0.5
        async with FakeSentinel.running(port=port) as sentinel:
            sentinel.primary, sentinel.epoch = at(old), 1
            assert (await rest("GET", "k")).status_code == 200
        assert (await rest("GET", "k")).status_code == 200, "the connection does not need a Sentinel"


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\xff\r\n",
        b":1\r\n:1\r\n",
        b"*-1\r\n*-1\r\n",
        b"*0\r\n*0\r\n",
        b"-IDONTKNOW\r\n",
        b"-ERR No such master with that name\r\n",
        b"*2\r\n$9\r\n127.0.0.1\r\n$1\r\n0\r\n",
        b"*2\r\n$9\r\n127.0.0.1\r\n$5\r\n99999\r\n",
        b"*2\r\n$9\r\n127.0.0.1\r\n$3\r\n 79\r\n",
        b"*2\r\n$1\r\n\xff\r\n$4\r\n6379\r\n",
        b"*2\r\n:1\r\n:2\r\n",
        b"*4\r\n$12\r\nconfig-epoch\r\n$2\r\n-1\r\n$1\r\na\r\n$1\r\nb\r\n",
        b"*3\r\n$12\r\nconfig-epoch\r\n$2\r\n11\r\n$1\r\na\r\n",
        b"",
    ],
)
async def test_a_sentinel_that_talks_nonsense_is_passed_over(trio: list[FakeSentinel], nonsense: bytes) -> None:
    """With two sound ones everything works; with none the answer says so, in time."""
    trio[0].instead = nonsense
    async with gateway_over(trio) as rest:
        assert (await rest("GET", "k")).status_code == 200
    for sentinel in trio:
        sentinel.instead = nonsense
    async with gateway_over(trio) as rest:
        started = time.monotonic()
        answer = await rest("GET", "k")
        assert answer.status_code == 503
        assert "no Sentinel names a primary" in answer.json()["error"]
        assert time.monotonic() - started < 2


@pytest.mark.parametrize("where", ["127.0.0.1:1", "no..such..host:6379", f"{'x' * 300}:6379", "a\x00b:6379"])
async def test_a_primary_that_cannot_be_reached_is_503(trio: list[FakeSentinel], where: str) -> None:
    for sentinel in trio:
        sentinel.primary = where
    async with gateway_over(trio) as rest:
        answer = await rest("GET", "k")
        assert answer.status_code == 503
        assert "is unreachable" in answer.json()["error"]


async def test_closing_leaves_no_connection_to_any_sentinel(trio: list[FakeSentinel]) -> None:
    async with gateway_over(trio) as rest:
        assert (await rest("GET", "k")).status_code == 200
        await until(lambda: all(sentinel.listeners == 1 for sentinel in trio), "all are listened to")
    await until(lambda: not any(sentinel._serving for sentinel in trio), "all are left")
    assert [sentinel.listeners for sentinel in trio] == [0, 0, 0]


# -- the URL


def test_a_url_names_the_sentinels_and_what_they_watch() -> None:
    """The default port is Sentinel's; the password is for the Redis that they name."""
    assert SentinelUrl.parse("redis+sentinel://a:1,b,[::1]:3/my%20name") == SentinelUrl(
        (RedisAddress("a", 1), RedisAddress("b", 26379), RedisAddress("::1", 3)), "my name"
    )
    assert SentinelUrl.parse("redis+sentinel://me:p%40ss@a:1/m") == SentinelUrl(
        (RedisAddress("a", 1),), "m", username="me", password="p@ss"
    )


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://a:1",
        "redis+sentinel://a:1/",
        "redis+sentinel:///m",
        "redis+sentinel://a:1,/m",
        "redis+sentinel://a:x/m",
        "redis+sentinel://a:99999/m",
        "redis+sentinel://a:1/m/0",
        "redis+sentinel://a:1/m?db=1",
    ],
)
def test_a_url_that_leaves_something_open_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"not a Redis URL|[Pp]ort "):
        build_gateway(url, "token")


async def test_a_password_is_used_at_the_primary_and_not_at_the_sentinels(
    trio: list[FakeSentinel], old: RedisServer
) -> None:
    await on(old, "ACL", "SETUSER", "me", "on", ">secret", "~*", "&*", "+@all")
    redis = SentinelPrimary(SentinelUrl.parse(url_of(trio).replace("://", "://me:secret@")))
    client = RespClient(redis)
    assert await client.execute("ACL", "WHOAMI") == b"me"
    await client.close()
    await redis.close()
    wrong = SentinelPrimary(SentinelUrl.parse(url_of(trio).replace("://", "://me:wrong@")))
    with pytest.raises(RespConnectionError, match="WRONGPASS"):
        await RespClient(wrong).execute("PING")
    await wrong.close()
    await on(old, "ACL", "DELUSER", "me")
