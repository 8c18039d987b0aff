"""A stream goes as fast as its client wants, and no faster than it reads: rate, window, buffer, end of patience."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator

import pytest

from functions.stream import session
from functions.stream.buffer import MOST_BYTES, MOST_EVENTS
from shared.log import EARLIEST, Log
from shared.position import Position
from tests.support.faulty_gateway import FaultyGateway
from tests.support.gateway import RedisServer
from tests.support.log_rig import SUBSCRIPTION, Rig, rig, rises
from tests.support.stream_rig import Clock, Process, Tab, eventually

TOPIC = "gmail:a@b.c"
OTHER = "gmail:d@e.f"


@pytest.fixture
async def mine(redis_server: RedisServer, faulty: FaultyGateway) -> AsyncIterator[Rig]:
    """Give a stage of one's own."""
    async with rig(redis_server.url, faulty.url, faulty.token) as made:
        yield made


_numbers = itertools.count()


async def append_low(log: Log, topic: str, key: str) -> Position:
    """Append an event of low priority."""
    envelope = {"id": "1", "source": "s", "topic": topic, "priority": "low", "key": key}
    message_id = f"low-{next(_numbers)}"
    appended = await log.append(
        topic=topic,
        envelope=json.dumps(envelope, separators=(",", ":")),
        subscription=SUBSCRIPTION,
        message_id=message_id,
    )
    return appended.position


async def quiet(other: Tab, mine: Rig) -> None:
    """Return when the hub has handed out all that was appended so far, and both streams have had their turn."""
    (last,) = await mine.positions(mine.quick(), "marker", 1)
    await other.until(lambda t: last in t.positions("marker"), "the marker")


# --- max_rate ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("live", [True, False], ids=["live", "from the log"])
async def test_max_rate_paces_what_is_live_and_what_is_caught_up(
    mine: Rig, timed: Process, clock: Clock, *, live: bool
) -> None:
    """Ten a second: as many come as time has passed for, none too many, and in the end all."""
    log = mine.quick()
    written = [] if live else await mine.positions(log, TOPIC, 25)
    tab = await timed.open_tab(TOPIC, start=EARLIEST, max_rate=10)
    if live:
        quick = await timed.open_tab(TOPIC)
        written = await mine.positions(log, TOPIC, 25)
        await quick.until_positions(written)
    for sent in range(1, 26):
        await tab.until(lambda t, sent=sent: len(t.positions()) >= sent, f"{sent} events")  # type: ignore[misc]
        assert tab.positions() == written[:sent]
        clock.advance(0.1, tab)
    assert rises(tab.ids)
    assert tab.gaps == []


# --- window ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("live", [True, False], ids=["live", "from the log"])
async def test_with_a_window_no_more_is_sent_than_was_acknowledged_and_the_window_again(
    mine: Rig, process: Process, *, live: bool
) -> None:
    log = mine.quick()
    written = [] if live else await mine.positions(log, TOPIC, 25)
    tab, other = await process.open_tab(TOPIC, start=EARLIEST, window=4), await process.open_tab(TOPIC, "marker")
    if live:
        written = await mine.positions(log, TOPIC, 25)
    sent = 0
    for acked in (0, 1, 4, 7, 11, 15, 19, 23, 25):
        if acked:
            tab.stream.acked(written[acked - 1])
        sent = min(25, acked + 4)
        await tab.until(lambda t, sent=sent: len(t.positions()) >= sent, f"{sent} events")  # type: ignore[misc]
        await quiet(other, mine)
        assert tab.positions() == written[:sent]
        assert tab.stream.waits_for_ack == (sent - acked == 4)
    assert tab.stream.wants_acks
    assert not other.stream.wants_acks


