"""The hub between a live feed that promises nothing and streams that miss nothing: every fault a feed can have."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import LogUnavailableError
from shared.log import EARLIEST, NOW
from shared.position import Position
from tests.support.faulty_gateway import Answer, FaultyGateway, FaultyWorld
from tests.support.gateway import RedisServer
from tests.support.log_rig import Rig, rig, rises
from tests.support.stream_rig import Process, Tab, eventually

TOPIC = "gmail:a@b.c"
OTHER = "gmail:d@e.f"
SOON_S = 2.0


@pytest.fixture
async def mine(redis_server: RedisServer, faulty: FaultyGateway) -> AsyncIterator[Rig]:
    """Give a stage of one's own; its `quick` logs write past the faulty gateway."""
    async with rig(redis_server.url, faulty.url, faulty.token) as made:
        yield made


def every(number: int, fault: Callable[[str], list[str]]) -> Callable[[str, str], list[str]]:
    """Let a fault befall each so manieth live message."""
    count = itertools.count(1)
    return lambda _channel, payload: fault(payload) if next(count) % number == 0 else [payload]


def swallow(_payload: str) -> list[str]:
    return []


async def lose(mine: Rig, faulty: FaultyGateway, topic: str, count: int) -> list[Position]:
    """Append events of which the feed says nothing; return when it has said nothing of each."""
    left = count

    def fault(_channel: str, _payload: str) -> list[str]:
        nonlocal left
        left -= 1
        return []

    faulty.feed_fault = fault
    written = await mine.positions(mine.quick(), topic, count)
    await eventually(lambda: left <= 0, "the feed has swallowed them")
    faulty.feed_fault = None
    return written


def double(payload: str) -> list[str]:
    return [payload, payload]


# --- a feed that loses, doubles, delays --------------------------------------------------------------------


async def test_a_swallowed_message_comes_with_the_next_one_at_once_and_in_order(
    mine: Rig, process: Process, faulty: FaultyGateway
) -> None:
    """The next one names what stands before it; nothing waits for the reconcile."""
    tab = await process.open_tab(TOPIC)
    log = mine.quick()
    first = await mine.positions(log, TOPIC, 1)
    await tab.until_positions(first)
    lost = await lose(mine, faulty, TOPIC, 3)
    began = time.monotonic()
    following = await mine.positions(log, TOPIC, 1)
    await tab.until_positions([*first, *lost, *following])
    assert time.monotonic() - began < SOON_S
    assert process.hub.counters.missed == 1
    assert tab.gaps == []


async def test_the_first_message_of_a_stream_may_be_the_swallowed_one(
    mine: Rig, process: Process, faulty: FaultyGateway
) -> None:
    """Then nothing was handed out yet that the next one could be compared with."""
    await mine.positions(mine.quick(), TOPIC, 2)
    tab = await process.open_tab(TOPIC)
    lost = await lose(mine, faulty, TOPIC, 1)
    following = await mine.positions(mine.quick(), TOPIC, 1)
    await tab.until_positions([*lost, *following])
    assert tab.gaps == []


async def test_doubled_messages_are_sent_once(mine: Rig, process: Process, faulty: FaultyGateway) -> None:
    """Each and every one of them doubled, to several streams."""
    faulty.feed_fault = every(1, double)
    tabs = [await process.open_tab(TOPIC), await process.open_tab(TOPIC, OTHER)]
    written = await mine.positions(mine.quick(), TOPIC, 30)
    for tab in tabs:
        await tab.until_positions(written)
    (last,) = await mine.positions(mine.quick(), TOPIC, 1)
    for tab in tabs:
        await tab.until_positions([*written, last])
    assert process.hub.counters.live_messages == 62
    assert process.hub.counters.reads == 0


async def test_messages_in_the_wrong_order_are_sent_in_the_right_one(
    mine: Rig, process: Process, faulty: FaultyGateway
) -> None:
    """Pairs change places."""
    kept: list[str] = []

    def swap(_channel: str, payload: str) -> list[str]:
        if not kept:
            kept.append(payload)
            return []
        return [payload, kept.pop()]

    tab = await process.open_tab(TOPIC)
    faulty.feed_fault = swap
    written = await mine.positions(mine.quick(), TOPIC, 20)
    await tab.until_positions(written)


