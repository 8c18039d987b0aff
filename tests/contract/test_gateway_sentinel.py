"""The gateway over a real primary, a real replica and three real Sentinels, while things die and freeze."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from tests.support.gateway import NO_TLS, GatewayThread
from tests.support.ha import HaRedis

RECOVERY_S = 30.0
#: The Sentinels leave a Redis that is back eight seconds before they tell it that it is a replica.
REPENTANCE_S = 30.0


class Client:
    """A client of the gateway that writes all the time, each key once, and remembers what was acknowledged."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.acknowledged: list[str] = []
        self.refusals = Counter[int]()
        self.slowest_s = 0.0
        self._count = 0

    async def write(self) -> bool:
        """Write one key; tell whether it was acknowledged."""
        self._count += 1
        key = f"k{self._count}"
        started = time.monotonic()
        answer = await self.http.post("/", json=["SET", key, "v"])
        self.slowest_s = max(self.slowest_s, time.monotonic() - started)
        if answer.status_code == 200:
            self.acknowledged.append(key)
            return True
        self.refusals[answer.status_code] += 1
        return False

    async def until_written(self) -> float:
        """Write until it succeeds; return how many seconds that took."""
        started = time.monotonic()
        async with asyncio.timeout(RECOVERY_S):
            while not await self.write():  # noqa: ASYNC110 - the gateway has no event for it
                await asyncio.sleep(0.02)
        return time.monotonic() - started

    async def held(self) -> list[str]:
        """Ask which of the acknowledged keys are there."""
        answer = await self.http.post("/pipeline", json=[["EXISTS", key] for key in self.acknowledged])
        there = [one.get("result") == 1 for one in answer.raise_for_status().json()]
        return [key for key, is_there in zip(self.acknowledged, there, strict=True) if is_there]

    @contextlib.asynccontextmanager
    async def feed(self) -> AsyncIterator[AsyncIterator[str]]:
        """Open a feed of channel c; give what comes after its first event."""
        async with self.http.stream("GET", "/subscribe/c") as response:
            assert response.status_code == 200
            lines = response.aiter_lines()
            assert await anext(lines) == "data: subscribe,c,1"
            assert await anext(lines) == ""
            yield lines

    async def feeds_flow(self) -> None:
        """See that a feed can be opened and brings what is published."""
        async with asyncio.timeout(RECOVERY_S), self.feed() as lines:
            assert (await self.http.post("/", json=["PUBLISH", "c", "hello"])).json() == {"result": 1}
            assert await anext(lines) == "data: message,c,hello"


@contextlib.asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Client]:
    with GatewayThread.running(url) as gateway:
        async with httpx.AsyncClient(
            base_url=gateway.url, headers=gateway.headers, timeout=RECOVERY_S, verify=NO_TLS, trust_env=False
        ) as http:
            yield Client(http)


async def ended(lines: AsyncIterator[str]) -> bool:
    async with asyncio.timeout(RECOVERY_S):
        return [line async for line in lines] in ([], [""])


async def replicated(redis: HaRedis, name: str, client: Client) -> None:
    """Return when a Redis has all that was acknowledged."""
    async with asyncio.timeout(5), redis.node(name) as node:
        while await node("EXISTS", *client.acknowledged) < len(client.acknowledged):
            pass


async def roles_until_replica(redis: HaRedis, name: str) -> set[str]:
    """Ask a Redis what it is until it says "slave"; return all that it has said."""
    seen: set[str] = set()
    async with asyncio.timeout(REPENTANCE_S):
        while "slave" not in seen:
            seen.add(await redis.role(name))
            await asyncio.sleep(0.01)
    return seen


async def test_a_killed_primary_is_replaced_and_comes_back_as_a_replica(tmp_path: Path) -> None:
    """503 at once until then; feeds end and can be opened again; it is never a second primary, not for a moment."""
    async with HaRedis.running(tmp_path / "ha") as redis, client_of(redis.url) as client:
        old = await redis.primary()
        assert old == "redis-1"
        async with client.feed() as lines:
            assert await client.write()
            await replicated(redis, "redis-2", client)
            redis.kill(old)
            assert await ended(lines)
        assert await client.until_written() < RECOVERY_S
        assert set(client.refusals) == {503}
        assert client.slowest_s < 2
        assert await redis.primary() == "redis-2"
        await client.feeds_flow()
        assert await client.held() == client.acknowledged
        returning = asyncio.ensure_future(roles_until_replica(redis, old))
        await redis.revive(old)
        assert await returning <= {"away", "slave"}
        await replicated(redis, old, client)
        assert await client.held() == client.acknowledged


