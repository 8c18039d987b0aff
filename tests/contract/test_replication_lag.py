"""A replica that lags behind: what a failover forgets then, and that every reader is told."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from infra.local.resp import OK
from shared.errors import LogUnavailableError
from shared.keys import Keys
from shared.log import Appended, Log
from tests.support.faulty_gateway import FaultyGateway, plain_upstash
from tests.support.ha import HaRedis
from tests.support.log_rig import Redis, Rig, found, gaps_of, own_stage, since
from tests.support.stream_rig import Process
from tests.support.waiting import until

TOPIC = "gmail:a@b.c"
QUIET = "gmail:q@b.c"
RECONCILE_S = 1.0
RECOVERY_S = 30.0
#: Long enough for a slow machine to write a few events and to kill the primary before the first is replicated.
LAG_S = 2.0


async def push(mine: Rig, log: Log, number: int) -> Appended:
    """Append an event until it is acknowledged, as the delivery queue does."""
    async with asyncio.timeout(RECOVERY_S):
        while True:
            try:
                return await mine.append(log, TOPIC, number)
            except LogUnavailableError:
                await asyncio.sleep(0.1)


async def test_a_replica_has_everything_later_by_the_lag_and_nobody_else_waits(tmp_path: Path) -> None:
    """Also for the one that takes the place of the primary, with the old one as its replica."""
    async with HaRedis.running(tmp_path / "ha", lag_s=0.5) as redis:
        for primary, replica in (("redis-1", "redis-2"), ("redis-2", "redis-1")):
            assert await redis.primary() == primary
            async with redis.node(replica) as second, redis.client() as client:
                began = time.monotonic()
                assert await client.execute("SET", primary, "v") == OK
                assert time.monotonic() - began < 0.4
                while not await second("EXISTS", primary):
                    pass
                assert time.monotonic() - began >= 0.5
            if primary == "redis-1":
                redis.kill(primary)
                await redis.another_primary(primary)
                await redis.revive(primary)
                await redis.replicates(primary)


async def test_a_failover_forgets_what_was_acknowledged_last_and_every_reader_is_told(tmp_path: Path) -> None:
    """Readers who had seen it, readers of other topics, and those who come back; and it can be put in again."""
    keys = Keys(own_stage())
    async with (
        HaRedis.running(tmp_path / "ha", lag_s=LAG_S) as redis,
        FaultyGateway.running(redis.url) as gateway,
        Process.running(gateway, keys, reconcile_s=RECONCILE_S) as process,
        redis.node("redis-1") as first,
        redis.node("redis-2") as second,
    ):
        upstash = plain_upstash(gateway.url, gateway.token)
        mine = Rig(first, upstash, keys)
        tab, quiet = await process.open_tab(TOPIC), await process.open_tab(QUIET, client="quiet")
        log = mine.log()
        kept = [(await push(mine, log, number)).position for number in (1, 2)]
        await all_there(second, keys, len(kept))

        lost = [(await push(mine, log, number)).position for number in (3, 4, 5)]
        await tab.until_positions([*kept, *lost])
        redis.kill("redis-1")

        # A process that knows of nothing is the first to write; the confirmation is one as well.
        other = mine.log()
        again = [(await push(mine, other, number)).position for number in (3, 4, 5)]
        assert await redis.primary() == "redis-2"
        assert found(await other.read(since(TOPIC, cursor="0-0"), limit=10))[TOPIC] == [*kept, *again]
        assert min(again) > max(lost)

        await until(lambda: tab.positions() == [*kept, *lost, *again], "what was put in again", timeout_s=RECOVERY_S)
        await until(lambda: bool(quiet.gaps), "the reader of another topic is told", timeout_s=RECOVERY_S)
        assert [topic for topic, *_ in tab.gaps] == [TOPIC]
        assert [topic for topic, *_ in quiet.gaps] == [QUIET]
        numbers = [frame.data["id"] for frame in tab.events()]
        assert numbers == ["1", "2", "3", "4", "5", "3", "4", "5"]
        for cursor in (kept[0], kept[-1], lost[0], lost[-1]):
            reading = await other.read(since(TOPIC, QUIET, cursor=cursor), limit=10)
            assert [gap.topic for gap in gaps_of(reading)] == [TOPIC, QUIET]
        await push(mine, other, 6)
        await tab.until(lambda tab: len(tab.events()) == 9, "everything goes on")
        assert gaps_of(await other.read(since(TOPIC, QUIET, cursor=tab.last_id), limit=10)) == []
        assert len(tab.gaps) == len(quiet.gaps) == 1
        await upstash.close()


async def all_there(replica: Redis, keys: Keys, count: int) -> None:
    """Return when a replica has so many events of the topic."""
    async with asyncio.timeout(RECOVERY_S):
        while await replica("XLEN", keys.log(TOPIC)) < count:
            pass