async def test_a_topic_whose_messages_are_late_holds_no_other_back(
    mine: Rig, process: Process, faulty: FaultyGateway
) -> None:
    """And the stream's id waits for it: who resumes from any id misses nothing of either."""
    late: list[str] = []

    def hold_back(channel: str, payload: str) -> list[str]:
        if channel.endswith(OTHER):
            late.append(payload)
            return []
        return [payload]

    tab = await process.open_tab(TOPIC, OTHER)
    begin = tab.last_id
    faulty.feed_fault = hold_back
    log = mine.quick()
    mixed: list[tuple[str, Position]] = []
    for _ in range(5):
        mixed += [(topic, (await mine.append(log, topic)).position) for topic in (TOPIC, OTHER)]
    prompt = [position for topic, position in mixed if topic == TOPIC]
    await tab.until_positions(prompt)
    assert tab.last_id == begin
    faulty.feed_fault = None
    for payload in late:
        await mine.redis("PUBLISH", mine.keys.live(OTHER), payload)
    behind = [position for topic, position in mixed if topic == OTHER]
    await tab.until_positions(behind, OTHER)
    assert tab.last_id >= prompt[-1]
    assert tab.last_id <= mixed[-1][1]


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "hello",
        "1",
        "1 0-0",
        "1 0-0 0-1",
        "1 x y {}",
        "1 0-0 00-1 {}",
        "9 0-0 1-1 {}",
        "1  0-0 1-1 {}",
        "1 0-0 99999999999999999999-0 {}",
        "1 0-0 9007199254740993-0 {}",
    ],
)
async def test_a_message_that_cannot_be_read_stops_nothing(mine: Rig, process: Process, garbage: str) -> None:
    """It is of a later version, or torn; the log is asked what there is."""
    tab = await process.open_tab(TOPIC)
    first = await mine.positions(mine.quick(), TOPIC, 1)
    await tab.until_positions(first)
    reads = process.hub.counters.reads
    await mine.redis("PUBLISH", mine.keys.live(TOPIC), garbage)
    await eventually(lambda: process.hub.counters.reads > reads, "the log is asked")
    second = await mine.positions(mine.quick(), TOPIC, 1)
    await tab.until_positions([*first, *second])
    assert tab.gaps == []


async def test_an_event_of_a_later_version_is_a_gap_in_a_running_stream(mine: Rig, process: Process) -> None:
    """Told once, and the events around it come."""
    tab = await process.open_tab(TOPIC)
    log = mine.quick()
    first = await mine.positions(log, TOPIC, 1)
    foreign = await mine.append_foreign(TOPIC, "f", "9", "x", "y")
    await tab.until(lambda t: len(t.gaps) == 1, "the gap")
    second = await mine.positions(log, TOPIC, 2)
    await tab.until_positions([*first, *second])
    assert tab.gaps == [(TOPIC, first[0], foreign)]
    assert [frame.event for frame in tab.frames[2:]] == ["message", "tidemark.gap", "message", "message"]


# --- between the replay and the live events ----------------------------------------------------------------


async def test_live_events_that_come_before_the_replay_is_read_wait_for_it(
    mine: Rig, process: Process, faulty: FaultyGateway
) -> None:
    """The read was made, its answer is slow, and the feed goes on meanwhile."""
    log = mine.quick()
    before = await mine.positions(log, TOPIC, 5)
    with faulty.holding("read") as held:
        tab = process.tab(TOPIC, start=EARLIEST)
        opening = asyncio.ensure_future(tab.open())
        await held.until_arrived()
        meanwhile = await mine.positions(log, TOPIC, 5)
        await eventually(lambda: process.hub.counters.live_messages == 5, "the live events are there")
        held.release()
        await opening
    await tab.until_positions([*before, *meanwhile])
    assert process.hub.counters.missed == 0


