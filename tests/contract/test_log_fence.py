"""The fence: a log that has forgotten events (a failover, a restored copy) says so to everyone, once."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from shared.errors import CursorAheadError, LogUnavailableError
from shared.log import NOW, Log
from shared.position import ZERO, Position
from tests.support.alarm_lines import rung
from tests.support.faulty_gateway import FaultyGateway
from tests.support.gateway import RedisServer
from tests.support.log_rig import Rig, found, gaps_of, rig, since
from tests.support.stream_rig import Process, eventually

TOPIC = "gmail:a@b.c"
OTHER = "gmail:d@e.f"
QUIET = "gmail:q@b.c"
BASE_MS = 1_800_000_000_000


async def told(mine: Rig, *topics: str, cursor: Position) -> list[str]:
    """Return which of the topics a new process tells a gap to who comes back with this cursor."""
    return [gap.topic for gap in gaps_of(await mine.quick().read(since(*topics, cursor=cursor), limit=500))]


async def append(mine: Rig, log: Log) -> None:
    await mine.append(log, OTHER)


async def read(_mine: Rig, log: Log) -> None:
    await log.read(since(TOPIC, cursor=NOW), limit=1)


async def reconcile(_mine: Rig, log: Log) -> None:
    await log.read({}, limit=1)


async def ack(_mine: Rig, log: Log) -> None:
    await log.ack("user", "client", ZERO)


ACTIONS: Mapping[str, Callable[[Rig, Log], Awaitable[None]]] = {
    "append": append,
    "read": read,
    "reconcile": reconcile,
    "ack": ack,
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("back_ms", [0, 1000], ids=["same time", "the new server's clock is behind"])
async def test_whatever_a_process_does_next_fences_a_log_that_has_fallen_behind_it(
    mine: Rig, action: str, back_ms: int
) -> None:
    """Every older cursor is told in every topic, the lost events' own and the quiet ones too; newer ones are not."""
    log = mine.log(now_ms=BASE_MS)
    kept = await mine.positions(log, TOPIC, 2)
    copy = await mine.snapshot()
    lost = [*await mine.positions(log, TOPIC, 2), *await mine.positions(log, OTHER, 1)]
    await mine.restore(copy)
    assert await told(mine, TOPIC, QUIET, cursor=kept[0]) == []

    log._now_ms = str(BASE_MS - back_ms)
    await ACTIONS[action](mine, log)

    born = await mine.position_at(mine.keys.born)
    assert born >= lost[-1]
    for cursor in (*kept, *lost[:-1]):
        assert await told(mine, TOPIC, OTHER, QUIET, cursor=cursor) == [TOPIC, OTHER, QUIET]
    held = await log.read(since(TOPIC, cursor=kept[0]), limit=10)
    assert found(held)[TOPIC] == kept[1:]
    after = await mine.positions(mine.log(now_ms=BASE_MS - back_ms), TOPIC, 2)
    assert after[0] > lost[-1]
    assert await told(mine, TOPIC, OTHER, QUIET, cursor=after[0]) == []


async def test_a_log_that_has_lost_nothing_is_never_fenced(mine: Rig) -> None:
    """Reads, appends and acks of several processes, some of them far behind, change nothing."""
    logs = [mine.log() for _ in range(3)]
    await logs[0].read({}, limit=1)
    born = await mine.position_at(mine.keys.born)
    for log, action in itertools.product(logs, ACTIONS.values()):
        await action(mine, log)
        await mine.append(logs[1], TOPIC)
    assert await mine.position_at(mine.keys.born) == born


async def test_a_second_process_that_saw_no_more_does_not_fence_again(mine: Rig) -> None:
    """Clients that were told once are not told twice."""
    first, second, third = mine.log(), mine.log(), mine.log()
    (kept,) = await mine.positions(first, TOPIC, 1)
    copy = await mine.snapshot()
    await mine.positions(first, TOPIC, 3)
    for log in (second, third):
        await log.read({}, limit=1)
    await mine.restore(copy)
    await first.read({}, limit=1)
    born = await mine.position_at(mine.keys.born)
    for action in ACTIONS.values():
        for log in (second, third, first):
            await action(mine, log)
            assert await mine.position_at(mine.keys.born) == born
    assert await told(mine, TOPIC, cursor=kept) == [TOPIC]


