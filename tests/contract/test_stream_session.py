"""One stream: what it says, in which order, when it ends; and that any id it wrote is safe to resume from."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.stream.order import ACKED
from functions.stream.session import HEARTBEAT_S
from shared.errors import LogUnavailableError
from shared.log import EARLIEST, NOW
from shared.position import ZERO, Position
from tests.support.faulty_gateway import Answer, FaultyGateway, FaultyWorld
from tests.support.gateway import RedisServer
from tests.support.log_rig import Rig, gaps_of, rig, rises, since
from tests.support.stream_rig import Clock, Process, Tab, eventually

TOPIC = "gmail:a@b.c"
OTHER = "gmail:d@e.f"


@pytest.fixture
async def mine(redis_server: RedisServer, faulty: FaultyGateway) -> AsyncIterator[Rig]:
    """Give a stage of one's own; its `quick` logs write past the faulty gateway."""
    async with rig(redis_server.url, faulty.url, faulty.token) as made:
        yield made


# --- the beginning -----------------------------------------------------------------------------------------


async def test_a_stream_begins_with_retry_and_a_hello_that_carries_its_start(mine: Rig, timed: Process) -> None:
    """The contract's first two frames, and nothing else on a quiet topic."""
    (last,) = await mine.positions(mine.quick(), OTHER, 1)
    tab = await timed.open_tab(TOPIC, OTHER, client="tab-1", life_s=840.9)
    retry, hello = tab.frames
    assert (retry.event, retry.retry_ms, retry.id) == ("retry", 2000, None)
    assert (hello.event, hello.id) == ("tidemark.hello", last)
    assert hello.data == {
        "connection": hello.data["connection"],
        "client": "tab-1",
        "topics": [TOPIC, OTHER],
        "cursor": str(last),
        "expires_in_s": 840,
        "heartbeat_s": 15,
    }
    assert hello.data["connection"].startswith("c_")


async def test_a_client_that_drops_after_the_hello_misses_nothing(mine: Rig, process: Process) -> None:
    """Whatever the word it began with."""
    log = mine.quick()
    before = await mine.positions(log, TOPIC, 3)
    for start in (NOW, EARLIEST, ACKED, before[0]):
        tab = await process.open_tab(TOPIC, OTHER, start=start)
        hello = Position.parse(tab.named("hello")[0]["cursor"])
        await tab.close()
        missed = await mine.positions(log, OTHER, 2)
        again = await process.open_tab(TOPIC, OTHER, start=hello)
        wanted = before if start in (EARLIEST, ACKED) else before[1:] if start == before[0] else []
        assert again.positions(TOPIC) == wanted
        assert again.positions(OTHER)[-2:] == missed
        assert again.gaps == []
        await again.close()


async def test_acked_begins_after_the_last_ack_of_this_client(mine: Rig, process: Process) -> None:
    """Of this one, not of another; without one it is everything held."""
    written = await mine.positions(mine.quick(), TOPIC, 4)
    await process.log.ack("user", "mine", written[1])
    await process.log.ack("user", "other", written[3])
    for client, wanted in (("mine", written[2:]), ("other", []), ("never", written)):
        tab = await process.open_tab(TOPIC, start=ACKED, client=client)
        assert tab.positions() == wanted


async def test_an_event_is_its_envelope_with_topic_and_position(mine: Rig, process: Process) -> None:
    """On one line, with its own position as id when the stream has one topic."""
    tab = await process.open_tab(TOPIC)
    (position,) = await mine.positions(mine.quick(), TOPIC, 1)
    await tab.until_positions([position])
    (event,) = tab.events()
    assert event.id == position
    assert event.data == {"id": "1", "topic": TOPIC, "position": str(position)}


async def test_a_cursor_from_a_lost_future_is_told_once_a_topic_and_ends_with_a_sound_id(
    mine: Rig, process: Process
) -> None:
    """The id leads out of the future, so that the next connection is not told again."""
    (held,) = await mine.positions(mine.quick(), TOPIC, 1)
    future = Position(held.ms + 60_000, 0)
    tab = await process.open_tab(TOPIC, OTHER, start=future)
    assert tab.named("hello")[0]["cursor"] == "0-0"
    assert sorted(topic for topic, *_ in tab.gaps) == sorted([TOPIC, OTHER])
    assert {gap[1] for gap in tab.gaps} == {future}
    await tab.until_positions([held])
    again = await process.open_tab(TOPIC, OTHER, start=tab.last_id)
    assert again.gaps == []
    empty = await process.open_tab("never used", start=future)
    assert len(empty.gaps) == 1
    assert empty.last_id == held
    assert (await process.open_tab("never used", start=empty.last_id)).gaps == []


