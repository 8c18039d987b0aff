"""Subscriptions as server-sent events: what is sent, when, and that nothing stays open behind a client that left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx
import pytest

from infra.local.resp import RespClient
from tests.support.gateway import NO_TLS, Gateway, GatewayThread, RedisServer

PATIENCE_S = 5.0


class Feed:
    """An open subscription, read block by block."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self) -> str:
        """Give what follows `data: ` in the next event. Raises StopAsyncIteration at the body's end."""
        async with asyncio.timeout(PATIENCE_S):
            line = await anext(self._lines)
            assert await anext(self._lines) == ""
        assert line.startswith("data: ")
        return line.removeprefix("data: ")

    async def ended(self) -> bool:
        """Wait for the body's end."""
        async with asyncio.timeout(PATIENCE_S):
            return [line async for line in self._lines] == []


@contextlib.asynccontextmanager
async def subscribed(gateway: Gateway, path: str, method: str = "POST") -> AsyncIterator[Feed]:
    headers = {**gateway.headers, "accept": "text/event-stream"}
    async with (
        httpx.AsyncClient(timeout=PATIENCE_S, verify=NO_TLS) as client,
        client.stream(method, gateway.url + path, headers=headers) as response,
    ):
        yield Feed(response)


async def publish(gateway: Gateway, channel: str, *messages: str) -> None:
    async with httpx.AsyncClient(headers=gateway.headers, verify=NO_TLS) as client:
        commands = [["PUBLISH", channel, message] for message in messages]
        assert (await client.post(f"{gateway.url}/pipeline", json=commands)).status_code == 200


async def listeners(redis: RespClient, channel: str) -> int:
    reply = await redis.execute("PUBSUB", "NUMSUB", channel)
    assert isinstance(reply, list)
    count: int = reply[1]
    return count