async def test_a_frozen_primary_is_left_and_what_it_says_when_it_thaws_does_not_count(tmp_path: Path) -> None:
    """Its connections never break by themselves. Thawed, it takes itself for the primary until it is told."""
    async with HaRedis.running(tmp_path / "ha") as redis, client_of(redis.url) as client:
        assert await client.write()
        await replicated(redis, "redis-2", client)
        async with client.feed() as lines:
            redis.freeze("redis-1")
            written, over = await asyncio.gather(client.write(), ended(lines))
            assert (written, over) == (False, True)
        await client.until_written()
        assert set(client.refusals) == {503}
        assert client.slowest_s < RECOVERY_S / 2
        assert await redis.primary() == "redis-2"
        redis.thaw("redis-1")
        async with redis.node("redis-1") as thawed:
            repenting = asyncio.ensure_future(roles_until_replica(redis, "redis-1"))
            first = client.acknowledged[-1]
            while not repenting.done():
                assert await client.write()
                if await thawed("ROLE") == ["master", 0, []]:
                    assert await thawed("EXISTS", first) == 0
            assert "slave" in repenting.result()
        await replicated(redis, "redis-1", client)
        await client.feeds_flow()
        assert await client.held() == client.acknowledged


async def test_a_primary_that_is_demoted_while_it_lives_is_left_as_well(tmp_path: Path) -> None:
    """An operator's failover: nothing dies. Afterwards every acknowledged write is where it belongs."""
    async with HaRedis.running(tmp_path / "ha") as redis, client_of(redis.url) as client, client.feed() as lines:
        assert await client.write()
        await replicated(redis, "redis-2", client)
        assert await redis.sentinel("SENTINEL", "FAILOVER", "tidemark") == "OK"
        assert await ended(lines)
        assert await redis.another_primary("redis-1") == "redis-2"
        await client.until_written()
        await roles_until_replica(redis, "redis-1")
        await client.until_written()
        after = len(client.acknowledged)
        for _ in range(20):
            assert await client.write()
        assert (await client.held())[-20:] == client.acknowledged[after:]
        await client.feeds_flow()


async def test_two_failovers_in_a_row_and_a_sentinel_less(tmp_path: Path) -> None:
    """Two Sentinels are enough to agree; nothing that was acknowledged and replicated is missing."""
    async with HaRedis.running(tmp_path / "ha") as redis, client_of(redis.url) as client:
        redis.freeze("sentinel-2")
        for old, new in (("redis-1", "redis-2"), ("redis-2", "redis-1")):
            for _ in range(10):
                assert await client.write()
            await replicated(redis, new, client)
            redis.kill(old)
            assert await redis.another_primary(old) == new
            await client.until_written()
            await redis.revive(old)
            await replicated(redis, old, client)
        assert await client.held() == client.acknowledged


async def test_started_again_on_its_directory_the_last_primary_is_it_again(tmp_path: Path) -> None:
    """Whichever it was. The other one, which died before the last writes, does not bring its old copy back."""
    directory = tmp_path / "ha"
    async with HaRedis.running(directory) as redis, client_of(redis.url) as client:
        assert await client.write()
        await replicated(redis, "redis-2", client)
        redis.kill("redis-1")
        await client.until_written()
        for _ in range(10):
            assert await client.write()
        before = list(client.acknowledged)
    for _ in range(2):
        async with HaRedis.running(directory) as redis, client_of(redis.url) as client:
            assert await redis.primary() == "redis-2"
            client.acknowledged = list(before)
            assert await client.held() == before
            await replicated(redis, "redis-1", client)


async def test_a_sentinel_that_died_comes_back_with_what_it_knew(tmp_path: Path) -> None:
    """All three die, and then the primary: they are back in time to replace it."""
    async with HaRedis.running(tmp_path / "ha") as redis, client_of(redis.url) as client:
        assert await client.write()
        await replicated(redis, "redis-2", client)
        for name in ("sentinel-1", "sentinel-2", "sentinel-3"):
            redis.kill(name)
        redis.kill("redis-1")
        await client.until_written()
        assert await redis.primary() == "redis-2"
        assert await client.held() == client.acknowledged