async def test_a_stream_that_cannot_read_its_first_page_does_not_open(
    mine: Rig, process: Process, faulty: FaultyGateway
) -> None:
    """It leaves the hub, and the next one begins as if it had never been."""
    faulty.refuse = lambda name: Answer.error("LOADING") if name == "read" else None
    with pytest.raises(LogUnavailableError):
        await process.open_tab(TOPIC)
    assert process.hub._fanout.topics == {}
    await eventually(lambda: faulty.open_feeds == 0, "its feed is closed")
    faulty.refuse = lambda _name: None
    tab = await process.open_tab(TOPIC)
    written = await mine.positions(mine.quick(), TOPIC, 1)
    await tab.until_positions(written)


# --- catching up -------------------------------------------------------------------------------------------


async def test_catching_up_goes_on_page_by_page_while_new_events_arrive(
    mine: Rig, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old and new, of several topics, in one order and each once."""
    monkeypatch.setattr("functions.stream.outgoing.PAGE_LIMIT", 4)
    log = mine.quick()
    start = (await log.read({}, limit=1)).clock
    topics = [TOPIC, OTHER, "third"]
    written = [(await mine.append(log, topics[n % 3])).position for n in range(15)]
    tab = process.tab(*topics, start=start)
    opening = asyncio.ensure_future(tab.open())
    written += [(await mine.append(log, topics[n % 3])).position for n in range(15)]
    await opening
    written += [(await mine.append(log, topics[n % 3])).position for n in range(15)]
    await tab.until(lambda t: len(t.positions()) >= 45, "all events")
    assert sorted(tab.positions()) == written
    for topic in topics:
        assert rises(tab.positions(topic))
    assert rises(tab.ids)
    assert tab.gaps == []


@pytest.mark.parametrize("topics", [(TOPIC,), (TOPIC, OTHER)], ids=["one topic", "two topics"])
async def test_a_slow_reader_goes_back_to_the_log_and_misses_and_doubles_nothing(
    mine: Rig, process: Process, faulty: FaultyGateway, monkeypatch: pytest.MonkeyPatch, topics: tuple[str, ...]
) -> None:
    """Its buffer overflows several times; other streams do not notice."""
    monkeypatch.setattr("functions.stream.buffer.MAX_EVENTS", 5)
    tab, quick = await process.open_tab(*topics), await process.open_tab(*topics)
    log = mine.quick()
    written: list[Position] = []

    def has_all(reader: Tab) -> bool:
        return len(reader.positions()) >= len(written)

    for flood in (3, 30, 6, 12):
        tab.stop_reading()
        written += [(await mine.append(log, topics[n % len(topics)])).position for n in range(flood)]
        await quick.until(has_all, "the quick reader has all")
        tab.read_on()
        await tab.until(has_all, "the slow reader has all")
    for reader in (tab, quick):
        assert sorted(reader.positions()) == written
        for topic in topics:
            assert rises(reader.positions(topic))
        assert rises(reader.ids)
        assert reader.gaps == []
    assert faulty.asked["read"] >= 4


async def test_what_a_slow_reader_has_not_read_costs_no_more_than_its_buffer(
    mine: Rig, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it does not read."""
    monkeypatch.setattr("functions.stream.buffer.MAX_EVENTS", 5)
    tab, quick = await process.open_tab(TOPIC), await process.open_tab(TOPIC)
    tab.stop_reading()
    written = await mine.positions(mine.quick(), TOPIC, 40)
    await quick.until_positions(written)
    assert len(tab.stream._out.buffer) <= 5
    tab.read_on()
    await tab.until_positions(written)


async def test_errors_of_redis_while_catching_up_keep_the_stream_open_and_in_order(
    mine: Rig, process: Process, faulty: FaultyGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events that come live while the missing ones cannot be read wait for them."""
    monkeypatch.setattr("functions.stream.buffer.MAX_EVENTS", 5)
    monkeypatch.setattr("functions.stream.session._LONGEST_PAUSE_S", 0.2)
    tab, quick = await process.open_tab(TOPIC), await process.open_tab(TOPIC)
    log = mine.quick()
    written = await mine.positions(log, TOPIC, 2)
    await tab.until_positions(written)
    tab.stop_reading()
    written += await mine.positions(log, TOPIC, 20)
    await quick.until_positions(written)
    for answer in (Answer.error("LOADING"), Answer(502, b"<html>"), Answer.error("ERR max requests limit exceeded")):
        faulty.refuse = lambda name, a=answer: a if name == "read" else None  # type: ignore[misc]
        asked = faulty.asked["read"]
        tab.read_on()
        await eventually(lambda n=asked: faulty.asked["read"] >= n + 2, "it is asked")  # type: ignore[misc]
        written += await mine.positions(log, TOPIC, 1)
        await quick.until_positions(written)
        assert rises(tab.positions())
        assert tab.positions() == written[: len(tab.positions())]
        assert not tab.ended
    faulty.refuse = lambda _name: None
    await tab.until_positions(written)
    assert tab.gaps == []


async def test_live_events_during_a_read_that_fails_do_not_overtake_what_it_would_have_brought(
    mine: Rig, process: Process, faulty: FaultyGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are offered between the beginning of the read and its failure."""
    monkeypatch.setattr("functions.stream.buffer.MAX_EVENTS", 5)
    tab, quick = await process.open_tab(TOPIC), await process.open_tab(TOPIC)
    log = mine.quick()
    tab.stop_reading()
    written = await mine.positions(log, TOPIC, 12)
    await quick.until_positions(written)
    with faulty.holding("read", before=True, count=1) as held:
        tab.read_on()
        await held.until_arrived()
        written += await mine.positions(log, TOPIC, 2)
        await quick.until_positions(written)
        asked = faulty.asked["read"]
        # This try, and the client's own retry.
        faulty.refuse = lambda name: (
            Answer.error("LOADING") if name == "read" and faulty.asked["read"] <= asked + 1 else None
        )
        held.release()
        await eventually(lambda: faulty.asked["read"] > asked + 1, "both tries have failed")
    await tab.until_positions(written)
    assert rises(tab.ids)


async def test_an_event_that_comes_while_a_read_brings_nothing_is_sent_at_once(
    mine: Rig, process: Process, faulty: FaultyGateway
) -> None:
    """The read was made before it, the feed brought it during the answer: nothing else will ring for it."""
    tab = await process.open_tab(TOPIC)
    with faulty.holding("read", count=1) as held:
        tab.stream._out.fall_behind()
        tab.stream._wake()
        await held.until_arrived()
        written = await mine.positions(mine.quick(), TOPIC, 2)
        await eventually(lambda: len(tab.stream._out.buffer) == 2, "they are offered")
        held.release()
        await tab.until(lambda t: t.positions() == written, "both events", timeout_s=2)
    assert rises(tab.ids)
    assert tab.gaps == []


async def test_a_gap_that_fell_out_of_a_full_buffer_is_told_all_the_same_and_once(
    mine: Rig, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found again when the stream reads on."""
    monkeypatch.setattr("functions.stream.buffer.MAX_EVENTS", 5)
    tab, quick = await process.open_tab(TOPIC, OTHER), await process.open_tab(TOPIC, OTHER)
    log = mine.quick()
    written = await mine.positions(log, TOPIC, 2)
    await tab.until_positions(written)
    tab.stop_reading()
    await mine.positions(log, TOPIC, 2)
    await log.fence((await mine.append(log, "elsewhere")).position)
    await process.reconcile()
    await mine.positions(log, TOPIC, 12)
    await quick.until(lambda t: len(t.positions()) == 16 and len(t.gaps) == 2, "the quick reader has all")
    tab.read_on()
    await tab.until(lambda t: len(t.positions()) == 16 and len(t.gaps) == 2, "so has the slow one")
    await process.reconcile()
    (last,) = await mine.positions(log, OTHER, 1)
    await tab.until(lambda t: last in t.positions(), "the last event")
    assert sorted(topic for topic, *_ in tab.gaps) == sorted([TOPIC, OTHER])


# --- silence -----------------------------------------------------------------------------------------------


async def test_a_heartbeat_comes_after_fifteen_seconds_of_silence_and_only_then(
    mine: Rig, timed: Process, clock: Clock
) -> None:
    """An event begins them anew. Without news it carries no id."""
    tab = await timed.open_tab(TOPIC)
    clock.advance(HEARTBEAT_S - 0.1, tab)
    written = await mine.positions(mine.quick(), TOPIC, 1)
    await tab.until_positions(written)
    clock.advance(HEARTBEAT_S - 0.1, tab)
    await asyncio.sleep(0.02)
    assert tab.named("hb") == []
    clock.advance(0.2, tab)
    await tab.until(lambda t: len(t.named("hb")) == 1, "the first heartbeat")
    clock.advance(HEARTBEAT_S, tab)
    await tab.until(lambda t: len(t.named("hb")) == 2, "the second")
    beats = [frame for frame in tab.frames if frame.event == "tidemark.hb"]
    assert [(frame.id, frame.data) for frame in beats] == [(None, {}), (None, {})]


async def test_a_heartbeat_carries_the_cursor_when_that_has_moved(mine: Rig, timed: Process, clock: Clock) -> None:
    """Other topics have moved on, and a reconcile has shown that this one has nothing up to there."""
    tab, both = await timed.open_tab(TOPIC), await timed.open_tab(TOPIC, OTHER)
    begin = tab.last_id
    elsewhere = await mine.positions(mine.quick(), "elsewhere", 3)
    await timed.reconcile()
    clock.advance(HEARTBEAT_S, tab, both)
    for each in (tab, both):
        await each.until(lambda t: len(t.named("hb")) == 1, "the heartbeat")
        assert each.ids == [begin, elsewhere[-1]]
    clock.advance(HEARTBEAT_S, tab, both)
    for each in (tab, both):
        await each.until(lambda t: len(t.named("hb")) == 2, "the next heartbeat")
        assert each.ids == [begin, elsewhere[-1]]


async def test_a_heartbeat_does_not_claim_what_waits_to_be_sent_or_read(
    mine: Rig, timed: Process, clock: Clock, faulty: FaultyGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that is behind and cannot read beats on, at the cursor of what it has sent."""
    monkeypatch.setattr("functions.stream.buffer.MAX_EVENTS", 5)
    tab, quick = await timed.open_tab(TOPIC), await timed.open_tab(TOPIC)
    log = mine.quick()
    first = await mine.positions(log, TOPIC, 1)
    await tab.until_positions(first)
    tab.stop_reading()
    flood = await mine.positions(log, TOPIC, 12)
    await quick.until_positions([*first, *flood])
    await timed.reconcile()
    faulty.refuse = lambda _name: Answer.error("LOADING")
    asked = faulty.asked["read"]
    tab.read_on()
    await eventually(lambda: faulty.asked["read"] == asked + 2, "it has tried")
    await eventually(lambda: tab.stream._retry_at > 0, "and failed")
    sent = len(tab.positions())
    for beats in (1, 2):
        clock.advance(HEARTBEAT_S, tab)
        await tab.until(lambda t, n=beats: len(t.named("hb")) >= n, "a heartbeat")  # type: ignore[misc]
    assert len(tab.positions()) == sent
    assert tab.last_id == [*first, *flood][sent - 1]
    faulty.refuse = lambda _name: None
    clock.advance(60, tab)
    await tab.until_positions([*first, *flood])


# --- the end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "reconnect", "retry_ms"), [("rotate", True, None), ("token_expired", False, 3_600_000)]
)
async def test_a_stream_ends_when_its_time_is_over(
    mine: Rig, timed: Process, clock: Clock, reason: str, *, reconnect: bool, retry_ms: int | None
) -> None:
    """With a bye that says why, and nothing after it."""
    tab = await timed.open_tab(TOPIC, life_s=100, end_reason=reason)
    written = await mine.positions(mine.quick(), TOPIC, 1)
    await tab.until_positions(written)
    clock.advance(99.9, tab)
    await tab.until(lambda t: len(t.named("hb")) == 1, "it goes on")
    assert not tab.ended
    clock.advance(0.2, tab)
    await eventually(lambda: tab.ended, "it ends")
    bye = tab.frames[-1]
    assert (bye.event, bye.data) == ("tidemark.bye", {"reason": reason, "reconnect": reconnect})
    assert bye.retry_ms == retry_ms
    assert timed.hub._fanout.topics == {}


async def test_a_stream_whose_time_was_over_before_it_began_says_so_at_once(timed: Process) -> None:
    """A token that expires while the stream opens."""
    tab = await timed.open_tab(TOPIC, life_s=-5, end_reason="token_expired")
    await eventually(lambda: tab.ended, "it ends")
    assert tab.named("hello")[0]["expires_in_s"] == 0
    assert [bye["reason"] for bye in tab.named("bye")] == ["token_expired"]


async def test_the_alarm_of_a_stream_rings_by_itself(process: Process) -> None:
    """In real time, without anybody waking it."""
    began = time.monotonic()
    tab = await process.open_tab(TOPIC, life_s=0.2)
    await eventually(lambda: tab.ended, "it ends")
    assert 0.19 < time.monotonic() - began < 1.5


async def test_a_shutdown_ends_idle_and_busy_streams_with_one_bye(mine: Rig, process: Process) -> None:
    """The first reason stands."""
    idle, busy = await process.open_tab(OTHER), await process.open_tab(TOPIC)
    writing = asyncio.ensure_future(mine.positions(mine.quick(), TOPIC, 50))
    await busy.until(lambda t: len(t.positions()) > 2, "it is busy")
    for tab in (idle, busy):
        tab.stream.end("shutdown")
        tab.stream.end("revoked", reconnect=False)
    for tab in (idle, busy):
        await eventually(lambda t=tab: t.ended, "it ends")  # type: ignore[misc]
        assert tab.named("bye") == [{"reason": "shutdown", "reconnect": True}]
        assert tab.frames[-1].event == "tidemark.bye"
    written = await writing
    again = await process.open_tab(TOPIC, start=busy.last_id)
    await again.until(lambda t: written[-1] in t.positions(), "the rest")
    assert busy.positions() + again.positions() == written


# --- any id is safe ----------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 2)),
        st.tuples(st.just("append"), st.integers(0, 2)),
        st.tuples(st.just("append"), st.integers(0, 2)),
        st.tuples(st.just("reconcile"), st.just(0)),
        st.tuples(st.just("stop reading"), st.integers(0, 3)),
        st.tuples(st.just("read on"), st.integers(0, 3)),
        st.tuples(st.just("trim"), st.integers(0, 2)),
        st.tuples(st.just("fence"), st.just(0)),
        st.tuples(st.just("copy"), st.just(0)),
        st.tuples(st.just("restore"), st.just(0)),
        st.tuples(st.just("open"), st.integers(0, 5)),
        st.tuples(st.just("log away"), st.just(0)),
        st.tuples(st.just("log back"), st.just(0)),
        st.tuples(st.just("breathe"), st.just(0)),
    ),
    max_size=30,
)
FATES = st.lists(st.sampled_from(["pass", "pass", "swallow", "double", "keep", "cut"]), min_size=1, max_size=8)


