"""Erasing a topic: nothing is left of it, and nobody who missed something of it is left in the dark."""

from __future__ import annotations

import pytest

from shared.errors import LogDefectError
from shared.log import EARLIEST
from tests.support.log_rig import DAY_S, Rig, found, gaps_of, rises, since

TOPIC, OTHER = "gmail:ann@example.com", "gmail:ben@example.com"


async def test_what_a_topic_holds_is_gone_and_the_others_stay(mine: Rig) -> None:
    """It says how much there was; a second time there is nothing."""
    log = mine.log()
    await mine.positions(log, TOPIC, 3)
    kept = await mine.positions(log, OTHER, 2)
    assert await log.forget(TOPIC) == 3
    assert await log.forget(TOPIC) == 0
    reading = await log.read(since(TOPIC, OTHER, cursor=EARLIEST), limit=10)
    assert found(reading) == {TOPIC: [], OTHER: kept}
    assert gaps_of(reading) == []


async def test_an_older_cursor_is_told_of_a_gap_and_a_current_one_is_not(mine: Rig) -> None:
    """Also when new events have come since, which both get."""
    log = mine.log()
    first, _, last = await mine.positions(log, TOPIC, 3)
    await log.forget(TOPIC)
    for after, expected in ((first, [(first, last)]), (last, [])):
        reading = await mine.log().read(since(TOPIC, cursor=after), limit=10)
        assert [(gap.after, gap.resume) for gap in gaps_of(reading)] == expected
    new = (await mine.append(log, TOPIC)).position
    assert rises([last, new])
    for after, expected in ((first, [(first, last)]), (last, [])):
        reading = await mine.log().read(since(TOPIC, cursor=after), limit=10)
        assert [(gap.after, gap.resume) for gap in gaps_of(reading)] == expected
        assert found(reading) == {TOPIC: [new]}


async def test_a_new_event_follows_the_last_one_that_was_erased(mine: Rig) -> None:
    """A stream that has seen that one needs no read, and is told nothing."""
    log = mine.log()
    *_, last = await mine.positions(log, TOPIC, 3)
    await log.forget(TOPIC)
    await mine.append(log, TOPIC)
    (entry,) = await mine.stored(TOPIC)
    assert entry.prev == last


async def test_nothing_that_is_left_names_the_mailbox(mine: Rig) -> None:
    """What outlives the log does so under a hash, and for no longer than it would have."""
    log = mine.log()
    await mine.positions(log, TOPIC, 1)
    await mine.redis("EXPIRE", mine.keys.last(TOPIC), 100)
    await log.forget(TOPIC)
    assert await mine.redis("KEYS", f"tidemark:{mine.keys.stage}:*ann*") == []
    assert await mine.redis("TTL", mine.keys.last(TOPIC)) <= 100


@pytest.mark.parametrize("left", ["nothing", "an older one"])
async def test_an_append_that_broke_off_is_remembered_too(mine: Rig, left: str) -> None:
    """The log stood ahead of what tells of it."""
    log = mine.log()
    first, last = await mine.positions(log, TOPIC, 2)
    if left == "nothing":
        await mine.redis("DEL", mine.keys.last(TOPIC))
    else:
        await mine.redis("SET", mine.keys.last(TOPIC), str(first))
    await log.forget(TOPIC)
    assert await mine.position_at(mine.keys.last(TOPIC)) == last
    assert 31 * DAY_S - 5 < await mine.redis("TTL", mine.keys.last(TOPIC)) <= 31 * DAY_S


async def test_a_topic_that_never_was_leaves_no_trace(mine: Rig) -> None:
    """Anybody may ask to be forgotten."""
    assert await mine.log().forget(TOPIC) == 0
    assert await mine.redis("KEYS", f"tidemark:{mine.keys.stage}:*") == []


async def test_a_key_that_is_no_log_is_a_defect(mine: Rig) -> None:
    """It is not ours to delete."""
    await mine.redis("SET", mine.keys.log(TOPIC), "x")
    with pytest.raises(LogDefectError):
        await mine.log().forget(TOPIC)
    assert await mine.redis("GET", mine.keys.log(TOPIC)) == "x"