async def test_live_events_that_come_before_the_read_is_made_are_sent_once(
    mine: Rig, process: Process, faulty: FaultyGateway
) -> None:
    """The read shows them too."""
    log = mine.quick()
    before = await mine.positions(log, TOPIC, 5)
    with faulty.holding("read", before=True) as held:
        tab = process.tab(TOPIC, start=before[1])
        opening = asyncio.ensure_future(tab.open())
        await held.until_arrived()
        meanwhile = await mine.positions(log, TOPIC, 5)
        await eventually(lambda: process.hub.counters.live_messages == 5, "the live events are there")
        held.release()
        await opening
    await tab.until_positions([*before[2:], *meanwhile])
    assert rises(tab.ids)


@pytest.mark.parametrize("lost", [False, True], ids=["the feed brought it", "the feed lost it"])
async def test_two_streams_that_begin_a_topic_together_both_have_what_falls_between_their_reads(
    mine: Rig, process: Process, faulty: FaultyGateway, *, lost: bool
) -> None:
    """The earlier read is answered later, and the hub began with the other."""
    if lost:
        faulty.feed_fault = every(1, swallow)
    with faulty.holding("read", count=1) as held:
        slow = process.tab(TOPIC)
        opening = asyncio.ensure_future(slow.open())
        await held.until_arrived()
        between = await mine.positions(mine.quick(), TOPIC, 2)
        fast = await process.open_tab(TOPIC, start=EARLIEST)
        await fast.until_positions(between)
        held.release()
        await opening
    faulty.feed_fault = None
    await slow.until_positions(between)
    after = await mine.positions(mine.quick(), TOPIC, 1)
    await slow.until_positions([*between, *after])
    await fast.until_positions([*between, *after])


async def test_a_stream_that_begins_while_a_reconcile_looks_elsewhere_is_not_left_behind(
    mine: Rig, process: Process, faulty: FaultyGateway
) -> None:
    """The reconcile saw the clock, but not yet this topic. When it finds the clock unmoved, that must not do."""
    with faulty.holding("read", count=1) as held:
        tab = process.tab(TOPIC)
        opening = asyncio.ensure_future(tab.open())
        await held.until_arrived()
        lost = await lose(mine, faulty, TOPIC, 1)
        await process.reconcile()
        held.release()
        await opening
    await process.reconcile()
    await tab.until_positions(lost)