class Trial:
    """Carries out random steps and remembers what was written."""

    TOPICS = ("t:0", "t:1", "t:2")

    def __init__(self, mine: Rig, process: Process, faulty: FaultyGateway, fates: list[str]) -> None:
        self.mine = mine
        self.process = process
        self.faulty = faulty
        self.written: list[tuple[Position, str]] = []
        self.tabs: list[Tab] = []
        self._log = mine.quick()
        self._fates = itertools.cycle(fates)
        self._kept: dict[str, list[str]] = {}
        self._copy: dict[str, bytes] = {}

    def fault(self, channel: str, payload: str) -> list[str]:
        """Decide what becomes of one live message."""
        fate = next(self._fates)
        if fate == "keep":
            self._kept.setdefault(channel, []).append(payload)
            return []
        if fate == "cut":
            self.faulty.cut_feeds()
            return []
        late = self._kept.pop(channel, [])
        return [payload] * {"pass": 1, "swallow": 0, "double": 2}[fate] + late

    async def take(self, step: str, which: int) -> None:  # noqa: C901 - one branch a step
        """Carry out one step."""
        if step == "append":
            position = (await self.mine.append(self._log, self.TOPICS[which])).position
            self.written.append((position, self.TOPICS[which]))
        elif step == "reconcile":
            await self.process.reconcile()
        elif step in ("stop reading", "read on") and which < len(self.tabs):
            (self.tabs[which].stop_reading if step == "stop reading" else self.tabs[which].read_on)()
        elif step == "trim":
            await self.mine.redis("XTRIM", self.mine.keys.log(self.TOPICS[which]), "MAXLEN", 1)
        elif step == "fence":
            await self._log.fence((await self._log.read({}, limit=1)).clock)
        elif step == "open" and self.faulty.refuse("read") is None:
            ids = [each for tab in self.tabs for each in tab.ids]
            start = ids[which % len(ids)] if which else EARLIEST
            self.tabs.append(await self.process.open_tab(*self.TOPICS[: 1 + which % 3], start=start))
        elif step == "copy":
            self._copy = await self.mine.snapshot()
        elif step == "restore":
            await self.mine.restore(self._copy)
        elif step == "log away":
            self.faulty.refuse = lambda _name: Answer.error("LOADING")
        elif step == "log back":
            self.faulty.refuse = lambda _name: None
        elif step == "breathe":
            await asyncio.sleep(0.003)

    async def settle(self) -> None:
        """Let all faults end, and every tab catch up."""
        self.faulty.feed_fault = None
        self.faulty.refuse = lambda _name: None
        for tab in self.tabs:
            tab.read_on()
        for topic in self.TOPICS:
            await self.take("append", self.TOPICS.index(topic))
        await self.process.reconcile()
        for tab in self.tabs:
            await tab.until(self._has_the_last, "the last event of each topic")

    def _has_the_last(self, tab: Tab) -> bool:
        last = {topic: position for position, topic in self.written}
        return all(last[topic] in tab.positions(topic) for topic in tab.stream._order.topics)

    async def check(self, tab: Tab) -> None:
        """Hold a tab to the contract: order, no doubles, and every id safe."""
        topics = tab.stream._order.topics
        start = tab.stream._order.start
        begin = start if isinstance(start, Position) else tab.ids[0]
        assert rises(tab.ids)
        for topic in topics:
            assert rises(tab.positions(topic))
        # What was delivered, and up to where loss was told, when each id was written.
        delivered: set[Position] = set()
        told = dict.fromkeys(topics, ZERO)
        for frame in tab.frames:
            if frame.event == "message":
                delivered.add(Position.parse(frame.data["position"]))
            elif frame.event == "tidemark.gap":
                resume = Position.parse(frame.data["resume"])
                told[frame.data["topic"]] = max(told[frame.data["topic"]], resume)
            if frame.id is None:
                continue
            doubtful = {
                topic
                for position, topic in self.written
                if topic in topics and begin < position <= frame.id
                if position not in delivered and position > told[topic]
            }
            # Not told yet; then whoever resumes here must be told.
            if doubtful:
                reading = await self.mine.quick().read(since(*doubtful, cursor=frame.id), limit=500)
                assert {gap.topic for gap in gaps_of(reading)} == doubtful
        for position, topic in self.written:
            assert topic not in topics or position <= begin or position in delivered or position <= told[topic]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, fates=FATES, crowd=st.booleans())
