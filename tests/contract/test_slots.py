"""Slots: how many streams a user may have, who makes room for whom, and when a slot frees itself."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.breaker import FAILURES, Breaker
from shared.counts import Counts
from shared.errors import (
    CircuitOpenError,
    LogDefectError,
    LogUnavailableError,
    OvertakenError,
    TokenRevokedError,
    TooManyStreamsError,
    Trouble,
)
from shared.keys import Keys
from shared.signal import End
from shared.slot_limit import Policy, SlotLimit
from shared.slots import GRACE_S, Asked, Claim, Slots, Taken
from tests.support.faulty_gateway import Answer, FaultyGateway, FaultyWorld
from tests.support.gateway import GatewayProcess, RedisServer
from tests.support.log_rig import DirectUpstash, Redis, Rig, own_stage, rig

TOPIC = "gmail:ann@example.com"
BASE_MS = 1_795_000_000_000
REJECT = SlotLimit(3, Policy.REJECT)
LIFE_S = 840.0
_numbers = itertools.count(1)


def claim(client: str | None = None, *, user: str = "ann", **more: Any) -> Claim:
    """Give the claim of a connection that no other test has; the client's name is its own unless it is given."""
    number = next(_numbers)
    named = {"user": user, "client": client or f"tab{number}", "connection": f"c_{number}", "topic": TOPIC}
    return Claim(**{**named, "asked": Asked(number, "test"), "ends_in_s": LIFE_S, "wants_acks": False, **more})


class Time:
    """Redis's time in a test, and the process's beside it."""

    def __init__(self) -> None:
        self.ms = BASE_MS

    def __call__(self) -> int:
        return self.ms

    def seconds(self) -> float:
        """Give the same as a process has it."""
        return self.ms / 1000


def slots_of(mine: Rig, limit: SlotLimit | None = None, **more: Any) -> Slots:
    """Build the slots of one process."""
    return Slots(mine.upstash, mine.keys, limit or SlotLimit(), **more)


async def held(mine: Rig, user: str = "ann") -> set[str]:
    """Return the connections that hold a slot, whether it has expired or not."""
    return set(await mine.redis("HKEYS", mine.keys.slots(user)))


async def taken_away(mine: Rig) -> list[str]:
    """Return what a reconcile would find."""
    found: list[str] = await mine.redis("ZRANGE", mine.keys.taken_away, 0, -1)
    return found


# -- who makes room for whom


async def test_the_stream_that_was_opened_first_makes_room(mine: Rig) -> None:
    """In the order in which they were opened, also within one millisecond; each time one, and it is told which."""
    slots = slots_of(mine, now_ms=Time())
    claims = [claim() for _ in range(12)]
    taken = [await slots.take(one) for one in claims]
    assert [len(of.away) for of in taken] == [0, 0, 0] + [1] * 9
    assert [end for of in taken for end in of.away] == [End(one.connection, "evicted") for one in claims[:9]]
    assert await held(mine) == {one.connection for one in claims[9:]}
    assert await taken_away(mine) == [f"{one.connection} evicted" for one in claims[:9]]


async def test_users_do_not_disturb_each_other(mine: Rig) -> None:
    """Also not one whose clients have the same names."""
    slots = slots_of(mine)
    for user in ("ann", "ben"):
        for number in range(3):
            assert (await slots.take(claim(f"tab{number}", user=user))).away == ()
    assert len(await held(mine)) == len(await held(mine, "ben")) == 3


async def test_under_the_other_policy_a_user_is_told_what_to_close(mine: Rig) -> None:
    """Clients by their names, the first opened first; no address, no connection. Nothing is changed."""
    clock = Time()
    slots = slots_of(mine, REJECT, now_ms=clock)
    claims = [claim(name, ends_in_s=life) for name, life in (("phone", 840), ("laptop", 100), ("work", 500))]
    for one in claims:
        await slots.take(one)
    clock.ms += 20_000
    with pytest.raises(TooManyStreamsError) as caught:
        await slots.take(claim("car"))
    said = str(caught.value)
    assert "phone, laptop, work" in said
    assert "3 streams" in said
    assert "@" not in said
    assert "c_" not in said
    assert caught.value.headers() == {"Retry-After": str(100 + int(GRACE_S) - 20)}
    assert await held(mine) == {one.connection for one in claims}
    assert await taken_away(mine) == []