async def test_a_used_up_window_over_several_topics_is_given_a_cursor_to_acknowledge_at_once(
    mine: Rig, process: Process, faulty: FaultyGateway
) -> None:
    """Live events of one topic prove nothing about the other: the log is asked, once."""
    tab, other = await process.open_tab(TOPIC, OTHER, window=3), await process.open_tab(TOPIC, "marker")
    log = mine.quick()
    asked = faulty.asked["read"]
    written = await mine.positions(log, TOPIC, 8)
    for sent in (3, 6, 8):
        await tab.until(lambda t, sent=sent: len(t.positions()) >= sent, f"{sent} events")  # type: ignore[misc]
        if sent < 8:
            await tab.until(lambda t, sent=sent: t.last_id >= written[sent - 1], "a cursor")  # type: ignore[misc]
        await quiet(other, mine)
        assert tab.positions() == written[:sent]
        assert tab.last_id < written[sent] if sent < 8 else tab.last_id <= written[-1]
        tab.stream.acked(tab.last_id)
    assert rises(tab.ids)
    assert faulty.asked["read"] - asked <= 4


async def test_a_window_of_one_over_topics_that_overtake_each_other_is_never_stuck(
    mine: Rig, process: Process
) -> None:
    """Every event comes as long as the client acknowledges the ids that it is told."""
    topics = (TOPIC, OTHER, "gmail:g@h.i")
    tab = await process.open_tab(*topics, window=1)
    log = mine.quick()
    written = [(await mine.append(log, topics[n % 3])).position for n in range(12)]

    def acknowledging(t: Tab) -> bool:
        t.stream.acked(t.last_id)
        return len(t.positions()) == 12

    await tab.until(acknowledging, "all events")
    assert sorted(tab.positions()) == written
    assert rises(tab.ids)


async def test_a_log_that_has_forgotten_what_was_sent_is_not_asked_for_a_cursor_again_and_again(
    mine: Rig, process: Process, faulty: FaultyGateway
) -> None:
    """After a failover its clock may lie below everything that the client was sent."""
    tab = await process.open_tab(TOPIC, OTHER, window=2)
    log = mine.quick()
    before = await mine.snapshot()
    with faulty.holding("read", count=1) as held:
        await mine.positions(log, TOPIC, 2)
        await tab.until(lambda t: len(t.positions()) == 2, "both events")
        await held.until_arrived()
        await mine.restore(before)
        held.release()
        await eventually(lambda: not tab.stream._out.behind, "it has read")
    asked = faulty.asked["read"]
    tab.stream._wake()
    await tab.stream._log.read({}, limit=1)
    assert faulty.asked["read"] - asked <= 2


# --- a client that reads slowly, or not at all -------------------------------------------------------------