async def test_a_process_that_saw_more_than_the_one_that_fenced_fences_above_what_it_saw(mine: Rig) -> None:
    """Between the two fences lie positions that a client may hold as its cursor. They are told as well."""
    early, late = mine.log(now_ms=BASE_MS), mine.log(now_ms=BASE_MS)
    await mine.append(early, TOPIC)
    copy = await mine.snapshot()
    await mine.append(early, TOPIC)
    cursor = (await mine.append(late, TOPIC)).position
    newest = (await mine.append(late, TOPIC)).position
    await mine.restore(copy)
    await early.read({}, limit=1)
    assert await mine.position_at(mine.keys.born) < cursor
    await late.read({}, limit=1)
    assert await mine.position_at(mine.keys.born) == newest
    assert await told(mine, TOPIC, cursor=cursor) == [TOPIC]
    assert await told(mine, TOPIC, cursor=newest) == []


async def test_what_nobody_has_noticed_is_still_told_to_a_cursor_beyond_the_clock(mine: Rig) -> None:
    """The cursor itself is the witness."""
    log = mine.log(now_ms=BASE_MS)
    (kept,) = await mine.positions(log, TOPIC, 1)
    copy = await mine.snapshot()
    lost = await mine.positions(log, TOPIC, 3)
    await mine.restore(copy)
    assert await told(mine, TOPIC, QUIET, cursor=lost[-1]) == [TOPIC, QUIET]
    assert await told(mine, TOPIC, cursor=kept) == []
    with pytest.raises(CursorAheadError):
        await mine.log(now_ms=BASE_MS).ack("user", "client", lost[-1])


async def test_a_proof_is_good_for_one_fence(mine: Rig) -> None:
    """A second process that shows the same loss changes nothing; a later loss is a new one."""
    log = mine.log()
    lost = (await mine.append(log, TOPIC)).position
    await mine.append(log, OTHER)
    await log.fence(lost)
    born = await mine.position_at(mine.keys.born)
    assert born == await mine.position_at(mine.keys.clock)
    await mine.append(log, OTHER)
    await mine.log().fence(lost)
    assert await mine.position_at(mine.keys.born) == born
    later = (await mine.append(log, TOPIC)).position
    await mine.append(log, OTHER)
    await mine.log().fence(later)
    assert await mine.position_at(mine.keys.born) > later


async def test_a_reader_that_was_brought_up_to_the_clock_before_anybody_noticed_is_told_too(mine: Rig) -> None:
    """After the failover it read that nothing is new in its topic. What it had missed there may be what was lost."""
    log = mine.log()
    await mine.append(log, TOPIC)
    copy = await mine.snapshot()
    lost = (await mine.append(log, TOPIC)).position
    await mine.append(log, QUIET)
    await mine.restore(copy)
    await mine.append(mine.log(), OTHER)
    cursor = (await mine.log().read(since(QUIET, cursor=ZERO), limit=1)).clock
    await mine.log().fence(lost)
    assert await told(mine, QUIET, cursor=cursor) == [QUIET]


@pytest.mark.parametrize("action", ["read", "append"])
async def test_a_fence_that_breaks_off_anywhere_falls_with_the_next_call(
    faulty: FaultyGateway, redis_server: RedisServer, action: str
) -> None:
    """The clock may not be wound before everyone is told: it is what the witness is held against."""
    async with rig(redis_server.url, faulty.url, faulty.token) as first:
        for broken in itertools.count(1):
            mine = first.on_new_stage()
            log = mine.log()
            (kept,) = await mine.positions(mine.quick(), TOPIC, 1)
            copy = await mine.snapshot()
            log.saw((await mine.positions(mine.quick(), TOPIC, 2))[-1])
            await mine.restore(copy)
            faulty.rewrite = break_call(broken)
            try:
                await ACTIONS[action](mine, log)
            except LogUnavailableError:
                whole = False
            else:
                whole = True
            faulty.rewrite = None
            await ACTIONS[action](mine, log)
            assert await told(mine, TOPIC, cursor=kept) == [TOPIC]
            if whole:
                assert broken > 3
                return


def break_call(number: int) -> Callable[[list[Any]], list[Any]]:
    """Let one command inside each script fail, and those after it."""
    broken = f"""
        local real, calls = redis, 0
        local function breaking(way)
          return function(...)
            calls = calls + 1
            if calls >= {number} then return real[way]('NO SUCH COMMAND') end
            return real[way](...)
          end
        end
        local redis = setmetatable({{call = breaking('call'), pcall = breaking('pcall')}}, {{__index = real}})
    """
    return lambda command: ["EVAL", broken + command[1], *command[2:]] if command[0] == "EVAL" else command


