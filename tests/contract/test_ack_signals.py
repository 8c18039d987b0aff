"""Acks reach the stream of their client: through the live feed, at the latest with the next reconcile."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from shared.position import Position
from shared.slot_limit import SlotLimit
from shared.slots import Claim, Slots
from tests.support.faulty_gateway import FaultyGateway
from tests.support.gateway import RedisServer
from tests.support.log_rig import Rig, rig
from tests.support.stream_rig import Process, Recorder, eventually

TOPIC, OTHER = "gmail:a@b.c", "gmail:d@e.f"


@pytest.fixture
async def mine(redis_server: RedisServer, faulty: FaultyGateway) -> AsyncIterator[Rig]:
    """Give a stage of one's own; its `quick` logs write past the faulty gateway."""
    async with rig(redis_server.url, faulty.url, faulty.token) as made:
        yield made


async def windowed(mine: Rig, process: Process, user: str, client: str, *, wants_acks: bool = True) -> Recorder:
    """Open a stream that wants to hear of its client's acks, with a slot that says so; it follows two topics."""
    recorder = Recorder(user=user, client=client, wants_acks=wants_acks)
    await process.follow(TOPIC, OTHER, recorder=recorder)
    slots = Slots(mine.upstash, mine.keys, SlotLimit(10))
    claim = Claim(user, client, recorder.connection, TOPIC, slots.asked(), ends_in_s=800, wants_acks=wants_acks)
    process.hub.took_slot(await slots.take(claim))
    return recorder


async def test_an_ack_reaches_the_stream_of_its_client_wherever_that_runs(
    mine: Rig, process: Process, faulty: FaultyGateway
) -> None:
    """And no other: not that of another client, nor of a user whose client has the same name."""
    async with Process.running(faulty, mine.keys) as elsewhere:
        ann = await windowed(mine, process, "ann", "tab")
        others = [
            await windowed(mine, elsewhere, user, client) for user, client in (("ann", "phone"), ("ben", "tab"))
        ]
        cursors = await mine.positions(mine.quick(), TOPIC, 3)
        acking = mine.log()
        for cursor in cursors:
            await acking.ack("ann", "tab", cursor)
        await eventually(lambda: ann.acks == cursors, "every ack is there")
        await acking.ack("ann", "phone", cursors[1])
        await eventually(lambda: others[0].acks == [cursors[1]], "the other's is there")
        await acking.ack("ben", "tab", cursors[2])
        await eventually(lambda: others[1].acks == [cursors[2]], "the third's is there")
        assert ann.acks == cursors
        assert process.hub.counters.reads == elsewhere.hub.counters.reads == 0


async def test_an_ack_that_moves_nothing_is_told_to_nobody(mine: Rig, process: Process) -> None:
    """Nor one whose client's stream has no window."""
    stream = await windowed(mine, process, "ann", "tab")
    await windowed(mine, process, "ann", "plain", wants_acks=False)
    first, second = await mine.positions(mine.quick(), TOPIC, 2)
    acking = mine.log()
    for client, cursor in (("plain", second), ("tab", first), ("tab", first), ("tab", second), ("tab", first)):
        await acking.ack("ann", client, cursor)
    await eventually(lambda: stream.acks == [first, second], "what has moved is told")
    assert process.hub.counters.signals == 2


async def test_an_ack_whose_signal_was_lost_comes_with_the_next_reconcile(
    mine: Rig, process: Process, faulty: FaultyGateway
) -> None:
    """To a stream that waits for it; in the one request that a reconcile is."""
    waiting = await windowed(mine, process, "ann", "tab")
    going_on = await windowed(mine, process, "ann", "phone")
    going_on.waits_for_ack = False
    never = await windowed(mine, process, "cleo", "tab")
    (cursor,) = await mine.positions(mine.quick(), TOPIC, 1)
    await process.reconcile()
    faulty.feed_fault = lambda _channel, _payload: []
    await mine.log().ack("ann", "tab", cursor)
    await mine.log().ack("ann", "phone", cursor)
    asked = faulty.total()
    await process.reconcile()
    assert (waiting.acks, going_on.acks, never.acks) == ([cursor], [], [])
    assert faulty.total() - asked == 1


async def test_more_acks_than_one_request_asks_for_come_in_several(
    mine: Rig, process: Process, faulty: FaultyGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is left out."""
    monkeypatch.setattr("shared.hub.MAX_ACKS", 2)
    streams = [await windowed(mine, process, f"user{number}", "tab") for number in range(5)]
    (cursor,) = await mine.positions(mine.quick(), TOPIC, 1)
    faulty.feed_fault = lambda _channel, _payload: []
    await asyncio.gather(*(mine.log().ack(f"user{number}", "tab", cursor) for number in range(5)))
    asked = faulty.asked["glance"]
    await process.reconcile()
    assert [stream.acks for stream in streams] == [[cursor]] * 5
    assert faulty.asked["glance"] - asked == 3


async def test_an_ack_to_a_log_that_has_forgotten_it_is_not_told(mine: Rig, process: Process) -> None:
    """A cursor beyond the clock says nothing of what the client has now."""
    stream = await windowed(mine, process, "ann", "tab")
    (clock,) = await mine.positions(mine.quick(), TOPIC, 1)
    await mine.redis("SET", mine.keys.ack("ann", "tab"), str(Position(clock.ms + 60_000, 0)))
    await process.reconcile()
    assert stream.acks == []
    # The next one is behind it, and counts all the same.
    await mine.log().ack("ann", "tab", clock)
    await eventually(lambda: stream.acks == [clock], "the ack is there")


async def test_a_stream_that_has_left_hears_nothing_more(mine: Rig, process: Process) -> None:
    """And of two streams of a client, as there are for a moment, both hear."""
    old = await windowed(mine, process, "ann", "tab")
    new = await windowed(mine, process, "ann", "tab")
    assert old.losses == ["superseded"]
    first, second = await mine.positions(mine.quick(), TOPIC, 2)
    await mine.log().ack("ann", "tab", first)
    await eventually(lambda: old.acks == new.acks == [first], "both hear")
    process.hub.leave(old, [TOPIC, OTHER])
    await mine.log().ack("ann", "tab", second)
    await eventually(lambda: new.acks == [first, second], "one hears")
    assert old.acks == [first]
    process.hub.leave(new, [TOPIC, OTHER])
    assert process.hub._audience.waiting() == []


async def test_what_an_ack_and_a_reconcile_cost(mine: Rig, process: Process) -> None:
    """In commands, as Upstash bills them: an ack that moves nothing, one that moves, one that is told; a glance."""
    first, second, third = await mine.positions(mine.quick(), TOPIC, 3)
    log = mine.log()
    await log.ack("ann", "tab", first)

    async def billed() -> int:
        stats: str = await mine.redis("INFO", "commandstats")
        calls = dict(re.findall(r"cmdstat_(\S+?):calls=(\d+)", stats))
        await mine.redis("CONFIG", "RESETSTAT")
        return sum(int(count) for name, count in calls.items() if not name.startswith(("config", "info")))

    await billed()
    await log.ack("ann", "tab", first)
    assert await billed() == 5
    await log.ack("ann", "tab", second)
    assert await billed() == 6
    await windowed(mine, process, "ann", "tab")
    await billed()
    await log.ack("ann", "tab", third)
    assert await billed() == 7
    await log.glance(revoked_after_ms=0)
    assert await billed() == 4
    await log.glance(revoked_after_ms=0, lost_after_ms=0, acks=[("user", "tab")] * 20)
    assert await billed() == 5
