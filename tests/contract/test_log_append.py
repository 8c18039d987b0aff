"""Appending: one event a message, one order over all topics, and nothing that says "done" before it is."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.local.resp import Subscriber
from shared.errors import LogDefectError, LogUnavailableError
from shared.log import Appended, Log
from shared.position import ZERO, Position
from shared.retention import Retention
from tests.support.faulty_gateway import FaultyGateway, plain_upstash
from tests.support.gateway import GatewayProcess, GatewayThread, RedisServer
from tests.support.log_rig import DAY_S, KEEP, Rig, envelope, gaps_of, rig, rises, since

TOPIC = "gmail:a@b.c"
OTHER = "gmail:d@e.f"
YEAR_MS = 365 * DAY_S * 1000


@pytest.fixture
async def spoiled(own_redis: RedisServer, own_gateway: GatewayThread) -> AsyncIterator[Rig]:
    """Give a stage in the Redis that may be spoiled."""
    async with rig(own_redis.url, own_gateway.url, own_gateway.token) as made:
        yield made


# --- one event a message -----------------------------------------------------------------------------------


async def test_a_hundred_parallel_appends_of_one_message_make_one_event(mine: Rig) -> None:
    """One of them stores it; every answer carries its position."""
    await mine.warm_up()
    logs = [mine.log() for _ in range(4)]
    answers = await asyncio.gather(*(mine.push(logs[n % 4], TOPIC, 7) for n in range(100)))
    assert len({answer.position for answer in answers}) == 1
    assert sum(not answer.duplicate for answer in answers) <= 1
    stored = await mine.stored(TOPIC)
    assert [(entry.position, entry.number) for entry in stored] == [(answers[0].position, "7")]


async def test_a_message_id_is_only_known_within_its_subscription(mine: Rig) -> None:
    """Two subscriptions number their messages without regard to each other; no pair of names runs together."""
    log = mine.log()
    pairs = [("s", "12"), ("s1", "2"), ("s", "2"), ("t", "12")]
    answers = [
        await log.append(topic=TOPIC, envelope=envelope(n), subscription=subscription, message_id=message)
        for n, (subscription, message) in enumerate(pairs)
    ]
    assert not any(answer.duplicate for answer in answers)
    assert rises(answer.position for answer in answers)


async def test_a_duplicate_changes_nothing_and_is_not_announced(mine: Rig, redis_server: RedisServer) -> None:
    """Neither the log, nor its clock, nor the live feed moves."""
    log = mine.log()
    first = await mine.append(log, TOPIC, 1)
    before = await mine.redis("MGET", mine.keys.clock, mine.keys.born, mine.keys.last(TOPIC))
    feed = await Subscriber.open(redis_server.url, [mine.keys.live(TOPIC)])
    try:
        assert await mine.append(mine.log(), TOPIC, 1) == Appended(first.position, duplicate=True)
        assert await mine.redis("MGET", mine.keys.clock, mine.keys.born, mine.keys.last(TOPIC)) == before
        assert len(await mine.stored(TOPIC)) == 1
        second = await mine.append(log, TOPIC, 2)
        (message,) = await feed.batch()
        assert str(second.position) in message[2].decode()
    finally:
        feed.close()


async def test_a_message_is_known_again_after_its_event_was_trimmed(mine: Rig) -> None:
    """The answer carries the position at which it once stood."""
    log = mine.log(retention=Retention(keep_s=DAY_S, topic_max_events=2, dedupe_s=DAY_S))
    first = await mine.append(log, TOPIC, 1)
    for number in (2, 3, 4):
        await mine.append(log, TOPIC, number)
    assert [entry.number for entry in await mine.stored(TOPIC)] == ["3", "4"]
    assert await mine.append(log, TOPIC, 1) == Appended(first.position, duplicate=True)


async def test_a_message_is_forgotten_when_the_dedupe_time_is_over(mine: Rig) -> None:
    """Until then its key lives, and no longer."""
    log = mine.log(retention=Retention(keep_s=DAY_S, topic_max_events=1000, dedupe_s=3600))
    first = await mine.append(log, TOPIC, 1)
    assert 3590 < await mine.redis("TTL", mine.seen_key(1)) <= 3600
    await mine.redis.gone(mine.seen_key(1))
    again = await mine.append(log, TOPIC, 1)
    assert not again.duplicate
    assert again.position > first.position


async def test_an_append_whose_answer_was_lost_is_found_again_by_the_retry(
    faulty: FaultyGateway, redis_server: RedisServer
) -> None:
    """The client's own retry meets its first try: one event, and its position."""
    async with rig(redis_server.url, faulty.url, faulty.token) as mine:
        faulty.lose_answers("append")
        answer = await mine.append(mine.log(), TOPIC, 1)
        assert faulty.asked["append"] == 2
        (entry,) = await mine.stored(TOPIC)
        assert answer == Appended(entry.position, duplicate=True)