async def test_low_priority_gives_way_to_its_newest_state_and_the_client_is_told_how_often(
    mine: Rig, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else is left out, and the log is not asked."""
    monkeypatch.setattr("functions.stream.buffer.MAX_EVENTS", 6)
    tab, quick = await process.open_tab(TOPIC), await process.open_tab(TOPIC)
    log = mine.quick()
    tab.stop_reading()
    usual = await mine.positions(log, TOPIC, 1)
    await quick.until_positions(usual)  # in the server's hands
    low = [await append_low(log, TOPIC, "unread") for _ in range(20)]
    usual += await mine.positions(log, TOPIC, 3)
    await quick.until_positions([usual[0], *low, *usual[1:]])
    tab.read_on()
    await tab.until(lambda t: usual[-1] in t.positions(), "the last event")
    kept = [position for position in tab.positions() if position in low]
    assert kept[-1] == low[-1]
    assert [position for position in tab.positions() if position in usual] == usual
    await tab.until(lambda t: bool(t.named("hb")), "it is told")
    assert tab.named("hb") == [{"coalesced": 20 - len(kept)}]
    assert len(kept) < 6
    assert process.counts["events_coalesced"] == 20 - len(kept)
    assert process.counts[MOST_EVENTS] <= 6
    assert rises(tab.ids)
    assert tab.gaps == []


async def test_who_takes_nothing_for_half_a_minute_is_told_goodbye_and_resumes_without_a_loss(
    mine: Rig, timed: Process, clock: Clock
) -> None:
    tab, quick = await timed.open_tab(TOPIC), await timed.open_tab(TOPIC)
    tab.stop_reading()
    log = mine.quick()
    written = await mine.positions(log, TOPIC, 600)
    await quick.until_positions(written)
    for _ in range(6):
        clock.advance(session.LOOK_S, tab, quick)
        await quick.until(lambda t: not t.ended, "it has its turn")
    await eventually(lambda: tab.ended, "its patience is over")
    tab.read_on()
    assert tab.named("bye") == [{"reason": "slow_consumer", "reconnect": True}]
    assert timed.counts["slow_consumers"] == 1
    assert not quick.ended
    again = await timed.open_tab(TOPIC, start=tab.last_id)
    await again.until(lambda t: written[-1] in t.positions(), "the rest")
    assert tab.positions() + again.positions() == written
    assert again.gaps == []


async def test_who_takes_a_little_now_and_then_is_slow_but_no_lost_case(
    mine: Rig, timed: Process, clock: Clock
) -> None:
    """Progress counts, not speed."""
    tab, quick = await timed.open_tab(TOPIC), await timed.open_tab(TOPIC)
    tab.stop_reading()
    (first,) = await mine.positions(mine.quick(), TOPIC, 1)
    await quick.until_positions([first])
    frames = tab._unsent
    tab._unsent = frames + b": a long frame that is under way for minutes\n\n"
    await eventually(lambda: tab.stream._waiter is not None, "it waits")
    for _ in range(12):
        clock.advance(10.0, tab, quick)
        tab._unsent = tab._unsent[1:]
        await quick.until(lambda t: not t.ended, "it has its turn")
    assert not tab.ended
    assert timed.counts["slow_consumers"] == 0


async def test_a_stream_that_cannot_write_still_ends_when_it_has_to(mine: Rig, process: Process) -> None:
    """Revoked or superseded, it does not hold out until its client reads."""
    tab, quick = await process.open_tab(TOPIC), await process.open_tab(TOPIC)
    tab.stop_reading()
    await quick.until_positions(await mine.positions(mine.quick(), TOPIC, 3))
    tab.stream.slot_lost("superseded")
    await eventually(lambda: tab.ended, "it ends")
    tab.read_on()
    assert tab.named("bye") == [{"reason": "superseded", "reconnect": False}]
    assert tab.frames[-1].retry_ms == 3_600_000


async def test_a_goodbye_that_uses_up_the_room_is_let_through_and_so_is_the_end_of_the_body(process: Process) -> None:
    """Of a client that reads no more, though its stream did not know yet."""
    tab = await process.open_tab(TOPIC)
    tab.stop_reading()
    tab.stream.end("rotate")
    await eventually(lambda: tab.ended, "it ends")
    assert tab.unsent > 0
    assert not tab.paused


async def test_a_socket_slower_than_its_topic_is_served_from_the_log_in_pages_of_what_it_takes(
    mine: Rig, timed: Process, clock: Clock, faulty: FaultyGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It neither swings between the two nor reads again and again what it cannot pass on."""
    monkeypatch.setattr("functions.stream.buffer.MAX_EVENTS", 50)
    tab, quick = await timed.open_tab(TOPIC), await timed.open_tab(TOPIC)
    log = mine.quick()
    tab.stop_reading()
    written: list[Position] = []
    asked = 0
    for second in range(10):
        written += await mine.positions(log, TOPIC, 100)
        await quick.until_positions(written)
        if second == 1:
            asked = faulty.asked["read"]
        # Some 30 events a second.
        for _ in range(10):
            clock.advance(0.1, tab)
            tab.read_some(300)
            await quick.until(lambda t: not t.ended, "it has its turn")
    took = len(tab.positions())
    assert 100 < took < 700
    assert faulty.asked["read"] - asked <= took / 10
    assert timed.counts[MOST_EVENTS] <= 50
    assert timed.counts[MOST_BYTES] <= 262_144
    tab.read_on()
    await tab.until_positions(written)
    assert rises(tab.ids)
    assert tab.gaps == []