async def test_a_server_restarted_from_an_older_copy_of_its_file_is_fenced(tmp_path: Path) -> None:
    """The real thing: the append-only file of yesterday, put back while the processes live on."""
    server = RedisServer(tmp_path / "redis")
    await asyncio.to_thread(server.start)
    try:
        async with (
            FaultyGateway.running(server.url) as gateway,
            rig(server.url, gateway.url, gateway.token) as mine,
        ):
            log = mine.log()
            kept = await mine.positions(log, TOPIC, 2)
            await asyncio.to_thread(server.stop)
            shutil.copytree(server.directory, tmp_path / "copy")
            await asyncio.to_thread(server.start)
            lost = await mine.positions(log, TOPIC, 2)
            await asyncio.to_thread(server.kill)
            shutil.rmtree(server.directory)
            shutil.copytree(tmp_path / "copy", server.directory)
            await asyncio.to_thread(server.start)
            (after,) = await mine.positions(log, TOPIC, 1)
            assert after > lost[-1]
            assert await told(mine, TOPIC, QUIET, cursor=kept[1]) == [TOPIC, QUIET]
            assert await told(mine, TOPIC, QUIET, cursor=lost[0]) == [TOPIC, QUIET]
            assert await told(mine, TOPIC, QUIET, cursor=after) == []
    finally:
        await asyncio.to_thread(server.stop)


# --- running streams ---------------------------------------------------------------------------------------