# --- one order over all topics -----------------------------------------------------------------------------


async def test_positions_rise_across_topics_under_eight_parallel_writers(mine: Rig) -> None:
    """An append that began after another had answered stands above it, in whatever topic."""
    spans: list[tuple[float, float, Position]] = []

    async def write(writer: int) -> None:
        log = mine.log()
        for n in range(25):
            began = time.monotonic()
            answer = await mine.push(log, f"t:{(writer + n) % 5}", f"{writer}.{n}")
            spans.append((began, time.monotonic(), answer.position))

    await asyncio.gather(*(write(writer) for writer in range(8)))
    assert len({position for *_, position in spans}) == 200
    for (_, ended, earlier), (began, _, later) in itertools.product(spans, repeat=2):
        assert ended >= began or earlier < later
    for topic in range(5):
        stored = await mine.stored(f"t:{topic}")
        assert [entry.prev for entry in stored[1:]] == [entry.position for entry in stored[:-1]]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 1000, 2**40, YEAR_MS])), min_size=1, max_size=12
    )
)
def test_positions_rise_whatever_the_clocks_of_the_server_say(
    redis_server: RedisServer, gateway: GatewayProcess, steps: list[tuple[int, int]]
) -> None:
    """The time jumps back and forth between appends, as it does between two servers: order is kept everywhere."""

    async def run() -> None:
        async with rig(redis_server.url, gateway.url, gateway.token) as mine:
            base = 1_800_000_000_000
            logs = [mine.log(now_ms=base)]
            positions = []
            for topic, back_ms in steps:
                logs.append(mine.log(now_ms=base - back_ms))
                positions.append((await mine.append(logs[-1], f"t:{topic}")).position)
            assert rises(positions)
            assert await mine.position_at(mine.keys.clock) == positions[-1]
            for topic in range(4):
                stored = await mine.stored(f"t:{topic}")
                assert [entry.prev for entry in stored[1:]] == [entry.position for entry in stored[:-1]]

    asyncio.run(run())


async def test_the_first_event_of_a_topic_follows_the_beginning_of_the_logs_memory(mine: Rig) -> None:
    """What a reader has below that, nobody can vouch for; so the event names it as what stands before it."""
    log = mine.log()
    first = await mine.append(log, TOPIC)
    born = await mine.position_at(mine.keys.born)
    other = await mine.append(log, OTHER)
    assert ZERO < born < first.position
    assert [entry.prev for entry in await mine.stored(TOPIC)] == [born]
    assert [entry.prev for entry in await mine.stored(OTHER)] == [born]
    second = await mine.append(log, TOPIC)
    assert (await mine.stored(TOPIC))[-1].prev == first.position
    assert first.position < other.position < second.position


async def test_a_live_message_is_format_prev_position_and_envelope(mine: Rig, redis_server: RedisServer) -> None:
    """The envelope is the stored one to the letter, commas, blanks and quotes included."""
    log = mine.log()
    text = '{"subject":"a, b  c","quote":"\\"","id":"1"}'
    feed = await Subscriber.open(redis_server.url, [mine.keys.live(TOPIC)])
    try:
        expected = []
        for number in range(3):
            answer = await log.append(topic=TOPIC, envelope=text, subscription="s", message_id=str(number))
            prev = (await mine.stored(TOPIC))[-1].prev
            expected.append(f"1 {prev} {answer.position} {text}")
        messages: list[str] = []
        while len(messages) < 3:
            messages += [push[2].decode() for push in await feed.batch()]
        assert messages == expected
    finally:
        feed.close()