@pytest.mark.parametrize("policy", list(Policy))
async def test_a_stream_of_the_same_client_takes_its_predecessors_place(mine: Rig, policy: Policy) -> None:
    """Whatever the policy and the count, and from whichever process: a returning client meets its own ghost."""
    here, there = (slots_of(mine, SlotLimit(2, policy)) for _ in range(2))
    first, other = claim("tab"), claim("other")
    await here.take(first)
    assert (await here.take(other)).away == ()
    previous = first
    for slots in (there, here, there):
        again = claim("tab")
        assert (await slots.take(again)).away == (End(previous.connection, "superseded"),)
        assert await held(mine) == {other.connection, again.connection}
        previous = again
    assert len(await taken_away(mine)) == 3


async def test_a_limit_that_was_lowered_holds_from_the_next_stream_on(mine: Rig) -> None:
    """As many are evicted as it takes; a client that returns is let in, and under `reject` nobody ends for it."""
    many = slots_of(mine, SlotLimit(10))
    claims = [claim(f"tab{number}") for number in range(6)]
    for one in claims:
        await many.take(one)
    back = claim("tab5")
    assert (await slots_of(mine, REJECT).take(back)).away == (End(claims[5].connection, "superseded"),)
    last = claim("tab9")
    ends = (await slots_of(mine, SlotLimit(2)).take(last)).away
    assert ends == tuple(End(one.connection, "evicted") for one in claims[:5])
    assert await held(mine) == {back.connection, last.connection}


async def test_a_revoked_token_takes_nothing_from_anybody(mine: Rig) -> None:
    """Not from its own user either, whose streams may have been opened with a newer one."""
    slots = slots_of(mine, SlotLimit(1))
    revocation = await mine.log().revoke("ann")
    good = claim("good", issued_at=revocation.at_ms / 1000 + 1)
    await slots.take(good)
    for name in ("good", "bad"):
        with pytest.raises(TokenRevokedError):
            await slots.take(claim(name, issued_at=revocation.at_ms / 1000))
    assert await held(mine) == {good.connection}


# -- requests that come late, or twice


async def test_a_request_whose_answer_was_lost_takes_one_slot(mine: Rig, redis_server: RedisServer) -> None:
    """It is made again, and the slot keeps its place in the order."""
    async with (
        FaultyGateway.running(redis_server.url) as faulty,
        rig(redis_server.url, faulty.url, faulty.token) as far,
    ):
        far.keys = mine.keys
        slots = slots_of(far, SlotLimit(2))
        faulty.lose_answers("take")
        first, second = claim(), claim()
        assert (await slots.take(first)).away == ()
        assert faulty.asked["take"] == 2
        await slots.take(second)
        # Once more, as if it had been under way all the time.
        await far.redis(*[str(part) for part in slots._command(first)])
        assert (await slots.take(claim())).away == (End(first.connection, "evicted"),)


async def test_a_stream_that_comes_late_does_not_end_its_successor(mine: Rig) -> None:
    """The client has given it up and opened another: that one must not hear `superseded` for the sake of a ghost."""
    slots = slots_of(mine)
    late, stays = claim("tab"), claim("tab")
    await slots.take(stays)
    with pytest.raises(OvertakenError):
        await slots.take(late)
    assert await held(mine) == {stays.connection}


@pytest.mark.parametrize(("behind_ms", "late"), [(900, False), (1500, True)])
async def test_two_clocks_may_be_a_second_apart(mine: Rig, behind_ms: int, *, late: bool) -> None:
    """Within that the later request stays; beyond it the one with the older clock is held to be late."""
    slots = slots_of(mine)
    await slots.take(claim("tab", asked=Asked(BASE_MS, "here")))
    again = claim("tab", asked=Asked(BASE_MS - behind_ms, "there"))
    if late:
        with pytest.raises(OvertakenError):
            await slots.take(again)
    else:
        assert len((await slots.take(again)).away) == 1