async def test_an_event_that_does_not_follow_the_newest_is_proof_of_a_loss(
    faulty: FaultyGateway, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The log came back without it, others have appended on, and its clock has passed everything that was seen:
    only `prev` still tells. Everyone is told once, and the event follows.
    """  # noqa: D205 - one sentence is not enough
    async with (
        rig(redis_server.url, faulty.url, faulty.token) as mine,
        Process.running(faulty, mine.keys) as process,
    ):
        tab = await process.open_tab(TOPIC, QUIET)
        writer = mine.quick()
        kept = await mine.positions(writer, TOPIC, 2)
        copy = await mine.snapshot()
        lost = await mine.positions(writer, TOPIC, 1)
        await tab.until_positions([*kept, *lost])
        await mine.restore(copy)
        # Another process, which has seen nothing of it, brings the clock beyond what this one has seen.
        stranger = mine.quick(now_ms=lost[-1].ms + 5)
        assert await told(mine, TOPIC, cursor=kept[0]) == []
        await mine.positions(stranger, OTHER, 2)
        after = await mine.positions(stranger, TOPIC, 1)
        await tab.until_positions([*kept, *lost, *after])
        assert process.hub.counters.fences == 1
        assert rung(caplog.records) == {"Forgotten"}
        assert await told(mine, TOPIC, OTHER, cursor=kept[0]) == [TOPIC, OTHER]
        await process.reconcile()
        await process.reconcile()
        await tab.until(lambda t: len(t.gaps) >= 2, "both topics are told")
        assert sorted(topic for topic, *_ in tab.gaps) == sorted([TOPIC, QUIET])
        (gap,) = [gap for gap in tab.gaps if gap[0] == TOPIC]
        assert lost[-1] <= gap[2] <= await mine.position_at(mine.keys.born)
        assert process.hub.counters.fences == 1
        events_and_gaps = [f.event for f in tab.frames if f.data.get("topic") == TOPIC]
        assert events_and_gaps == ["message"] * 3 + ["tidemark.gap", "message"]


async def test_two_processes_with_the_same_proof_tell_each_stream_once(
    faulty: FaultyGateway, redis_server: RedisServer
) -> None:
    """Both see the event; one of them fences, and the other finds it done."""
    async with (
        rig(redis_server.url, faulty.url, faulty.token) as mine,
        Process.running(faulty, mine.keys) as one,
        Process.running(faulty, mine.keys) as two,
    ):
        tabs = [await one.open_tab(TOPIC, QUIET), await two.open_tab(TOPIC), await two.open_tab(QUIET)]
        writer = mine.quick()
        kept = await mine.positions(writer, TOPIC, 1)
        copy = await mine.snapshot()
        lost = await mine.positions(writer, TOPIC, 1)
        await tabs[0].until_positions([*kept, *lost])
        await tabs[1].until_positions([*kept, *lost])
        await mine.restore(copy)
        after = await mine.positions(mine.quick(now_ms=lost[-1].ms + 5), TOPIC, 1)
        await tabs[0].until_positions([*kept, *lost, *after])
        await tabs[1].until_positions([*kept, *lost, *after])
        for _ in range(2):
            for process in (one, two):
                await process.reconcile()
                await mine.positions(mine.quick(now_ms=lost[-1].ms + 9), OTHER, 1)
        await eventually(lambda: len(tabs[2].gaps) > 0, "the quiet stream of the other process is told")
        assert sorted(topic for topic, *_ in tabs[0].gaps) == sorted([TOPIC, QUIET])
        assert [topic for topic, *_ in tabs[1].gaps] == [TOPIC]
        assert [topic for topic, *_ in tabs[2].gaps] == [QUIET]


async def test_a_stream_hears_of_a_fence_before_it_goes_past_it(
    faulty: FaultyGateway, redis_server: RedisServer
) -> None:
    """Another process has fenced: this one knows nothing of it and its feed was away when the lost event came. The
    next live event would seem to follow; it must bring the gap first, or its id would hide the loss for good.
    """  # noqa: D205 - one sentence is not enough
    async with (
        rig(redis_server.url, faulty.url, faulty.token) as mine,
        Process.running(faulty, mine.keys) as process,
    ):
        tab = await process.open_tab(TOPIC)
        writer, witness = mine.quick(), mine.log()
        kept = await mine.positions(writer, TOPIC, 1)
        await tab.until_positions(kept)
        copy = await mine.snapshot()
        faulty.feed_fault = lambda _channel, _payload: []
        await mine.positions(writer, TOPIC, 1)
        await witness.read({}, limit=1)
        await mine.restore(copy)
        faulty.feed_fault = None
        await witness.read({}, limit=1)
        after = await mine.positions(mine.quick(), TOPIC, 1)
        await tab.until_positions([*kept, *after])
        assert [frame.event for frame in tab.frames[-2:]] == ["tidemark.gap", "message"]
        assert len(tab.gaps) == 1
        await process.reconcile()
        await mine.positions(mine.quick(), TOPIC, 1)
        await tab.until(lambda t: len(t.positions()) == 3, "the next event")
        assert len(tab.gaps) == 1


@pytest.mark.parametrize("heard", [True, False], ids=["an event was sent before", "no event was sent before"])
async def test_a_stream_hears_of_a_wiped_log_once_a_topic(
    faulty: FaultyGateway, redis_server: RedisServer, *, heard: bool
) -> None:
    """By the next event, or by the reconcile when none comes; then everything goes on."""
    async with (
        rig(redis_server.url, faulty.url, faulty.token) as mine,
        Process.running(faulty, mine.keys) as process,
    ):
        tab = await process.open_tab(TOPIC, QUIET)
        before = await mine.positions(mine.quick(), TOPIC, 1) if heard else []
        await tab.until_positions(before)
        await mine.restore({})
        after = await mine.positions(mine.quick(), TOPIC, 1)
        await tab.until_positions([*before, *after])
        assert [topic for topic, *_ in tab.gaps] == [TOPIC]
        await process.reconcile()
        await tab.until(lambda t: len(t.gaps) == 2, "the quiet topic is told")
        assert {topic for topic, *_ in tab.gaps} == {TOPIC, QUIET}
        for _ in range(2):
            await process.reconcile()
        more = await mine.positions(mine.quick(), QUIET, 1)
        await tab.until_positions([*before, *after, *more])
        assert len(tab.gaps) == 2
        assert tab.frames[-1].id is not None
        assert process.hub.counters.fences == 0


async def test_a_hub_far_behind_a_fence_tells_its_streams_once(
    faulty: FaultyGateway, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has missed more than one read brings, all of it below the fence."""
    monkeypatch.setattr("shared.hub._READ_LIMIT", 3)
    async with (
        rig(redis_server.url, faulty.url, faulty.token) as mine,
        Process.running(faulty, mine.keys) as process,
    ):
        follower = await process.follow(TOPIC)
        writer = mine.quick()
        faulty.feed_fault = lambda _channel, _payload: []
        missed = await mine.positions(writer, TOPIC, 14)
        await writer.fence((await mine.append(writer, OTHER)).position)
        await process.reconcile()
        await eventually(lambda: follower.positions == missed, "all that it has missed")
        assert [gap.topic for gap in follower.gaps] == [TOPIC]
        assert follower.items[0] is follower.gaps[0]


async def test_a_reader_far_behind_a_fence_is_told_once_and_gets_all_that_is_held(
    faulty: FaultyGateway, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its catching up takes many pages, all of them below the fence."""
    monkeypatch.setattr("functions.stream.outgoing.PAGE_LIMIT", 5)
    async with (
        rig(redis_server.url, faulty.url, faulty.token) as mine,
        Process.running(faulty, mine.keys) as process,
    ):
        writer = mine.quick()
        (cursor,) = await mine.positions(writer, TOPIC, 1)
        held = sorted([*await mine.positions(writer, TOPIC, 12), *await mine.positions(writer, OTHER, 12)])
        await writer.fence((await mine.append(writer, QUIET)).position)
        after = await mine.positions(writer, TOPIC, 3)
        tab = await process.open_tab(TOPIC, OTHER, start=cursor)
        await tab.until_positions([*held, *after])
        await process.reconcile()
        more = await mine.positions(writer, OTHER, 1)
        await tab.until_positions([*held, *after, *more])
        assert sorted(topic for topic, *_ in tab.gaps) == sorted([TOPIC, OTHER])
        assert all(gap[1] < gap[2] for gap in tab.gaps)