# --- what is kept, and how long ----------------------------------------------------------------------------


async def test_a_topic_keeps_its_newest_events(mine: Rig) -> None:
    """Never more than the limit, and the oldest go first."""
    log = mine.log(retention=Retention(keep_s=DAY_S, topic_max_events=3, dedupe_s=DAY_S))
    positions = await mine.positions(log, TOPIC, 7)
    stored = await mine.stored(TOPIC)
    assert [entry.position for entry in stored] == positions[-3:]
    assert stored[0].prev == positions[-4]


async def test_events_older_than_the_retention_go_with_the_next_append(mine: Rig) -> None:
    """An event that is exactly as old stays."""
    base = 1_800_000_000_000
    retention = Retention(keep_s=100, topic_max_events=1000, dedupe_s=DAY_S)
    for age_s in (250, 101, 100, 50):
        await mine.append(mine.log(now_ms=base - age_s * 1000, retention=retention), TOPIC)
    await mine.append(mine.log(now_ms=base, retention=retention), TOPIC)
    assert [(base - entry.position.ms) // 1000 for entry in await mine.stored(TOPIC)] == [100, 50, 0]


async def test_last_outlives_the_log_by_thirty_days(mine: Rig) -> None:
    """Each append begins both times anew; clock and born never end."""
    log = mine.log()
    for _ in range(2):
        answer = await mine.append(log, TOPIC)
        assert DAY_S - 5 < await mine.redis("TTL", mine.keys.log(TOPIC)) <= DAY_S
        assert 31 * DAY_S - 5 < await mine.redis("TTL", mine.keys.last(TOPIC)) <= 31 * DAY_S
        assert await mine.position_at(mine.keys.last(TOPIC)) == answer.position
        await mine.redis("EXPIRE", mine.keys.log(TOPIC), 10)
        await mine.redis("EXPIRE", mine.keys.last(TOPIC), 10)
    assert await mine.redis("TTL", mine.keys.clock) == -1
    assert await mine.redis("TTL", mine.keys.born) == -1
    await mine.redis.gone(mine.keys.log(TOPIC))
    assert await mine.position_at(mine.keys.last(TOPIC)) == answer.position
    after = await mine.append(log, TOPIC)
    assert [entry.prev for entry in await mine.stored(TOPIC)] == [answer.position]
    assert after.position > answer.position


# --- an append that fails ----------------------------------------------------------------------------------

_BROKEN = """
local real, calls = redis, 0
local function breaking(way)
  return function(...)
    calls = calls + 1
    if {condition} then return real[way]('NO SUCH COMMAND') end
    return real[way](...)
  end
end
local redis = setmetatable({{call = breaking('call'), pcall = breaking('pcall')}}, {{__index = real}})
"""


def break_calls(condition: str) -> Callable[[list[Any]], list[Any]]:
    """Let those commands inside a script fail for which ``condition`` holds; ``calls`` counts them from 1."""

    def rewrite(command: list[Any]) -> list[Any]:
        if command[0] != "EVAL":
            return command
        return ["EVAL", _BROKEN.format(condition=condition) + command[1], *command[2:]]

    return rewrite


async def fails(mine: Rig, log: Log, topic: str, number: int) -> bool:
    """Append, and tell whether it failed; then no dedupe key may be left."""
    try:
        await mine.append(log, topic, number)
    except (LogUnavailableError, LogDefectError):
        assert not await mine.redis("EXISTS", mine.seen_key(number))
        return True
    return False


async def stored_in_the_end(mine: Rig, log: Log, topic: str, number: int) -> None:
    """Send the event again: it is stored now, and only then a duplicate."""
    again = await mine.append(log, topic, number)
    assert not again.duplicate
    assert again.position in [entry.position for entry in await mine.stored(topic) if entry.number == str(number)]
    assert await mine.append(log, topic, number) == Appended(again.position, duplicate=True)


@pytest.mark.parametrize("fresh", [True, False], ids=["first of the stage", "later"])
async def test_whichever_command_of_the_script_fails_nothing_is_left_of_the_append(
    faulty: FaultyGateway, redis_server: RedisServer, *, fresh: bool
) -> None:
    """Each command fails in turn, and only it. Sent again, the event is stored once, and no reader sees a hole."""
    now_ms = 1_800_000_000_000 if fresh else ""
    async with rig(redis_server.url, faulty.url, faulty.token) as first:
        for broken in itertools.count(1):
            mine = first.on_new_stage()
            log = mine.quick(now_ms=now_ms)
            before = [] if fresh else await mine.positions(log, TOPIC, 2)
            faulty.rewrite = break_calls(f"calls == {broken}")
            did_fail = await fails(mine, mine.log(now_ms=now_ms), TOPIC, 99)
            faulty.rewrite = None
            if not did_fail:
                assert broken > 8
                return
            assert [entry.position for entry in await mine.stored(TOPIC)] == before
            other = await mine.append(log, OTHER)
            next_one = await mine.append(log, TOPIC, 100)
            await stored_in_the_end(mine, log, TOPIC, 99)
            stored = await mine.stored(TOPIC)
            assert [entry.number for entry in stored][len(before) :] == ["100", "99"]
            assert [entry.prev for entry in stored[1:]] == [entry.position for entry in stored[:-1]]
            assert other.position < next_one.position
            if before:
                assert stored[len(before)].prev == before[-1]
                assert gaps_of(await log.read(since(TOPIC, OTHER, cursor=before[-1]), limit=100)) == []


async def test_a_script_that_is_cut_off_anywhere_leaves_nothing_that_says_done(
    faulty: FaultyGateway, redis_server: RedisServer
) -> None:
    """From some command on everything fails, clearing up included (a quota ran out). An entry may then be left; it
    has no dedupe key, shares its position with nobody, and is read by whoever reads on.
    """  # noqa: D205 - one sentence is not enough
    async with rig(redis_server.url, faulty.url, faulty.token) as first:
        for broken in itertools.count(1):
            mine = first.on_new_stage()
            log = mine.quick(now_ms=1_800_000_000_000)
            before = await mine.positions(log, TOPIC, 2)
            faulty.rewrite = break_calls(f"calls >= {broken}")
            did_fail = await fails(mine, mine.log(now_ms=1_800_000_000_000), TOPIC, 99)
            faulty.rewrite = None
            if not did_fail:
                assert broken > 8
                return
            other = await mine.append(log, OTHER)
            await stored_in_the_end(mine, log, TOPIC, 99)
            stored = await mine.stored(TOPIC)
            assert rises(entry.position for entry in stored)
            assert other.position not in [entry.position for entry in stored]
            assert {entry.number for entry in stored[2:]} == {"99"}
            reading = await log.read(since(TOPIC, OTHER, cursor=before[-1]), limit=100)
            assert gaps_of(reading) == []
            assert [entry.position for entry in reading.topics[0].entries] == [e.position for e in stored[2:]]


@asynccontextmanager
async def user_without(mine: Rig, server: RedisServer, *rules: str) -> AsyncIterator[Log]:
    """Give a log whose Redis user lacks something."""
    name = f"u{mine.keys.stage}"
    await mine.redis("ACL", "SETUSER", name, "reset", "on", ">pw", "~*", "&*", "+@all", *rules)
    url = server.url.replace("redis://", f"redis://{name}:pw@")
    async with FaultyGateway.running(url) as gateway:
        upstash = plain_upstash(gateway.url, gateway.token)
        try:
            yield Log(upstash, mine.keys, KEEP)
        finally:
            await upstash.close()
            await mine.redis("ACL", "DELUSER", name)


@pytest.mark.parametrize("command", ["mget", "time", "set", "xadd", "xtrim", "expire", "publish", "eval"])
async def test_a_user_who_may_not_run_a_command_of_the_script_stores_nothing(
    mine: Rig, redis_server: RedisServer, command: str
) -> None:
    """Real refusals of a real Redis (an ACL), for each command; lifted, the event is stored."""
    log = mine.log()
    (before,) = await mine.positions(log, TOPIC, 1)
    async with user_without(mine, redis_server, f"-{command}") as refused:
        assert await fails(mine, refused, TOPIC, 99)
    assert [entry.position for entry in await mine.stored(TOPIC)] == [before]
    await stored_in_the_end(mine, log, TOPIC, 99)
    assert gaps_of(await log.read(since(TOPIC, cursor=before), limit=10)) == []


async def test_a_user_who_may_not_announce_stores_nothing(mine: Rig, redis_server: RedisServer) -> None:
    """The channel is refused when the entry already lies in the log."""
    async with user_without(mine, redis_server, "resetchannels") as refused:
        assert await fails(mine, refused, TOPIC, 99)
    assert await mine.stored(TOPIC) == []
    await stored_in_the_end(mine, mine.log(), TOPIC, 99)


async def test_a_log_of_the_wrong_type_is_a_defect_and_heals_when_it_is_gone(mine: Rig) -> None:
    """Nothing else is touched by the failed append."""
    await mine.redis("SET", mine.keys.log(TOPIC), "not a stream")
    log = mine.log()
    with pytest.raises(LogDefectError, match="WRONGTYPE"):
        await mine.append(log, TOPIC, 1)
    assert not await mine.redis("EXISTS", mine.seen_key(1))
    assert not await mine.redis("EXISTS", mine.keys.last(TOPIC))
    await mine.redis("DEL", mine.keys.log(TOPIC))
    await stored_in_the_end(mine, log, TOPIC, 1)


@pytest.mark.parametrize("spoilt", ["clock", "born", "last", "seen"])
async def test_another_key_of_the_wrong_type_counts_as_absent(mine: Rig, spoilt: str) -> None:
    """It is replaced. Where it held what readers rely on, they are told of a gap rather than nothing."""
    log = mine.log()
    first = (await mine.append(log, TOPIC, 1)).position
    key = {
        "clock": mine.keys.clock,
        "born": mine.keys.born,
        "last": mine.keys.last(TOPIC),
        "seen": mine.seen_key(2),
    }[spoilt]
    await mine.redis("DEL", key)
    await mine.redis("RPUSH", key, "not a string")
    second = await mine.append(mine.log(), TOPIC, 2)
    assert not second.duplicate
    assert second.position > first
    assert [entry.number for entry in await mine.stored(TOPIC)] == ["1", "2"]
    assert await mine.append(mine.log(), TOPIC, 2) == Appended(second.position, duplicate=True)
    reading = await mine.log().read(since(TOPIC, cursor=first), limit=10)
    assert [entry.position for entry in reading.topics[0].entries] == [second.position]
    # A new clock may stand above what was given out unseen; a new born stands at the clock, where nothing is missing.
    assert len(gaps_of(reading)) == (1 if spoilt == "clock" else 0)
    behind = await mine.log().read(since(TOPIC, cursor=Position(first.ms - 1, 0)), limit=10)
    assert len(gaps_of(behind)) == 1


async def test_an_empty_stream_that_remembers_a_higher_id_than_the_clock_is_begun_anew(mine: Rig) -> None:
    """An append that broke off, and then a clock that was lost: the stream would refuse every event for ever."""
    log = mine.log()
    far = "9999999999999-0"
    await mine.redis("XADD", mine.keys.log(TOPIC), far, "f", "1", "p", "0-0", "e", envelope(1))
    await mine.redis("XDEL", mine.keys.log(TOPIC), far)
    position = (await mine.append(log, TOPIC, 2)).position
    assert [(entry.position, entry.number) for entry in await mine.stored(TOPIC)] == [(position, "2")]


async def test_a_clock_that_is_no_position_is_a_defect_and_stores_nothing(mine: Rig) -> None:
    """Somebody else writes where only the scripts may."""
    await mine.redis("SET", mine.keys.clock, "yesterday")
    with pytest.raises(LogDefectError, match="TIDEMARK malformed position"):
        await mine.append(mine.log(), TOPIC, 1)
    assert not await mine.redis("EXISTS", mine.seen_key(1))


async def test_a_redis_without_memory_stores_nothing_and_takes_it_later(spoiled: Rig) -> None:
    """OOM is the log's trouble, not ours; duplicates are still known, and readers still read."""
    log = spoiled.log()
    (before,) = await spoiled.positions(log, TOPIC, 1)
    await spoiled.redis("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(LogUnavailableError, match="OOM"):
            await spoiled.append(log, TOPIC, 99)
        assert (await spoiled.append(log, TOPIC, 1)).duplicate
        reading = await log.read(since(TOPIC, cursor=ZERO), limit=10)
        assert [entry.position for entry in reading.topics[0].entries] == [before]
    finally:
        await spoiled.redis("CONFIG", "SET", "maxmemory", "0")
    assert not await spoiled.redis("EXISTS", spoiled.seen_key(99))
    await stored_in_the_end(spoiled, log, TOPIC, 99)


async def test_a_demoted_primary_stores_nothing_and_takes_it_when_promoted(spoiled: Rig) -> None:
    """READONLY surfaces as an error inside the script, and is temporary."""
    log = spoiled.log()
    await spoiled.append(log, TOPIC, 1)
    await spoiled.redis("REPLICAOF", "127.0.0.1", 1)
    try:
        with pytest.raises(LogUnavailableError, match="READONLY"):
            await spoiled.append(log, TOPIC, 99)
        assert (await spoiled.append(log, TOPIC, 1)).duplicate
    finally:
        await spoiled.redis("REPLICAOF", "NO", "ONE")
    assert not await spoiled.redis("EXISTS", spoiled.seen_key(99))
    await stored_in_the_end(spoiled, log, TOPIC, 99)


async def test_an_append_to_a_redis_that_is_away_fails_within_its_time(spoiled: Rig, own_redis: RedisServer) -> None:
    """1.5 s in all, retry included; back again with its data, it takes the event."""
    log = spoiled.log()
    (before,) = await spoiled.positions(log, TOPIC, 1)
    own_redis.kill()
    began = time.monotonic()
    try:
        with pytest.raises(LogUnavailableError):
            await spoiled.append(log, TOPIC, 99)
        assert time.monotonic() - began < 1.7
    finally:
        await asyncio.to_thread(own_redis.start)
    await stored_in_the_end(spoiled, log, TOPIC, 99)
    assert gaps_of(await log.read(since(TOPIC, cursor=before), limit=10)) == []


async def test_an_append_that_hangs_is_given_up_in_time_and_may_be_sent_again(
    faulty: FaultyGateway, redis_server: RedisServer
) -> None:
    """It may have been stored; then the second one says where."""
    async with rig(redis_server.url, faulty.url, faulty.token) as mine:
        log = mine.log()
        began = time.monotonic()
        with faulty.holding("append"), pytest.raises(LogUnavailableError, match=r"within 1\.5 s"):
            await mine.append(log, TOPIC, 1)
        assert 1.4 < time.monotonic() - began < 1.8
        (entry,) = await mine.stored(TOPIC)
        assert await mine.append(log, TOPIC, 1) == Appended(entry.position, duplicate=True)


# --- its price ---------------------------------------------------------------------------------------------


async def test_an_append_is_one_http_request(mine: Rig, gateway: GatewayProcess) -> None:
    """Duplicate or not; the whole script is one EVAL."""
    log = mine.log()
    await mine.append(log, TOPIC)
    before = gateway.stats()["requests"]
    for number in (1, 1, 2):
        await mine.append(log, TOPIC, f"n{number}")
    after = gateway.stats()["requests"]
    assert after["command"] - before["command"] == 3
    assert after["by_command"]["EVAL"] - before["by_command"]["EVAL"] == 3
    assert after["pipeline"] == before["pipeline"]