async def test_a_slow_read_while_more_comes_than_the_hub_holds_loses_nothing(
    mine: Rig, process: Process, faulty: FaultyGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it cannot hold it reads again."""
    monkeypatch.setattr("shared.fanout._MAX_PENDING", 5)
    tab = await process.open_tab(TOPIC)
    log = mine.quick()
    first = await mine.positions(log, TOPIC, 1)
    await tab.until_positions(first)
    lost = await lose(mine, faulty, TOPIC, 1)
    with faulty.holding("read", count=1) as held:
        trigger = await mine.positions(log, TOPIC, 1)
        await held.until_arrived()
        flood = await mine.positions(log, TOPIC, 17)
        await eventually(lambda: process.hub.counters.live_messages == 19, "the flood is there")
        held.release()
        await tab.until_positions([*first, *lost, *trigger, *flood])


async def test_a_stream_that_opens_while_more_comes_than_the_hub_holds_loses_nothing(
    mine: Rig, process: Process, faulty: FaultyGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same before the topic has begun."""
    monkeypatch.setattr("shared.fanout._MAX_PENDING", 5)
    with faulty.holding("read", count=1) as held:
        tab = process.tab(TOPIC)
        opening = asyncio.ensure_future(tab.open())
        await held.until_arrived()
        flood = await mine.positions(mine.quick(), TOPIC, 17)
        await eventually(lambda: process.hub.counters.live_messages == 17, "the flood is there")
        held.release()
        await opening
    await tab.until_positions(flood)


# --- a feed that is away -----------------------------------------------------------------------------------


async def test_a_feed_that_falls_silent_without_closing_is_found_out_by_the_reconcile(
    mine: Rig, faulty: FaultyGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The events come within its interval, and the feed is opened anew, so that the next comes live."""
    monkeypatch.setattr("shared.hub.LATE_S", 0.1)
    async with Process.running(faulty, mine.keys, reconcile_s=0.4) as process:
        tab = await process.open_tab(TOPIC)
        faulty.mute_feeds()
        began = time.monotonic()
        silent = await mine.positions(mine.quick(), TOPIC, 3)
        await tab.until_positions(silent)
        assert time.monotonic() - began < 0.4 + 0.5
        await eventually(lambda: process.hub.counters.suspected_feeds == 1, "the feed is suspected")
        await eventually(
            lambda: len(faulty.feeds_opened) == 2 and process.live.open_connections == 1, "it is opened anew"
        )
        live = process.hub.counters.live_messages
        again = await mine.positions(mine.quick(), TOPIC, 1)
        await tab.until_positions([*silent, *again])
        await eventually(lambda: process.hub.counters.live_messages == live + 1, "it came by the feed")


async def test_a_feed_that_is_only_slower_than_the_reconcile_is_not_suspected(
    mine: Rig, process: Process, faulty: FaultyGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message comes within its grace."""
    monkeypatch.setattr("shared.hub.LATE_S", 0.2)
    kept: list[str] = []

    def keep(_channel: str, payload: str) -> list[str]:
        kept.append(payload)
        return []

    tab = await process.open_tab(TOPIC)
    faulty.feed_fault = keep
    written = await mine.positions(mine.quick(), TOPIC, 1)
    await process.reconcile()
    await tab.until_positions(written)
    faulty.feed_fault = None
    heard = process.hub.counters.live_messages
    assert process.hub._fanout.topics[TOPIC].late == written[0]
    await mine.redis("PUBLISH", mine.keys.live(TOPIC), kept[0])
    await eventually(lambda: process.hub.counters.live_messages > heard, "the message comes after all")
    assert process.hub._fanout.topics[TOPIC].late is None
    assert process.hub.counters.suspected_feeds == 0
    assert tab.positions() == written


async def test_a_feed_that_is_closed_is_opened_again_and_what_fell_between_is_read(
    mine: Rig, process: Process, faulty: FaultyGateway
) -> None:
    """Without waiting for the reconcile."""
    tab = await process.open_tab(TOPIC)
    log = mine.quick()
    written = await mine.positions(log, TOPIC, 1)
    await tab.until_positions(written)
    for _ in range(3):
        opened = len(faulty.feeds_opened)
        faulty.refuse_feeds = True
        faulty.cut_feeds()
        await eventually(lambda: faulty.open_feeds == 0, "it is closed")
        written += await mine.positions(log, TOPIC, 2)
        faulty.refuse_feeds = False
        await tab.until_positions(written)
        assert len(faulty.feeds_opened) == opened + 1


@pytest.mark.parametrize("fault", ["refused", "closed at once"])
async def test_a_feed_that_cannot_stay_open_is_tried_ever_more_slowly(
    process: Process, faulty: FaultyGateway, fault: str
) -> None:
    """Upstash bills each try; a feed that opens only to close is no success."""
    await process.open_tab(TOPIC)
    if fault == "refused":
        faulty.refuse_feeds = True
    else:
        faulty.close_feeds_at_once = True
    before = faulty.feeds_tried
    faulty.cut_feeds()
    await asyncio.sleep(1.5)
    tries = faulty.feeds_tried - before
    # 0.05 + 0.1 + 0.2 + 0.4 + 0.8 s, with jitter; without a growing pause there would be thirty.
    assert 3 <= tries <= 8


async def test_a_stream_cannot_open_without_its_feed_and_says_so_in_time(
    mine: Rig, process: Process, faulty: FaultyGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves nothing behind, and the next one opens when the feed is back."""
    monkeypatch.setattr("shared.hub.JOIN_TIMEOUT_S", 0.3)
    faulty.refuse_feeds = True
    with pytest.raises(LogUnavailableError, match="live feed"):
        await process.open_tab(TOPIC)
    assert process.hub._fanout.topics == {}
    faulty.refuse_feeds = False
    tab = await process.open_tab(TOPIC)
    written = await mine.positions(mine.quick(), TOPIC, 1)
    await tab.until_positions(written)


# --- a log that is away ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["LOADING Redis is loading", "READONLY You can't write", "ERR something new"])
async def test_a_log_that_fails_while_something_is_missing_is_asked_until_it_answers(
    mine: Rig, process: Process, faulty: FaultyGateway, text: str
) -> None:
    """The stream stays open, says nothing false, and then has everything."""
    tab = await process.open_tab(TOPIC)
    log = mine.quick()
    first = await mine.positions(log, TOPIC, 1)
    await tab.until_positions(first)
    lost = await lose(mine, faulty, TOPIC, 1)
    faulty.refuse = lambda _name: Answer.error(text)
    held = await mine.positions(log, TOPIC, 3)
    asked = faulty.total()
    await eventually(lambda: faulty.total() >= asked + 3, "it is asked again")
    assert tab.positions() == first
    assert not tab.ended
    faulty.refuse = lambda _name: None
    await tab.until_positions([*first, *lost, *held])


async def test_a_topic_whose_log_is_spoilt_does_not_hold_up_the_others(
    mine: Rig, process: Process, faulty: FaultyGateway
) -> None:
    """A key of the wrong type is a defect of one topic: what others have missed is read all the same."""
    spoilt, sound = await process.open_tab(TOPIC), await process.open_tab(OTHER)
    log = mine.quick()
    first = {topic: await mine.positions(log, topic, 1) for topic in (TOPIC, OTHER)}
    await spoilt.until_positions(first[TOPIC])
    await sound.until_positions(first[OTHER])
    lost = await lose(mine, faulty, OTHER, 1)
    await lose(mine, faulty, TOPIC, 1)
    await mine.redis("SET", mine.keys.log(TOPIC), "not a stream")
    await process.reconcile()
    await sound.until_positions([*first[OTHER], *lost])
    assert not spoilt.ended


async def test_a_defect_in_the_hub_itself_is_survived(
    mine: Rig, process: Process, faulty: FaultyGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams depend on its loops: an exception that nobody foresaw ends neither."""
    tab = await process.open_tab(TOPIC)
    log = mine.quick()
    real = process.log.read
    broken = 0

    async def read(*args: Any, **more: Any) -> Any:
        nonlocal broken
        if broken == 0:
            broken += 1
            raise RuntimeError("nobody foresaw this")
        return await real(*args, **more)

    monkeypatch.setattr(process.log, "read", read)
    written = await lose(mine, faulty, TOPIC, 1)
    written += await mine.positions(log, TOPIC, 1)
    await eventually(lambda: broken == 1, "it broke")
    written += await mine.positions(log, TOPIC, 1)
    await tab.until_positions(written)


# --- many topics, few connections --------------------------------------------------------------------------


def connections(process: Process) -> int:
    """Count what this process holds open to Redis."""
    return process.live.open_connections + process.upstash.open_connections


async def test_two_hundred_topics_share_one_feed_and_every_event_comes_throughout(
    mine: Rig, process: Process, faulty: FaultyGateway
) -> None:
    """From few topics to many and back, with events flowing: at no time more than 50 connections, none missed."""
    topics = [f"t:{n}" for n in range(200)]
    log = mine.quick()
    written: dict[str, list[Position]] = {topic: [] for topic in topics}
    most = 0
    going_on = True

    async def write() -> None:
        for topic in itertools.cycle(topics):
            if not going_on:
                return
            written[topic].append((await mine.append(log, topic)).position)
            await asyncio.sleep(0.001)

    async def watch() -> None:
        nonlocal most
        while going_on:
            most = max(most, connections(process), faulty.open_feeds + process.upstash.open_connections)
            await asyncio.sleep(0.002)

    background = [asyncio.ensure_future(write()), asyncio.ensure_future(watch())]
    begun = asyncio.get_running_loop().time()
    tabs: dict[str, Tab] = {}
    for start in range(0, 200, 20):
        batch = topics[start : start + 20]
        opened = await asyncio.gather(*(process.open_tab(topic, start=EARLIEST) for topic in batch))
        tabs.update(zip(batch, opened, strict=True))
    await eventually(lambda: faulty.open_feeds == 1, "one feed carries all")
    assert faulty.feeds_opened[-1].startswith("/psubscribe/")
    for topic in topics[5:]:
        await tabs[topic].close()
    process.hub._forget_deserted(linger_s=0.0)
    await eventually(lambda: faulty.open_feeds == 5, "each topic has a feed of its own again")
    assert asyncio.get_running_loop().time() - begun < 20
    await asyncio.sleep(0.1)
    going_on = False
    await asyncio.gather(*background)
    for topic in topics[:5]:
        await tabs[topic].until_positions(written[topic])
        assert tabs[topic].gaps == []
    for topic in topics[5:]:
        got = tabs[topic].positions()
        assert got == written[topic][: len(got)]
    assert most <= 50
    assert process.hub.counters.suspected_feeds == 0


async def test_a_reconcile_of_more_topics_than_one_read_takes_brings_what_each_has_missed(
    mine: Rig, process: Process, faulty: FaultyGateway
) -> None:
    """A glance, then two hundred topics a read."""
    topics = [f"t:{n}" for n in range(700)]
    followers = [await process.follow(*topics[:350]), await process.follow(*topics[350:])]
    await eventually(lambda: faulty.open_feeds == 1, "one feed carries all")
    faulty.feed_fault = lambda _channel, _payload: []
    log = mine.quick()
    missed = [(await mine.append(log, topic)).position for topic in topics[::50]]
    before = faulty.total("read", "glance")
    await process.reconcile()
    assert [position for follower in followers for position in follower.positions] == missed
    assert faulty.total("read", "glance") - before == 1 + 4


# --- what it costs -----------------------------------------------------------------------------------------


async def test_a_delivered_event_costs_no_request(mine: Rig, process: Process, faulty: FaultyGateway) -> None:
    """Whatever the number of streams that get it."""
    tabs = [await process.open_tab(TOPIC) for _ in range(10)]
    before = faulty.total()
    written = await mine.positions(mine.quick(), TOPIC, 20)
    for tab in tabs:
        await tab.until_positions(written)
    assert faulty.total() == before


async def test_an_idle_process_asks_once_an_interval_and_an_empty_one_never(mine: Rig, faulty: FaultyGateway) -> None:
    """One request, whatever the number of topics; none when nothing is followed."""
    async with Process.running(faulty, mine.keys, reconcile_s=0.1) as process:
        await asyncio.sleep(0.3)
        assert faulty.total() == 0
        tab = await process.open_tab(*(f"t:{n}" for n in range(30)))
        await mine.positions(mine.quick(), "t:1", 1)
        await asyncio.sleep(0.3)
        before, began = faulty.total(), time.monotonic()
        await asyncio.sleep(1.0)
        intervals = (time.monotonic() - began) / 0.1
        assert 3 <= faulty.total() - before <= intervals + 1
        assert faulty.total() == faulty.total("read", "glance")
        assert len(tab.positions()) == 1


async def test_an_event_is_encoded_once_for_all_its_streams(mine: Rig, process: Process) -> None:
    """The same object, not only the same bytes."""
    followers = [await process.follow(TOPIC) for _ in range(3)]
    (position,) = await mine.positions(mine.quick(), TOPIC, 1)
    await eventually(lambda: followers[0].positions == [position], "it is there")
    assert len({id(follower.items[-1]) for follower in followers}) == 1


# --- who comes and goes ------------------------------------------------------------------------------------


async def test_a_topic_that_nobody_follows_any_more_is_let_go(
    mine: Rig, process: Process, faulty: FaultyGateway
) -> None:
    """Its feed is closed; a client that comes back opens it again and has missed nothing."""
    tab = await process.open_tab(TOPIC)
    first = await mine.positions(mine.quick(), TOPIC, 1)
    await tab.until_positions(first)
    cursor = tab.last_id
    await tab.close()
    await eventually(lambda: faulty.open_feeds == 0, "the feed is closed")
    missed = await mine.positions(mine.quick(), TOPIC, 2)
    again = await process.open_tab(TOPIC, start=cursor)
    await again.until_positions(missed)
    live = await mine.positions(mine.quick(), TOPIC, 1)
    await again.until_positions([*missed, *live])


async def test_streams_that_open_and_close_all_the_time_disturb_nobody(
    mine: Rig, process: Process, faulty: FaultyGateway
) -> None:
    """While events flow and a third of the live messages is lost, each stream has a gapless run of events."""
    faulty.feed_fault = every(3, swallow)
    log = mine.quick()
    steady = await process.open_tab(TOPIC, OTHER)
    written: list[Position] = []
    going_on = True

    async def write() -> None:
        for topic in itertools.cycle((TOPIC, OTHER)):
            if not going_on:
                return
            written.append((await mine.append(log, topic)).position)
            await asyncio.sleep(0.002)

    async def come_and_go(number: int) -> None:
        cursor: Position | None = None
        seen: list[Position] = []
        for _ in range(4):
            tab = await process.open_tab(TOPIC, OTHER, start=cursor or NOW)
            begin = cursor or tab.last_id
            await asyncio.sleep(0.01 * (number % 3 + 1))
            await tab.close()
            cursor = tab.last_id
            for topic in (TOPIC, OTHER):
                assert rises(tab.positions(topic))
            assert tab.gaps == []
            seen += [position for position in tab.positions() if position not in seen]
            # Everything up to the last id came: in this connection or in one before it.
            first = begin if not seen else min(begin, seen[0])
            assert [p for p in written if first < p <= cursor and begin < p] == sorted(
                p for p in tab.positions() if begin < p <= cursor
            )

    writer = asyncio.ensure_future(write())
    await asyncio.gather(*(come_and_go(number) for number in range(6)))
    going_on = False
    await writer
    faulty.feed_fault = None
    final = {topic: (await mine.append(log, topic)).position for topic in (TOPIC, OTHER)}
    for topic, position in final.items():
        await steady.until(lambda tab, t=topic, p=position: p in tab.positions(t), "the last event")  # type: ignore[misc]
    assert sorted(steady.positions()) == sorted([*written, *final.values()])
    for topic in (TOPIC, OTHER):
        assert rises(steady.positions(topic))


# --- all faults at once ------------------------------------------------------------------------------------

fates = st.lists(st.sampled_from(["pass", "swallow", "double", "keep", "pass", "cut"]), min_size=1, max_size=10)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    appends=st.lists(st.integers(0, 2), min_size=1, max_size=20),
    fates=fates,
    crowd=st.booleans(),
    seed=st.randoms(use_true_random=True),
)
def test_whatever_the_feed_does_each_event_comes_once_and_in_order(
    redis_server: RedisServer, world: FaultyWorld, appends: list[int], fates: list[str], *, crowd: bool, seed: Any
) -> None:
    """Messages pass, vanish, double, come later than others, connections break: after one reconcile at the latest
    every follower of a topic has had each of its events exactly once, in rising positions.
    """  # noqa: D205 - one sentence is not enough
    topics = [f"t:{n}" for n in range(3)]

    async def example(faulty: FaultyGateway) -> None:
        async with (
            rig(redis_server.url, faulty.url, faulty.token) as mine,
            Process.running(faulty, mine.keys, max_channel_feeds=1 if crowd else 32) as process,
        ):
            kept: list[str] = []
            turn = itertools.cycle(fates)

            def fault(_channel: str, payload: str) -> list[str]:
                fate = next(turn)
                if fate == "keep":
                    kept.append(payload)
                    return []
                if fate == "cut":
                    faulty.cut_feeds()
                    return []
                out = [payload] * {"pass": 1, "swallow": 0, "double": 2}[fate]
                # Only those of the same topic: the feed they come by is a topic's own.
                same = [k for k in kept if k.split('"topic":')[1] == payload.split('"topic":')[1]]
                for late in same if seed.random() < 0.5 else []:
                    kept.remove(late)
                    out.append(late)
                return out

            tabs = [await process.open_tab(*topics), *[await process.open_tab(topic) for topic in topics]]
            faulty.feed_fault = fault
            log = mine.quick()
            written: list[tuple[Position, str]] = []
            for number, which in enumerate(appends):
                written.append(((await mine.append(log, topics[which])).position, topics[which]))
                if number == len(appends) // 2:
                    tabs.append(await process.open_tab(*topics, start=EARLIEST))
            faulty.feed_fault = None
            await process.reconcile()
            for tab in tabs:
                for topic in tab.stream._order.topics:
                    wanted = [position for position, its in written if its == topic]
                    await tab.until_positions(wanted, topic)
                assert rises(tab.ids)
                assert tab.gaps == []

    with mock.patch("shared.live.LONGEST_PAUSE_S", 0.05):
        world.run(example)