def test_what_is_asked_for_later_has_a_later_moment(mine: Rig) -> None:
    """Strictly, by a process's own clock; Lambda's front end has one for all, and cannot be ahead of the process."""
    one, other = (slots_of(mine, now=lambda: BASE_MS / 1000) for _ in range(2))
    assert [one.asked().at_ms for _ in range(3)] == [BASE_MS, BASE_MS + 1, BASE_MS + 2]
    assert one.asked().clock == one.asked().clock != other.asked().clock
    assert one.asked(BASE_MS / 1000 - 1) == other.asked(BASE_MS / 1000 - 1)
    assert one.asked(BASE_MS / 1000 + 1).at_ms == BASE_MS


async def test_a_process_whose_clock_ran_ahead_keeps_no_client_from_coming_back(mine: Rig) -> None:
    """Its slots say that they were asked for in an hour. Elsewhere a stream of the same client opens all the same."""
    ahead, there = slots_of(mine, now=lambda: time.time() + 3600), slots_of(mine)
    ghost = claim("tab", asked=ahead.asked())
    await ahead.take(ghost)
    assert (await there.take(claim("tab", asked=there.asked()))).away == (End(ghost.connection, "superseded"),)


# -- slots that free themselves


async def test_a_slot_expires_a_little_after_its_stream_must_have_ended(mine: Rig) -> None:
    """A dead process holds it no longer; what expired is neither evicted nor counted."""
    clock = Time()
    slots = slots_of(mine, REJECT, now_ms=clock, now=clock.seconds)
    short, *longer = [claim(ends_in_s=life) for life in (60, 600, 600)]
    for one in (short, *longer):
        await slots.take(one)
    clock.ms += int((60 + GRACE_S) * 1000) - 1
    with pytest.raises(TooManyStreamsError) as caught:
        await slots.take(claim())
    assert caught.value.headers() == {"Retry-After": "1"}
    clock.ms += 1
    new = claim()
    assert await slots.take(new) == Taken(clock.ms, ())
    assert await held(mine) == {one.connection for one in (*longer, new)}
    assert await taken_away(mine) == []


async def test_the_key_of_a_user_goes_with_the_last_slot(mine: Rig) -> None:
    """By itself when the last one expires, at once when it is given back."""
    slots = slots_of(mine)
    key = mine.keys.slots("ann")
    long, short = claim(ends_in_s=500), claim(ends_in_s=100)
    await slots.take(long)
    await slots.take(short)
    assert 500 < await mine.redis("TTL", key) <= 500 + GRACE_S
    for one in (long, short):
        await slots.release("ann", one.connection)
    assert await mine.redis("EXISTS", key) == 0


async def test_what_cannot_be_read_holds_no_slot(mine: Rig) -> None:
    """A later version may have written it. It goes with the next stream."""
    slots = slots_of(mine, SlotLimit(1, Policy.REJECT))
    await mine.redis("HSET", mine.keys.slots("ann"), "c_x", "9 of a later version", "c_y", "")
    one = claim()
    assert (await slots.take(one)).away == ()
    assert await held(mine) == {one.connection}


