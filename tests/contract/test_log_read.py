"""Reading: everything held after a cursor, each event once, and a gap wherever something may be missing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.entry import Entry, Gap, Reading, merge
from shared.errors import LogDefectError
from shared.log import EARLIEST, MAX_READ_TOPICS, NOW, From, Log
from shared.position import ZERO, Position
from shared.retention import Retention
from tests.support.gateway import GatewayProcess, GatewayThread, RedisServer
from tests.support.log_rig import DAY_S, DirectUpstash, Redis, Rig, found, gaps_of, rig, rises, since

TOPIC = "gmail:a@b.c"
OTHER = "gmail:d@e.f"
BASE_MS = 1_800_000_000_000
DAY_MS = DAY_S * 1000


@pytest.fixture
async def wipeable(own_redis: RedisServer, own_gateway: GatewayThread) -> AsyncIterator[Rig]:
    """Give a stage in the Redis that may be wiped."""
    async with rig(own_redis.url, own_gateway.url, own_gateway.token) as made:
        yield made


async def wipe(wipeable: Rig, *, after: Position) -> None:
    """Forget everything, in a later millisecond than a position: within the same one nobody could tell."""
    await wipeable.redis("FLUSHALL")
    time_ms = 0
    while time_ms <= after.ms:
        seconds, microseconds = await wipeable.redis("TIME")
        time_ms = 1000 * int(seconds) + int(microseconds) // 1000


@dataclass
class Told:
    """What a client of GET /replay has been told, page after page."""

    entries: list[Entry] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    cursors: list[Position] = field(default_factory=list)
    gaps_by_page: list[int] = field(default_factory=list)
    """How many gaps had been told when a page ended."""

    def of(self, topic: str) -> list[Position]:
        return [entry.position for entry in self.entries if entry.topic == topic]

    def gaps_of(self, topic: str) -> list[Gap]:
        return [gap for gap in self.gaps if gap.topic == topic]


async def follow_pages(log: Log, topics: list[str], cursor: Position | str, *, limit: int) -> Told:
    """Page as GET /replay does: one cursor for all topics, the one that the page before has returned."""
    told = Told()
    for _ in range(2000):
        page = merge(await log.read(since(*topics, cursor=cursor), limit=limit), limit)
        assert len(page.entries) <= limit
        assert all(entry.position <= page.cursor for entry in page.entries)
        assert rises(
            [*([cursor] if isinstance(cursor, Position) and not page.gaps else []), *positions(page.entries)]
        )
        told.entries += page.entries
        told.gaps += page.gaps
        told.gaps_by_page.append(len(told.gaps))
        told.cursors.append(page.cursor)
        if not page.more:
            return told
        cursor = page.cursor
    raise AssertionError("the pages do not end")


def positions(entries: tuple[Entry, ...] | list[Entry]) -> list[Position]:
    return [entry.position for entry in entries]


# --- where a read begins -----------------------------------------------------------------------------------


async def test_a_new_log_is_empty_and_nobody_has_missed_anything(mine: Rig) -> None:
    """The first read makes clock and born; `now` and `earliest` begin there."""
    reading = await mine.log().read({TOPIC: From(NOW), OTHER: From(EARLIEST)}, limit=10)
    assert gaps_of(reading) == []
    assert found(reading) == {TOPIC: [], OTHER: []}
    assert reading.clock == reading.born == await mine.position_at(mine.keys.clock)
    assert {topic.start for topic in reading.topics} == {reading.clock}
    assert {topic.end for topic in reading.topics} == {reading.clock}


async def test_now_begins_at_the_clock_and_misses_nothing_that_follows(mine: Rig) -> None:
    """Whatever the topic holds, and whatever other topics are doing."""
    log = mine.log()
    await mine.positions(log, TOPIC, 3)
    (last,) = await mine.positions(log, OTHER, 1)
    reading = await mine.log().read(since(TOPIC, "quiet", cursor=NOW), limit=10)
    assert [topic.start for topic in reading.topics] == [last, last]
    assert found(reading) == {TOPIC: [], "quiet": []}
    after = await mine.positions(log, TOPIC, 2)
    again = await mine.log().read(since(TOPIC, "quiet", cursor=last), limit=10)
    assert found(again) == {TOPIC: after, "quiet": []}
    assert gaps_of(again) == []


async def test_earliest_is_everything_held_and_no_gap_however_much_was_trimmed(mine: Rig) -> None:
    """Its start is what stands before the first event held, so a client that drops at once loses nothing."""
    log = mine.log(retention=Retention(keep_s=DAY_S, topic_max_events=2, dedupe_s=DAY_S))
    trimmed = await mine.positions(log, TOPIC, 5)
    (whole,) = await mine.positions(log, OTHER, 1)
    reading = await mine.log().read(since(TOPIC, OTHER, "never used", cursor=EARLIEST), limit=10)
    assert gaps_of(reading) == []
    assert found(reading) == {TOPIC: trimmed[-2:], OTHER: [whole], "never used": []}
    starts = {topic.topic: topic.start for topic in reading.topics}
    assert starts == {TOPIC: trimmed[2], OTHER: reading.born, "never used": whole}
    again = await mine.log().read(since(TOPIC, cursor=starts[TOPIC]), limit=10)
    assert found(again) == {TOPIC: trimmed[-2:]}
    assert gaps_of(again) == []


async def test_a_read_is_one_http_request(mine: Rig, gateway: GatewayProcess) -> None:
    """Whatever the number of topics."""
    log = mine.log()
    before = gateway.stats()["requests"]["command"]
    await log.read(since(*(f"t:{n}" for n in range(100)), cursor=NOW), limit=100)
    assert gateway.stats()["requests"]["command"] - before == 1


# --- what is a gap, and what is none -----------------------------------------------------------------------


async def test_a_cursor_at_the_last_event_trimmed_misses_nothing(mine: Rig) -> None:
    """One below it does, and is told up to where."""
    log = mine.log(retention=Retention(keep_s=DAY_S, topic_max_events=3, dedupe_s=DAY_S))
    all_of_them = await mine.positions(log, TOPIC, 6)
    for at, cursor in enumerate(all_of_them):
        reading = await log.read(since(TOPIC, cursor=cursor), limit=10)
        assert found(reading)[TOPIC] == all_of_them[max(3, at + 1) :]
        if at < 2:
            (gap,) = gaps_of(reading)
            assert (gap.topic, gap.after, gap.resume) == (TOPIC, cursor, all_of_them[2])
        else:
            assert gaps_of(reading) == []


async def test_what_age_has_trimmed_is_a_gap(mine: Rig) -> None:
    """Once, up to the last event that went."""
    retention = Retention(keep_s=100, topic_max_events=1000, dedupe_s=DAY_S)
    old = [(await mine.append(mine.log(now_ms=BASE_MS + n, retention=retention), TOPIC)).position for n in range(3)]
    new = (await mine.append(mine.log(now_ms=BASE_MS + 101_000, retention=retention), TOPIC)).position
    log = mine.log(now_ms=BASE_MS + 101_000, retention=retention)
    told = await follow_pages(log, [TOPIC, OTHER], old[0], limit=1)
    assert [(gap.topic, gap.after, gap.resume) for gap in told.gaps] == [(TOPIC, old[0], old[2])]
    assert told.of(TOPIC) == [new]
    assert (await follow_pages(log, [TOPIC, OTHER], old[2], limit=1)).gaps == []


async def test_a_log_that_has_expired_whole_is_a_gap_up_to_its_last_event(mine: Rig) -> None:
    """Told once; a cursor at or above the last event is told nothing."""
    log = mine.log()
    gone = await mine.positions(log, TOPIC, 3)
    (other,) = await mine.positions(log, OTHER, 1)
    await mine.redis.gone(mine.keys.log(TOPIC))
    told = await follow_pages(log, [TOPIC, OTHER], gone[0], limit=1)
    assert [(gap.topic, gap.after, gap.resume) for gap in told.gaps] == [(TOPIC, gone[0], gone[2])]
    assert positions(told.entries) == [other]
    assert (await follow_pages(log, [TOPIC, OTHER], gone[2], limit=1)).gaps == []
    assert (await follow_pages(log, [TOPIC], EARLIEST, limit=1)).gaps == []


@pytest.mark.parametrize("quiet_days", [0.5, 1.5, 29, 30.9])
async def test_a_topic_that_was_merely_quiet_is_no_gap(mine: Rig, quiet_days: float) -> None:
    """Also when its log has expired meanwhile: nothing stood after the cursor."""
    start = await mine.positions(mine.log(now_ms=BASE_MS), TOPIC, 3)
    now_ms = BASE_MS + int(quiet_days * DAY_MS)
    if quiet_days > 1:
        await mine.redis.gone(mine.keys.log(TOPIC))
    (busy,) = await mine.positions(mine.log(now_ms=now_ms), OTHER, 1)
    for cursor in (start[-1], Position(start[-1].ms, start[-1].seq + 3)):
        reading = await mine.log(now_ms=now_ms).read(since(TOPIC, OTHER, "never used", cursor=cursor), limit=10)
        assert gaps_of(reading) == []
        assert found(reading) == {TOPIC: [], OTHER: [busy], "never used": []}
    (after,) = await mine.positions(mine.log(now_ms=now_ms), TOPIC, 1)
    reading = await mine.log(now_ms=now_ms).read(since(TOPIC, cursor=start[-1]), limit=10)
    assert (gaps_of(reading), found(reading)) == ([], {TOPIC: [after]})


async def test_a_cursor_older_than_retention_and_thirty_days_is_a_gap_by_rule(mine: Rig) -> None:
    """Nothing remembers so long what a topic held: one gap a topic, then what is held."""
    start = await mine.positions(mine.log(now_ms=BASE_MS), TOPIC, 2)
    now_ms = BASE_MS + 31 * DAY_MS + 2
    await mine.redis.gone(mine.keys.log(TOPIC))
    await mine.redis.gone(mine.keys.last(TOPIC))
    held = await mine.positions(mine.log(now_ms=now_ms), OTHER, 3)
    log = mine.log(now_ms=now_ms)
    told = await follow_pages(log, [TOPIC, OTHER, "never used"], start[0], limit=1)
    assert sorted(gap.topic for gap in told.gaps) == sorted([TOPIC, OTHER, "never used"])
    assert {gap.after for gap in told.gaps} == {start[0]}
    assert told.of(OTHER) == held
    young = Position(BASE_MS + 3, 0)
    assert (await follow_pages(log, [TOPIC, OTHER, "never used"], young, limit=1)).gaps == []


async def test_a_deployment_that_was_idle_for_months_has_lost_nothing(mine: Rig) -> None:
    """A cursor at the clock is complete however old it is: nothing was given out since. One below it is too old."""
    start = await mine.positions(mine.log(now_ms=BASE_MS), TOPIC, 2)
    log = mine.log(now_ms=BASE_MS + 90 * DAY_MS)
    hello = (await log.read(since(TOPIC, OTHER, cursor=NOW), limit=10)).topics[0].start
    assert hello == start[-1]
    assert gaps_of(await log.read(since(TOPIC, OTHER, cursor=hello), limit=10)) == []
    assert len(gaps_of(await log.read(since(TOPIC, OTHER, cursor=start[0]), limit=10))) == 2


async def test_a_cursor_from_a_lost_future_is_one_gap_a_topic_and_then_everything_held(mine: Rig) -> None:
    """And who leaves before the gap was told is told again: its start lies below everything."""
    log = mine.log()
    held = await mine.positions(log, TOPIC, 3)
    (other,) = await mine.positions(log, OTHER, 1)
    future = Position(other.ms + 60_000, 0)
    reading = await log.read(since(TOPIC, OTHER, "quiet", cursor=future), limit=10)
    assert {topic.start for topic in reading.topics} == {ZERO}
    told = await follow_pages(log, [TOPIC, OTHER, "quiet"], future, limit=1)
    assert sorted(gap.topic for gap in told.gaps) == sorted([TOPIC, OTHER, "quiet"])
    assert positions(told.entries) == [*held, other]
    assert told.cursors[-1] == other
    assert (await follow_pages(log, [TOPIC, OTHER, "quiet"], other, limit=1)).gaps == []


async def test_zero_lies_below_every_horizon(mine: Rig) -> None:
    """A client that resumes there is always told."""
    log = mine.log()
    held = await mine.positions(log, TOPIC, 2)
    told = await follow_pages(log, [TOPIC, "quiet"], ZERO, limit=500)
    assert sorted(gap.topic for gap in told.gaps) == [TOPIC, "quiet"]
    assert told.of(TOPIC) == held


@pytest.mark.parametrize("noticed_by", ["a process that has seen it", "a new process"])
@pytest.mark.parametrize("first", ["read", "append"])
async def test_a_wiped_log_is_one_gap_a_topic_for_every_older_cursor(
    wipeable: Rig, noticed_by: str, first: str
) -> None:
    """Whoever comes first after the wipe; and what was appended after it is held and follows."""
    log = wipeable.log()
    before = [*await wipeable.positions(log, TOPIC, 2), *await wipeable.positions(log, OTHER, 1)]
    await wipe(wipeable, after=before[-1])
    if noticed_by == "a new process":
        log = wipeable.log()
    if first == "read":
        await log.read({}, limit=1)
    after = await wipeable.positions(log, TOPIC, 2)
    for cursor in before:
        told = await follow_pages(wipeable.log(), [TOPIC, OTHER, "quiet"], cursor, limit=500)
        assert sorted(gap.topic for gap in told.gaps) == sorted([TOPIC, OTHER, "quiet"])
        assert {gap.after for gap in told.gaps} == {cursor}
        assert told.of(TOPIC) == after
    for cursor in after:
        assert (await follow_pages(wipeable.log(), [TOPIC, OTHER, "quiet"], cursor, limit=500)).gaps == []


async def test_a_reader_that_was_told_of_a_new_beginning_is_not_told_again(wipeable: Rig) -> None:
    """It reads on below `born` without a second gap; news of another beginning reach it."""
    log = wipeable.log()
    (cursor,) = await wipeable.positions(log, TOPIC, 1)
    held = await wipeable.positions(log, TOPIC, 3)
    await log.fence((await wipeable.append(log, OTHER)).position)
    (gap,) = gaps_of(await log.read(since(TOPIC, cursor=cursor), limit=1))
    first = await log.read({TOPIC: From(held[0], gap.born)}, limit=1)
    assert (gaps_of(first), found(first)) == ([], {TOPIC: [held[1]]})
    (after,) = await wipeable.positions(log, TOPIC, 1)
    rest = await log.read({TOPIC: From(held[1], gap.born)}, limit=10)
    assert (gaps_of(rest), found(rest)) == ([], {TOPIC: [held[2], after]})
    await wipeable.redis("FLUSHALL")
    assert len(gaps_of(await log.read({TOPIC: From(held[2], gap.born)}, limit=10))) == 1


async def test_a_reader_that_was_told_is_not_told_again_when_the_rest_expires_meanwhile(mine: Rig) -> None:
    """What it has not read yet lies below the beginning that it was told of. What came after is another matter."""
    log = mine.log()
    (cursor,) = await mine.positions(log, TOPIC, 1)
    held = await mine.positions(log, TOPIC, 2)
    await log.fence((await mine.append(log, OTHER)).position)
    (gap,) = gaps_of(await log.read(since(TOPIC, cursor=cursor), limit=1))
    await mine.redis.gone(mine.keys.log(TOPIC))
    assert gaps_of(await log.read({TOPIC: From(held[0], gap.born)}, limit=10)) == []
    (later,) = await mine.positions(log, TOPIC, 1)
    await mine.redis.gone(mine.keys.log(TOPIC))
    (again,) = gaps_of(await log.read({TOPIC: From(held[0], gap.born)}, limit=10))
    assert again.resume == later


# --- limits ------------------------------------------------------------------------------------------------


async def test_a_read_is_bounded_in_bytes(mine: Rig) -> None:
    """Ten events of 300 kB do not come at once, but page by page they all come."""
    quick = mine.quick()
    large = [(await mine.append(quick, TOPIC, size=300_000)).position for _ in range(10)]
    small = [(await mine.append(quick, OTHER)).position]
    log = mine.log()
    reading = await log.read(since(TOPIC, OTHER, cursor=reading_start(large)), limit=500)
    assert sum(len(entry.envelope) for topic in reading.topics for entry in topic.entries) < 1_400_000
    assert reading.topics[0].truncated
    told = await follow_pages(log, [TOPIC, OTHER], reading_start(large), limit=500)
    assert positions(told.entries) == large + small


def reading_start(stored: list[Position]) -> Position:
    """Return a cursor just below the first event of a stage that has just begun, and not below its beginning."""
    return Position(stored[0].ms, max(0, stored[0].seq - 1))


async def test_five_hundred_topics_are_read_at_once_and_one_more_is_refused(mine: Rig) -> None:
    """However few entries are asked for, each topic comes forward, and pages end."""
    quick = mine.quick()
    topics = [f"t:{n}" for n in range(MAX_READ_TOPICS)]
    start = (await quick.read({}, limit=1)).clock
    await asyncio.gather(*(mine.append(quick, topic, f"{turn}.{topic}") for turn in range(3) for topic in topics))
    log = mine.log()
    whole = await log.read(since(*topics, cursor=start), limit=1500)
    assert gaps_of(whole) == []
    assert all(len(got) == 3 for got in found(whole).values())
    told = await follow_pages(log, topics, start, limit=1000)
    assert len(told.entries) == 1500
    assert told.gaps == []
    assert rises(positions(told.entries))
    few = await log.read(since(*topics, cursor=start), limit=1)
    assert all(len(got) == 1 for got in found(few).values())
    with pytest.raises(ValueError, match="at most 500"):
        await log.read(since(*topics, "one more", cursor=start), limit=1)


async def test_reads_that_pile_up_get_each_its_own_answer(mine: Rig) -> None:
    """Other topics, other cursors of the same topic, other limits: they are made together, not mixed up."""
    quick = mine.quick()
    start = (await quick.read({}, limit=1)).clock
    held = {topic: await mine.positions(quick, topic, 5) for topic in ("t:0", "t:1", "t:2")}
    log = mine.log()

    async def read(n: int) -> None:
        topic = f"t:{n % 3}"
        cursor = [start, *held[topic]][n % 6]
        reading = await log.read({topic: From(cursor), "quiet": From(NOW)}, limit=10)
        assert found(reading) == {topic: held[topic][n % 6 :], "quiet": []}
        assert [(entry.topic, entry.position) for entry in reading.topics[0].entries] == [
            (topic, position) for position in held[topic][n % 6 :]
        ]
        assert gaps_of(reading) == []

    await asyncio.gather(*(read(n) for n in range(60)))


async def test_a_topic_whose_log_is_spoilt_fails_its_own_readers_only(mine: Rig) -> None:
    """Reads that are made together with one of it are none the worse."""
    await mine.redis("SET", mine.keys.log("spoilt"), "not a stream")
    quick = mine.quick()
    start = (await quick.read({}, limit=1)).clock
    held = await mine.positions(quick, "sound", 2)
    log = mine.log()
    readings = await asyncio.gather(
        *(log.read({"spoilt" if n % 10 == 0 else "sound": From(start)}, limit=10) for n in range(40)),
        return_exceptions=True,
    )
    for n, reading in enumerate(readings):
        if n % 10 == 0:
            assert isinstance(reading, LogDefectError)
        else:
            assert isinstance(reading, Reading)
            assert found(reading) == {"sound": held}


# --- formats -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        ("f", "9", "p", "0-0", "e", "{}"),
        ("f", "9"),
        ("version", "9", "body", "{}"),
        ("f", "9", "p", "not a position", "e", "{}"),
        ("f", "9", "p", "", "e", ""),
    ],
    ids=["all fields", "format only", "other names", "other prev", "empty"],
)
@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("after", [0, 2])
async def test_an_entry_of_a_later_format_is_a_gap(
    mine: Rig, fields: tuple[str, ...], before: int, after: int
) -> None:
    """Never an exception, never silence, and everything around it comes."""
    quick = mine.quick()
    start = (await quick.read({}, limit=1)).clock
    readable = await mine.positions(quick, TOPIC, before)
    foreign = [await mine.append_foreign(TOPIC, *fields) for _ in range(2)]
    readable += await mine.positions(quick, TOPIC, after)
    for limit in (1, 2, 100):
        told = await follow_pages(mine.log(), [TOPIC, OTHER], start, limit=limit)
        assert told.of(TOPIC) == readable
        assert all(any(gap.after < at <= gap.resume for gap in told.gaps_of(TOPIC)) for at in foreign)
        assert told.gaps_of(OTHER) == []
        assert told.cursors[-1] == await mine.position_at(mine.keys.clock)
    whole = await follow_pages(mine.log(), [TOPIC], start, limit=100)
    assert len(whole.gaps) == 1


# --- everything at once ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """A random log: who appends in which order, what then is lost, where a client resumes, and how it pages."""

    appends: list[int]
    trims: list[int | None]
    foreign: list[int]
    cursor_at: int
    between: bool
    limit: int


plans = st.builds(
    Plan,
    appends=st.lists(st.integers(0, 3), max_size=24),
    # Per topic: nothing lost, the newest so many kept, or (-1) the whole log expired.
    trims=st.lists(st.one_of(st.none(), st.integers(-1, 4)), min_size=4, max_size=4),
    foreign=st.lists(st.integers(0, 23), max_size=3),
    cursor_at=st.integers(-1, 24),
    between=st.booleans(),
    limit=st.integers(1, 8),
)


@dataclass
class World:
    """What a plan has made: every event that was ever appended, and which of them can still be read."""

    everything: list[tuple[Position, str]]
    readable: set[Position]
    cursor: Position


async def build(mine: Rig, plan: Plan, topics: list[str]) -> World:
    """Carry out a plan."""
    log = mine.quick()
    start = (await log.read({}, limit=1)).clock
    world = World([], set(), start)
    unreadable: set[Position] = set()
    for n, which in enumerate(plan.appends):
        if n in plan.foreign:
            at = await mine.append_foreign(topics[which], "f", "9")
            unreadable.add(at)
        else:
            at = (await mine.append(log, topics[which])).position
        world.everything.append((at, topics[which]))
    for topic, kept in zip(topics, plan.trims, strict=True):
        if kept == -1:
            await mine.redis("DEL", mine.keys.log(topic))
        elif kept is not None:
            await mine.redis("XTRIM", mine.keys.log(topic), "MAXLEN", kept)
        held = await mine.redis("XRANGE", mine.keys.log(topic), "-", "+")
        world.readable |= {Position.parse(position) for position, _ in held} - unreadable
    if 0 <= plan.cursor_at < len(world.everything):
        world.cursor = world.everything[plan.cursor_at][0]
    if plan.between and world.everything:
        world.cursor = min(Position(world.cursor.ms, world.cursor.seq + 1), world.everything[-1][0])
    return world


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=plans)
def test_pages_bring_exactly_what_is_held_and_tell_every_loss_once(redis_server: RedisServer, plan: Plan) -> None:
    """For any log, cursor and limit: each entry held after the cursor once, in rising positions; one gap for each
    topic that lost something, none for others; and whoever stops at any page and comes back later is told as well.
    """  # noqa: D205 - one sentence is not enough
    topics = [f"t:{n}" for n in range(4)]

    async def example() -> None:
        redis = Redis(redis_server.url)
        mine = Rig(redis, DirectUpstash(redis))
        world = await build(mine, plan, topics)
        told = await follow_pages(mine.log(), topics, world.cursor, limit=plan.limit)
        wanted = [(at, topic) for at, topic in world.everything if at > world.cursor]
        assert [(entry.position, entry.topic) for entry in told.entries] == [
            (at, topic) for at, topic in wanted if at in world.readable
        ]
        assert told.cursors == sorted(told.cursors)
        for topic in topics:
            lost = [at for at, its in wanted if its == topic and at not in world.readable]
            check_gaps(told, topic, lost, foreign=bool(plan.foreign))
        for number, cursor in enumerate(told.cursors):
            again = await follow_pages(mine.log(), topics, cursor, limit=500)
            known = {gap.topic for gap in told.gaps[: told.gaps_by_page[number]]} | {gap.topic for gap in again.gaps}
            assert known == {gap.topic for gap in told.gaps}
        await redis.close()

    asyncio.run(example())


def check_gaps(told: Told, topic: str, lost: list[Position], *, foreign: bool) -> None:
    """Compare what a topic's reader was told with what it lost (in rising positions)."""
    gaps = told.gaps_of(topic)
    for at in lost:
        # A gap found on a later page begins at that page, which may lie above what was lost first.
        assert any(at <= gap.resume for gap in gaps)
    for gap in gaps:
        assert any(gap.after < at <= gap.resume for at in lost)
    assert len(gaps) <= (len(lost) if foreign else 1)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=st.lists(st.integers(0, 2), min_size=3, max_size=12),
    meanwhile=st.lists(st.lists(st.integers(0, 2), max_size=4), max_size=8),
    fenced_at=st.integers(-1, 8),
    limit=st.integers(1, 5),
)
def test_a_log_that_moves_and_trims_under_a_reader_hides_nothing(
    redis_server: RedisServer, before: list[int], meanwhile: list[list[int]], fenced_at: int, limit: int
) -> None:
    """Between two pages others append, old events go, a fence falls: each event comes once or lies in a gap."""
    topics = [f"t:{n}" for n in range(3)]
    keep_three = Retention(keep_s=DAY_S, topic_max_events=3, dedupe_s=DAY_S)

    async def example() -> None:
        redis = Redis(redis_server.url)
        mine = Rig(redis, DirectUpstash(redis), retention=keep_three)
        log = mine.log()
        cursor = (await log.read({}, limit=1)).clock
        everything = [((await mine.append(log, topics[which])).position, topics[which]) for which in before]
        told = Told()
        for number in range(100):
            page = merge(await log.read(since(*topics, cursor=cursor), limit=limit), limit)
            told.entries += page.entries
            told.gaps += page.gaps
            cursor = page.cursor
            if not page.more and number >= len(meanwhile):
                break
            now = meanwhile[number] if number < len(meanwhile) else []
            everything += [((await mine.append(log, topics[which])).position, topics[which]) for which in now]
            if number == fenced_at:
                await log.fence(await mine.position_at(mine.keys.clock))
        assert rises(positions(told.entries))
        delivered = set(positions(told.entries))
        for at, topic in everything:
            assert at in delivered or any(at <= gap.resume for gap in told.gaps_of(topic))
        await redis.close()

    asyncio.run(example())
