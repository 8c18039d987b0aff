"""Holds the gateway to Upstash through its own Python client, `upstash-redis`, blocking and async."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import pytest
from upstash_redis import Redis
from upstash_redis.asyncio import Redis as AsyncRedis
from upstash_redis.errors import UpstashError

from tests.support.gateway import Gateway, GatewayThread, free_port

AWKWARD = [
    *("", " ", "OK", "PONG", "null", "123", "1.50", '{"a": [1]}', "a,b", "a\nb\r\n", "\0\x01\x7f"),
    *("grüß", "日本語", "😀 \u200d", "\ufffd", "T0s=", "x" * 100_000),
]


@pytest.fixture(params=["base64", None], ids=["base64", "plain"])
def encoding(request: pytest.FixtureRequest) -> Literal["base64"] | None:
    chosen: Literal["base64"] | None = request.param
    return chosen


@pytest.fixture
def redis(gateway: Gateway, encoding: Literal["base64"] | None) -> Iterator[Redis]:
    with Redis(gateway.url, gateway.token, rest_encoding=encoding, rest_retries=0) as client:
        yield client


@pytest.fixture
async def aredis(gateway: Gateway) -> AsyncIterator[AsyncRedis]:
    async with AsyncRedis(gateway.url, gateway.token, rest_retries=0) as client:
        yield client


def test_strings(redis: Redis, key_prefix: str) -> None:
    key = f"{key_prefix}a"
    assert redis.set(key, "1", ex=100)
    assert not redis.set(key, "2", nx=True)
    assert redis.set(key, "2", get=True) == "1"
    assert redis.get(f"{key_prefix}none") is None
    assert redis.append(key, "0") == 2
    assert redis.incrby(key, 5) == 25
    assert redis.incrbyfloat(key, 0.5) == 25.5
    assert redis.mset({f"{key}1": "a", f"{key}2": "b"}) is True
    assert redis.mget(f"{key}1", f"{key}none", f"{key}2") == ["a", None, "b"]
    assert redis.getdel(f"{key}1") == "a"


@pytest.mark.parametrize("value", AWKWARD, ids=range(len(AWKWARD)))
def test_what_is_stored_comes_back_unchanged(redis: Redis, key_prefix: str, value: str) -> None:
    redis.set(f"{key_prefix}a", value)
    assert redis.get(f"{key_prefix}a") == value
    redis.hset(f"{key_prefix}h", values={f"f{value[:50]}": value})
    assert redis.hgetall(f"{key_prefix}h") == {f"f{value[:50]}": value}


def test_values_that_are_no_strings_are_sent_as_their_json(redis: Redis, key_prefix: str) -> None:
    values: list[tuple[Any, str]] = [(7, "7"), (1.5, "1.5"), (True, "true"), ({"a": 1}, '{"a": 1}')]
    for value, stored in values:
        redis.set(f"{key_prefix}a", value)
        assert redis.get(f"{key_prefix}a") == stored


def test_hashes_lists_sets_and_sorted_sets(redis: Redis, key_prefix: str) -> None:
    assert redis.hset(f"{key_prefix}h", values={"a": "1", "b": "2"}) == 2
    assert redis.hincrby(f"{key_prefix}h", "a", 4) == 5
    assert redis.hmget(f"{key_prefix}h", "a", "x") == ["5", None]
    assert redis.rpush(f"{key_prefix}l", "a", "b", "c") == 3
    assert redis.lrange(f"{key_prefix}l", 0, -1) == ["a", "b", "c"]
    assert redis.lpop(f"{key_prefix}l", 2) == ["a", "b"]
    assert redis.sadd(f"{key_prefix}s", "a", "b", "b") == 2
    assert set(redis.smembers(f"{key_prefix}s")) == {"a", "b"}
    assert redis.smismember(f"{key_prefix}s", "a", "z") == [1, 0]
    assert redis.zadd(f"{key_prefix}z", {"a": 1.5, "b": 2}) == 2
    assert redis.zrange(f"{key_prefix}z", 0, -1, withscores=True) == [("a", 1.5), ("b", 2.0)]
    assert redis.zscore(f"{key_prefix}z", "none") is None


def test_streams(redis: Redis, key_prefix: str) -> None:
    key = f"{key_prefix}s"
    assert redis.xadd(key, "1-1", {"a": "1", "b": "ü"}) == "1-1"
    assert redis.xadd(key, "1-2", {"c": "3"}) == "1-2"
    entries: Any = redis.xrange(key, "-", "+")
    assert entries == [["1-1", ["a", "1", "b", "ü"]], ["1-2", ["c", "3"]]]
    assert redis.xlen(key) == 2
    read: Any = redis.xread({key: "1-1"})
    assert read == [[key, [["1-2", ["c", "3"]]]]]
    assert redis.xtrim(key, maxlen=1, approximate=False) == 1


def test_keys_bits_places_and_counts(redis: Redis, key_prefix: str) -> None:
    key = f"{key_prefix}a"
    assert redis.setbit(key, 7, 1) == 0
    assert redis.bitcount(key) == 1
    assert redis.type(key) == "string"
    assert redis.expire(key, 100) is True
    assert redis.ttl(key) in {99, 100}
    assert redis.pfadd(f"{key_prefix}p", "a", "b") is True
    assert redis.pfcount(f"{key_prefix}p") == 2
    assert redis.geoadd(f"{key_prefix}g", (13.4, 52.5, "Berlin"), (11.6, 48.1, "München")) == 2
    berlin, nowhere = redis.geohash(f"{key_prefix}g", "Berlin", "Atlantis")
    assert (str(berlin)[:4], nowhere) == ("u33d", None)
    cursor, found = redis.scan(0, match=f"{key_prefix}*", count=100_000)
    assert (cursor, set(found)) == (0, {key, f"{key_prefix}p", f"{key_prefix}g"})
    assert redis.exists(key, f"{key_prefix}none") == 1
    assert redis.delete(key) == 1


def test_connection_commands_that_upstash_has(redis: Redis) -> None:
    assert redis.ping() == "PONG"
    assert redis.ping("hello") == "hello"
    assert redis.echo("hello") == "hello"
    assert redis.publish("nobody", "listens") == 0


def test_scripts(redis: Redis, key_prefix: str) -> None:
    script = f"return {{KEYS[1], ARGV[1], 3, redis.call('SET', KEYS[1], 'v')['ok'], '{key_prefix}'}}"
    expected = [f"{key_prefix}k", "x", 3, "OK", key_prefix]
    assert redis.eval(script, keys=[f"{key_prefix}k"], args=["x"]) == expected
    sha = redis.script_load(script)
    assert redis.script_exists(sha, "0" * 40) == [True, False]
    assert redis.evalsha(sha, keys=[f"{key_prefix}k"], args=["x"]) == expected


def test_an_error_of_redis_is_an_upstash_error_with_its_text(redis: Redis, key_prefix: str) -> None:
    redis.set(f"{key_prefix}a", "x")
    with pytest.raises(UpstashError, match=r"^WRONGTYPE Operation against a key holding the wrong kind of value"):
        redis.lpush(f"{key_prefix}a", "y")
    with pytest.raises(UpstashError, match=r"^ERR Command is not available: 'JSON.GET'"):
        redis.json.get(f"{key_prefix}a")
    with pytest.raises(UpstashError, match=r'^ERR Command "CLIENT" is not allowed in REST'):
        redis.execute(["CLIENT", "LIST"])


def test_a_pipeline_runs_in_order_and_one_failure_raises(redis: Redis, key_prefix: str) -> None:
    key = f"{key_prefix}a"
    pipeline = redis.pipeline()
    pipeline.set(key, "1")
    pipeline.incr(key)
    pipeline.get(key)
    pipeline.hgetall(f"{key_prefix}none")
    assert pipeline.exec() == [True, 2, "2", {}]
    pipeline = redis.pipeline()
    pipeline.lpush(key, "x")
    pipeline.set(key, "after")
    with pytest.raises(UpstashError, match=r"^WRONGTYPE"):
        pipeline.exec()
    assert redis.get(key) == "after"


def test_a_transaction_is_discarded_whole_when_it_cannot_be_queued(redis: Redis, key_prefix: str) -> None:
    key = f"{key_prefix}a"
    transaction = redis.multi()
    transaction.set(key, "1")
    transaction.incr(key)
    assert transaction.exec() == [True, 2]


def test_a_wrong_token_is_an_upstash_error(gateway: Gateway, encoding: Literal["base64"] | None) -> None:
    with (
        Redis(gateway.url, "wrong", rest_encoding=encoding, rest_retries=0) as client,
        pytest.raises(UpstashError, match=r"^WRONGPASS invalid or missing auth token"),
    ):
        client.get("a")


def test_the_sync_token_of_an_answer_goes_out_with_the_next_request(gateway: Gateway, key_prefix: str) -> None:
    sent: list[str | None] = []
    given: list[str] = []
    with Redis(gateway.url, gateway.token, rest_retries=0) as client:
        hooks = client._http._client.event_hooks
        hooks["request"] = [lambda request: sent.append(request.headers.get("upstash-sync-token"))]
        hooks["response"] = [lambda response: given.append(response.headers["upstash-sync-token"])]
        client._http._client.event_hooks = hooks
        client.set(f"{key_prefix}a", "1")
        client.get(f"{key_prefix}a")
        pipeline = client.pipeline()
        pipeline.get(f"{key_prefix}a")
        pipeline.exec()
    assert sent == ["", *given[:2]]
    assert len(set(given)) == 3


async def test_the_async_client_works_the_same(aredis: AsyncRedis, key_prefix: str) -> None:
    key = f"{key_prefix}a"
    assert await aredis.set(key, "grüß\0")
    assert await aredis.get(key) == "grüß\0"
    assert await aredis.hset(f"{key_prefix}h", values={"OK": "OK"}) == 1
    assert await aredis.hgetall(f"{key_prefix}h") == {"OK": "OK"}
    pipeline = aredis.pipeline()
    pipeline.incr(f"{key_prefix}n")
    pipeline.get(key)
    assert await pipeline.exec() == [1, "grüß\0"]
    transaction = aredis.multi()
    transaction.incr(f"{key_prefix}n")
    transaction.zadd(f"{key_prefix}z", {"m": 1.5})
    transaction.zrange(f"{key_prefix}z", 0, -1, withscores=True)
    assert await transaction.exec() == [2, 1, [("m", 1.5)]]
    with pytest.raises(UpstashError, match=r"^WRONGTYPE"):
        await aredis.lpush(key, "x")


async def test_many_async_callers_get_their_own_answers(aredis: AsyncRedis, key_prefix: str) -> None:
    async def own(number: int) -> None:
        key = f"{key_prefix}{number}"
        await aredis.set(key, number)
        assert await aredis.get(key) == str(number)
        pipeline = aredis.pipeline()
        pipeline.incr(key)
        pipeline.get(key)
        assert await pipeline.exec() == [number + 1, str(number + 1)]

    await asyncio.gather(*(own(number) for number in range(100)))


async def test_a_wrong_token_is_an_upstash_error_for_the_async_client(gateway: Gateway) -> None:
    async with AsyncRedis(gateway.url, "wrong", rest_retries=0) as client:
        with pytest.raises(UpstashError, match=r"^WRONGPASS"):
            await client.get("a")


async def test_an_unreachable_redis_is_an_upstash_error_not_a_crash() -> None:
    # The client never looks at the status: another form of answer would surface as a KeyError.
    with GatewayThread.running(f"redis://127.0.0.1:{free_port()}") as own:
        async with AsyncRedis(own.url, own.token, rest_retries=0) as client:
            with pytest.raises(UpstashError, match=r"^ERR Redis at 127\.0\.0\.1:"):
                await client.get("a")