async def test_what_was_taken_away_is_kept_for_hours_and_bounded(mine: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than any two reconciles are apart; moments rise also when the clock jumps back."""
    monkeypatch.setattr("shared.slots.MOST_TAKEN_AWAY", 4)
    clock = Time()
    slots = slots_of(mine, SlotLimit(1), now_ms=clock, now=clock.seconds)
    claims = [claim() for _ in range(8)]
    for number, one in enumerate(claims):
        clock.ms += 1000 if number % 2 else -1000
        await slots.take(one)
    assert await taken_away(mine) == [f"{one.connection} evicted" for one in claims[3:7]]
    scored = await mine.redis("ZRANGE", mine.keys.taken_away, 0, -1, "WITHSCORES")
    moments = [int(moment) for moment in scored[1::2]]
    assert all(a < b for a, b in itertools.pairwise(moments))
    assert 7190 < await mine.redis("TTL", mine.keys.taken_away) <= 7200
    clock.ms += 2 * 3600 * 1000 + 5000
    first = claim()
    await slots.take(first)
    await slots.take(claim())
    assert await taken_away(mine) == [f"{first.connection} evicted"]


# -- giving back


async def test_slots_that_are_given_back_together_cost_a_few_requests(
    faulty: FaultyGateway, redis_server: RedisServer
) -> None:
    """As when a process ends; and taking them together as well, when everybody comes back at once."""
    async with rig(redis_server.url, faulty.url, faulty.token) as far:
        slots = slots_of(far)
        claims = [claim(user=f"user{number % 400}") for number in range(1000)]
        await asyncio.gather(*map(slots.take, claims))
        assert faulty.total() <= 25
        keys = [far.keys.slots(f"user{number}") for number in range(400)]
        assert sum([await far.redis("HLEN", key) for key in keys]) == 1000
        before, began = faulty.total(), time.monotonic()
        await asyncio.gather(*(slots.release(one.user, one.connection) for one in claims))
        assert time.monotonic() - began < 1
        assert faulty.total() - before <= 4
        assert await far.redis("EXISTS", *keys) == 0


async def test_a_slot_that_was_never_taken_may_be_given_back(mine: Rig) -> None:
    """Whoever does not know whether it was taken gives it back."""
    slots = slots_of(mine)
    await slots.release("ann", "c_unknown")
    assert await held(mine) == set()


async def test_slots_that_are_given_back_together_are_not_left_behind_by_one_failure(
    faulty: FaultyGateway, redis_server: RedisServer
) -> None:
    """A process that ends gives many back in one request."""
    async with rig(redis_server.url, faulty.url, faulty.token) as mine:
        slots = slots_of(mine)
        claims = [claim(user=f"user{number}") for number in range(40)]
        await asyncio.gather(*map(slots.take, claims))
        failed: set[str] = set()

        def refuse_once(name: str) -> Answer | None:
            if name == "HDEL" or name in failed:
                return None
            failed.add(name)
            return Answer.error("LOADING")

        faulty.refuse = refuse_once
        await asyncio.gather(*(slots.release(one.user, one.connection) for one in claims))
        assert failed
        assert await mine.redis("EXISTS", *(mine.keys.slots(one.user) for one in claims)) == 0


async def test_giving_back_never_fails_and_never_takes_long(
    faulty: FaultyGateway, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The slot expires by itself. A defect of ours is an error in the log, an outage is not."""
    async with rig(redis_server.url, faulty.url, faulty.token) as mine:
        slots = slots_of(mine)
        faulty.refuse = lambda _name: Answer.error("LOADING")
        await slots.release("ann", "c_1")
        faulty.refuse = lambda _name: None
        with faulty.holding("HDEL"):
            began = time.monotonic()
            await asyncio.gather(*(slots.release(f"user{number}", "c_1") for number in range(20)))
            assert time.monotonic() - began < 1.5
        assert not [record for record in caplog.records if record.levelname == "ERROR"]
        await mine.redis("SET", mine.keys.slots("ann"), "no hash")
        await slots.release("ann", "c_1")
        assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
            "a slot could not be released"
        ]


# -- when Redis fails


async def test_a_defect_of_one_user_is_nobody_elses(mine: Rig) -> None:
    """A key of the wrong type fails what was asked for together, and then each is asked for by itself."""
    slots = slots_of(mine)
    await mine.redis("SET", mine.keys.slots("ben"), "no hash")
    claims = [claim(user="ben" if number == 20 else f"user{number}") for number in range(40)]
    taken = await asyncio.gather(*map(slots.take, claims), return_exceptions=True)
    assert [number for number, of in enumerate(taken) if not isinstance(of, Taken)] == [20]
    assert isinstance(taken[20], LogDefectError)


@pytest.mark.parametrize(
    "result", ["OK", None, 5, [], ["taken"], ["taken", "x", []], ["full", 1, 2, 3], ["given", 1], ["taken", 1, 2]]
)
async def test_an_answer_that_cannot_be_ours_is_trouble_and_counts(
    faulty: FaultyGateway, redis_server: RedisServer, result: object
) -> None:
    """Something else answers in Redis's place; after a few of those it is left alone."""
    body = Answer(200, json.dumps({"result": result}).encode())
    async with rig(redis_server.url, faulty.url, faulty.token) as mine:
        breaker = Breaker("log", Counts(), counts_against=LogUnavailableError)
        slots = slots_of(mine, breaker=breaker)
        faulty.refuse = lambda _name: body
        for _ in range(FAILURES):
            with pytest.raises(LogUnavailableError) as caught:
                await slots.take(claim())
            assert caught.value.trouble is Trouble.UNREADABLE
        asked = faulty.total()
        with pytest.raises(CircuitOpenError):
            await slots.take(claim())
        await slots.release("ann", "c_1")
        assert faulty.total() == asked