def test_whoever_resumes_from_any_id_that_was_written_loses_nothing(
    redis_server: RedisServer, world: FaultyWorld, steps: list[tuple[str, int]], fates: list[str], *, crowd: bool
) -> None:
    """Streams of one topic and of several, slow ones and resumed ones, while the feed lies, the log comes and goes,
    old events are trimmed, fences fall and the log is replaced by an older copy of itself or by nothing: ids never
    go back, and what is not after an id was sent or told.
    """  # noqa: D205 - one sentence is not enough

    async def example(faulty: FaultyGateway) -> None:
        async with (
            rig(redis_server.url, faulty.url, faulty.token) as mine,
            Process.running(faulty, mine.keys, max_channel_feeds=1 if crowd else 32) as process,
        ):
            trial = Trial(mine, process, faulty, fates)
            for topics in (trial.TOPICS, trial.TOPICS[:1]):
                trial.tabs.append(await process.open_tab(*topics))
            faulty.feed_fault = trial.fault
            for step, which in steps:
                await trial.take(step, which)
            await trial.settle()
            for tab in trial.tabs:
                await trial.check(tab)

    patches: dict[str, Any] = {
        "functions.stream.buffer.MAX_EVENTS": 4,
        "functions.stream.outgoing.PAGE_LIMIT": 3,
        "functions.stream.session._FIRST_PAUSE_S": 0.01,
        "functions.stream.session._LONGEST_PAUSE_S": 0.05,
        "shared.hub._FIRST_PAUSE_S": 0.01,
        "shared.hub._LONGEST_PAUSE_S": 0.05,
        "shared.hub._READ_LIMIT": 6,
        "shared.fanout._MAX_PENDING": 4,
        "shared.live.LONGEST_PAUSE_S": 0.05,
    }
    with contextlib.ExitStack() as stack:
        for name, value in patches.items():
            stack.enter_context(mock.patch(name, value))
        world.run(example)