async def until_listeners(redis: RespClient, channel: str, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await listeners(redis, channel) != count:  # noqa: ASYNC110 - Redis has no event for it
            await asyncio.sleep(0.005)


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[RespClient]:
    client = RespClient(redis_server.url)
    yield client
    await client.close()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_channel_is_acknowledged_then_its_messages_come(
    gateway: Gateway, key_prefix: str, method: str
) -> None:
    channel = f"{key_prefix}news"
    async with subscribed(gateway, f"/subscribe/{channel}", method) as feed:
        assert feed.response.status_code == 200
        assert feed.response.headers["content-type"] == "text/event-stream"
        assert feed.response.headers["upstash-sync-token"]
        assert await feed.next() == f"subscribe,{channel},1"
        await publish(gateway, channel, "hello", 'with, commas {"a": "ü"}', "")
        assert await feed.next() == f"message,{channel},hello"
        assert await feed.next() == f'message,{channel},with, commas {{"a": "ü"}}'
        assert await feed.next() == f"message,{channel},"


async def test_a_pattern_names_itself_and_the_channel(gateway: Gateway, key_prefix: str) -> None:
    pattern, channel = f"{key_prefix}live:*", f"{key_prefix}live:a"
    async with subscribed(gateway, f"/psubscribe/{quote(pattern)}") as feed:
        assert await feed.next() == f"psubscribe,{pattern},1"
        await publish(gateway, channel, "hello")
        assert await feed.next() == f"pmessage,{pattern},{channel},hello"


async def test_the_acknowledgement_means_that_no_message_is_missed(gateway: Gateway, key_prefix: str) -> None:
    for attempt in range(20):
        channel = f"{key_prefix}{attempt}"
        async with subscribed(gateway, f"/subscribe/{channel}") as feed:
            await feed.next()
            await publish(gateway, channel, "first")
            assert await feed.next() == f"message,{channel},first"


async def test_one_request_may_name_several_channels(gateway: Gateway, key_prefix: str) -> None:
    one, two = f"{key_prefix}one", f"{key_prefix}two"
    async with subscribed(gateway, f"/subscribe/{one}/{two}") as feed:
        assert await feed.next() == f"subscribe,{one},1"
        assert await feed.next() == f"subscribe,{two},2"
        await publish(gateway, two, "b")
        await publish(gateway, one, "a")
        assert await feed.next() == f"message,{two},b"
        assert await feed.next() == f"message,{one},a"


async def test_a_percent_encoded_slash_belongs_to_the_channel(gateway: Gateway, key_prefix: str) -> None:
    channel = f"{key_prefix}a/b c%é"
    async with subscribed(gateway, f"/subscribe/{quote(channel, safe='')}") as feed:
        assert await feed.next() == f"subscribe,{channel},1"
        await publish(gateway, channel, "hello")
        assert await feed.next() == f"message,{channel},hello"


async def test_a_body_such_as_the_js_client_sends_is_ignored(gateway: Gateway, key_prefix: str) -> None:
    headers = {**gateway.headers, "accept": "text/event-stream", "content-type": "application/json"}
    async with (
        httpx.AsyncClient(timeout=PATIENCE_S, verify=NO_TLS) as client,
        client.stream("POST", f"{gateway.url}/subscribe/{key_prefix}a", headers=headers, content="[]") as response,
    ):
        assert await Feed(response).next() == f"subscribe,{key_prefix}a,1"


async def test_without_a_channel_there_is_no_subscription(gateway: Gateway) -> None:
    async with subscribed(gateway, "/psubscribe") as feed:
        assert feed.response.status_code == 400
        text = json.loads(await feed.response.aread())["error"]
        assert text == "ERR wrong number of arguments for 'psubscribe' command"


async def test_many_messages_at_once_arrive_in_order_and_whole(gateway: Gateway, key_prefix: str) -> None:
    channel = f"{key_prefix}burst"
    async with subscribed(gateway, f"/subscribe/{channel}") as feed:
        await feed.next()
        for start in range(0, 20_000, 2_000):
            await publish(gateway, channel, *(f"{number}" for number in range(start, start + 2_000)))
        for number in range(20_000):
            assert await feed.next() == f"message,{channel},{number}"


async def test_many_feeds_of_one_channel_all_get_it(gateway: Gateway, key_prefix: str) -> None:
    channel = f"{key_prefix}fan"
    async with contextlib.AsyncExitStack() as stack:
        feeds = [await stack.enter_async_context(subscribed(gateway, f"/subscribe/{channel}")) for _ in range(30)]
        await asyncio.gather(*(feed.next() for feed in feeds))
        await publish(gateway, channel, "hello")
        got = await asyncio.gather(*(feed.next() for feed in feeds))
        assert got == [f"message,{channel},hello"] * 30


async def test_a_client_that_leaves_frees_its_connection_to_redis(
    gateway: Gateway, redis: RespClient, key_prefix: str
) -> None:
    channel = f"{key_prefix}news"
    async with subscribed(gateway, f"/subscribe/{channel}") as feed:
        await feed.next()
        assert await listeners(redis, channel) == 1
    await until_listeners(redis, channel, 0)


async def test_a_client_that_vanishes_before_the_acknowledgement_frees_it_too(
    gateway: Gateway, redis: RespClient, key_prefix: str
) -> None:
    channel = f"{key_prefix}news"
    host, port = gateway.url.removeprefix("http://").split(":")
    request = f"GET /subscribe/{channel}?_token={quote(gateway.token)} HTTP/1.1\r\nhost: x\r\n\r\n"
    for _ in range(20):
        with socket.create_connection((host, int(port))) as wire:
            wire.sendall(request.encode())
    # A later subscription of our own shows that all the earlier requests have been seen.
    async with subscribed(gateway, f"/subscribe/{channel}") as feed:
        await feed.next()
        await until_listeners(redis, channel, 1)
    await until_listeners(redis, channel, 0)


async def test_a_client_that_does_not_read_holds_up_nobody_else(
    gateway: Gateway, redis: RespClient, key_prefix: str
) -> None:
    channel = f"{key_prefix}news"
    host, port = gateway.url.removeprefix("http://").split(":")
    request = f"GET /subscribe/{channel}?_token={quote(gateway.token)} HTTP/1.1\r\nhost: x\r\n\r\n"
    with socket.create_connection((host, int(port))) as wire:
        wire.sendall(request.encode())
        await until_listeners(redis, channel, 1)
        async with subscribed(gateway, f"/subscribe/{channel}") as feed:
            await feed.next()
            payload = "x" * 50_000
            for _ in range(20):
                await publish(gateway, channel, *[payload] * 20)
                for _ in range(20):
                    assert await feed.next() == f"message,{channel},{payload}"
    await until_listeners(redis, channel, 0)


async def test_a_feed_whose_redis_connection_breaks_ends_its_body(
    gateway: Gateway, redis: RespClient, key_prefix: str
) -> None:
    channel = f"{key_prefix}news"
    before = await redis.execute("CLIENT", "LIST", "TYPE", "pubsub")
    assert isinstance(before, bytes)
    async with subscribed(gateway, f"/subscribe/{channel}") as feed:
        await feed.next()
        after = await redis.execute("CLIENT", "LIST", "TYPE", "pubsub")
        assert isinstance(after, bytes)
        (line,) = set(after.splitlines()) - set(before.splitlines())
        number = line.split()[0].removeprefix(b"id=")
        assert await redis.execute("CLIENT", "KILL", "ID", number) == 1
        assert await feed.ended()


async def test_a_stopping_gateway_ends_its_feeds_cleanly(redis_server: RedisServer, key_prefix: str) -> None:
    with GatewayThread.running(redis_server.url) as own:
        async with subscribed(own, f"/subscribe/{key_prefix}a") as feed:
            await feed.next()
            await asyncio.to_thread(own.stop)
            assert await feed.ended()