# -- what it costs


async def test_a_slot_is_one_request_and_few_commands(mine: Rig, gateway: GatewayProcess) -> None:
    """One to take it, one to give it back, whatever happens to others. The script counts its own commands."""
    slots = slots_of(mine, SlotLimit(1))
    before = gateway.stats()["requests"]["command"]
    one = claim()
    await slots.take(claim())
    await slots.take(one)
    await slots.release("ann", one.connection)
    assert gateway.stats()["requests"]["command"] - before == 3

    async def billed(work: Callable[[], Any]) -> int:
        await mine.redis("CONFIG", "RESETSTAT")
        await work()
        stats: str = await mine.redis("INFO", "commandstats")
        calls = dict(re.findall(r"cmdstat_(\S+?):calls=(\d+)", stats))
        return sum(int(count) for name, count in calls.items() if not name.startswith(("config", "info")))

    assert await billed(lambda: slots.take(one)) == 6
    assert await billed(lambda: slots.take(claim())) == 13
    assert await billed(lambda: slots.release("ann", one.connection)) == 1


# -- the whole script beside a plain model

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(0, 4), st.sampled_from([5, 30, 600])),
        st.tuples(st.just("take"), st.integers(0, 4), st.sampled_from([5, 30, 600])),
        st.tuples(st.just("release"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("wait"), st.integers(0, 40_000), st.just(0)),
        st.tuples(st.just("again"), st.integers(0, 9), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, most=st.integers(1, 4), policy=st.sampled_from(Policy))
def test_whatever_streams_come_and_go_the_script_does_what_a_plain_model_does(
    redis_server: RedisServer, world: FaultyWorld, steps: list[tuple[str, int, int]], most: int, policy: Policy
) -> None:
    """Opened in order, at most so many, the same client once, expired ones gone."""

    async def example(_faulty: FaultyGateway) -> None:
        redis, clock = Redis(redis_server.url), Time()
        keys = Keys(own_stage())
        slots = Slots(DirectUpstash(redis), keys, SlotLimit(most, policy), now=clock.seconds, now_ms=clock)
        model: list[tuple[Claim, float]] = []  # in the order in which they were opened
        asked: list[Claim] = []
        for kind, number, life_s in steps:
            model = [(one, until) for one, until in model if until > clock.ms]
            if kind == "wait":
                clock.ms += number
            elif kind == "release" and number < len(asked):
                await slots.release("ann", asked[-1 - number].connection)
                model = [(one, until) for one, until in model if one != asked[-1 - number]]
            elif kind == "again" and number < len(model):
                one, _ = model[number]
                assert (await slots.take(one)).away == ()
                model[number] = (one, clock.ms + (one.ends_in_s + GRACE_S) * 1000)
            elif kind == "take":
                one = claim(f"tab{number}", ends_in_s=life_s)
                asked.append(one)
                superseded = [old for old, _ in model if old.client == one.client]
                rest = [(old, until) for old, until in model if old.client != one.client]
                over = max(0, len(rest) + 1 - most)
                if policy is Policy.REJECT and over and not superseded:
                    with pytest.raises(TooManyStreamsError) as caught:
                        await slots.take(one)
                    first = min(until for _, until in rest)
                    assert caught.value.headers() == {"Retry-After": str(math.ceil((first - clock.ms) / 1000))}
                    continue
                evicted = [] if policy is Policy.REJECT else [old for old, _ in rest[:over]]
                taken = await slots.take(one)
                assert taken.away == tuple(
                    End(old.connection, reason)
                    for olds, reason in ((superseded, "superseded"), (evicted, "evicted"))
                    for old in olds
                )
                kept = [(old, until) for old, until in rest if old not in evicted]
                model = [*kept, (one, clock.ms + (life_s + GRACE_S) * 1000)]
            holding = {one.connection for one, until in model if until > clock.ms}
            found = await redis("HGETALL", keys.slots("ann"))
            expires = {found[n]: int(found[n + 1].split(" ")[1]) for n in range(0, len(found), 2)}
            assert {connection for connection, until in expires.items() if until > clock.ms} == holding
        await redis.close()

    world.run(example)
