"""Streams and their slots: who is told what, on one process and on several, and that none is ever left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.breaker import State
from shared.slots import GRACE_S, Claim
from tests.support.app_rig import TOPIC, StreamApp, Visit
from tests.support.faulty_gateway import Answer, FaultyGateway
from tests.support.gateway import RedisServer
from tests.support.log_rig import Rig, rig
from tests.support.waiting import until

BASE_S = 1_795_000_000.0
EVICTED, SUPERSEDED = ("evicted", False), ("superseded", False)

Start = Callable[..., AbstractAsyncContextManager[StreamApp]]


@pytest.fixture
async def mine(redis_server: RedisServer, faulty: FaultyGateway) -> AsyncIterator[Rig]:
    """Give a stage of one's own; its `quick` logs write past the faulty gateway."""
    async with rig(redis_server.url, faulty.url, faulty.token) as made:
        yield made


@pytest.fixture
def start(mine: Rig, faulty: FaultyGateway) -> Start:
    """Start processes of one stage, with the settings that a test wants."""
    return lambda **more: StreamApp.running(faulty, mine.keys.stage, **more)


async def held(mine: Rig, user: str = "ann") -> set[str]:
    """Return the connections that hold a slot."""
    return set(await mine.redis("HKEYS", mine.keys.slots(user)))


def lose_signals(_channel: str, payload: str) -> list[str]:
    return [] if payload.startswith("!") else [payload]


# -- who is told what


@pytest.mark.parametrize("processes", [1, 2])
async def test_a_fourth_stream_evicts_the_first(
    mine: Rig, start: Start, faulty: FaultyGateway, processes: int
) -> None:
    """Wherever it runs: it hears `evicted`, and that it is not to come back; the others go on."""
    async with contextlib.AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(start()) for _ in range(processes)]
        visits = [await apps[number % processes].visit(client=f"tab{number}").greeted() for number in range(3)]
        fourth = await apps[-1].visit(client="tab3").greeted()
        first = await visits[0].ended()
        assert first.byes == [EVICTED]
        assert first.blocks[-1]["retry"] == "3600000"
        assert first.complete
        others = [*visits[1:], fourth]
        assert await held(mine) == {visit.connection for visit in others}
        (position,) = await mine.positions(mine.quick(), TOPIC, 1)
        for visit in others:
            await until(lambda v=visit: [e["position"] for e in v.events] == [str(position)], "its event")  # type: ignore[misc]
        assert not first.events
        # Whoever was evicted has nothing to give back.
        assert faulty.asked["HDEL"] == 0


async def test_a_returning_client_supersedes_itself_at_once_wherever_it_was(mine: Rig, start: Start) -> None:
    """Back and forth between two processes: through the live feed, without any reconcile."""
    async with start() as here, start() as there:
        other = await here.visit(client="other").greeted()
        previous: Visit | None = None
        for app in (here, there, here, here, there):
            began = time.monotonic()
            visit = await app.visit(client="tab").greeted()
            if previous is not None:
                assert (await previous.ended()).byes == [SUPERSEDED]
                assert time.monotonic() - began < 1.5
            previous = visit
        assert previous is not None
        assert await held(mine) == {other.connection, previous.connection}
        assert other.byes == []


async def test_a_client_meets_no_refusal_because_of_its_own_ghost(mine: Rig, start: Start) -> None:
    """Under the strict policy as well, with every slot in use, also by a process that has died."""
    async with start(TIDEMARK_STREAM_POLICY="reject", TIDEMARK_MAX_STREAMS_PER_USER="2") as app:
        slots = app.deps.slots
        await slots.take(Claim("ann", "tab", "c_ghost", TOPIC, slots.asked(), ends_in_s=800, wants_acks=False))
        other = await app.visit(client="other").greeted()
        back = await app.visit(client="tab").greeted()
        assert await held(mine) == {other.connection, back.connection}


async def test_a_user_with_too_many_streams_is_told_what_to_close(mine: Rig, start: Start) -> None:
    """429 whatever it accepts: a native EventSource stops then. No stream was touched."""
    async with start(TIDEMARK_STREAM_POLICY="reject") as app:
        visits = [await app.visit(client=name).greeted() for name in ("phone", "laptop", "work")]
        for accept in ("text/event-stream", "*/*"):
            refused = await app.visit(client="car", accept=accept).ended()
            problem = json.loads(refused.body)
            assert (refused.status, problem["code"]) == (429, "too_many_streams")
            assert "phone, laptop, work" in problem["detail"]
            assert TOPIC.removeprefix("gmail:") not in problem["detail"]
            assert 700 < int(refused.headers["retry-after"]) <= 840 + GRACE_S
        assert not any(visit.byes for visit in visits)
        visits[1].leave()
        await visits[1].ended()
        await app.visit(client="car").greeted()
        assert len(await held(mine)) == 3


async def test_a_lost_signal_is_made_up_for_by_the_next_reconcile(start: Start, faulty: FaultyGateway) -> None:
    """Of those who were evicted and those who were superseded; a process that began later asks for nothing older."""
    faulty.feed_fault = lose_signals
    async with start() as here, start() as there:
        visits = [await here.visit(client=f"tab{number}").greeted() for number in range(3)]
        again = await there.visit(client="tab1").greeted()
        fourth = await there.visit(client="tab3").greeted()
        assert not any(visit.over for visit in visits)
        await here.reconcile()
        assert (await visits[0].ended()).byes == [EVICTED]
        assert (await visits[1].ended()).byes == [SUPERSEDED]
        asked = faulty.total("glance")
        await here.reconcile()
        await there.reconcile()
        assert faulty.total("glance") - asked == 2
        assert not any(visit.over for visit in (visits[2], again, fourth))


async def test_a_slot_that_is_taken_away_in_the_millisecond_in_which_it_was_taken_is_made_up_for(
    start: Start, faulty: FaultyGateway
) -> None:
    """As happens when tabs come back together; the feed may not be open yet when that is said."""
    faulty.feed_fault = lose_signals
    clock = Clock()
    async with start(now_ms=clock.ms) as here, start(now_ms=clock.ms) as there:
        visit = await here.visit(client="tab").greeted()
        await there.visit(client="tab").greeted()
        await here.reconcile()
        assert (await visit.ended()).byes == [SUPERSEDED]


async def test_more_lost_signals_than_one_answer_lists_are_all_made_up_for(
    start: Start, faulty: FaultyGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come in pages."""
    monkeypatch.setattr("shared.log.MAX_LOST", 3)
    monkeypatch.setattr("shared.hub.MAX_LOST", 3)
    faulty.feed_fault = lose_signals
    async with start() as here, start() as there:
        users = [f"user{number}" for number in range(7)]
        old = [await here.visit(user, client="tab").greeted() for user in users]
        for user in users:
            await there.visit(user, client="tab").greeted()
        asked = faulty.total("glance")
        await here.reconcile()
        assert faulty.total("glance") - asked == 3
        for visit in old:
            assert (await visit.ended()).byes == [SUPERSEDED]


async def test_signals_that_a_later_version_has_are_left_alone(mine: Rig, start: Start) -> None:
    """They cost no read; and a stream of another process is nobody's here."""
    async with start() as app:
        visit = await app.visit(client="tab").greeted()
        hub = app.deps.hub
        reads = hub.counters.reads
        for number, signal in enumerate(
            (
                "!",
                "!pause",
                f"!end {visit.connection}",
                f"!end {visit.connection} tired",
                "!end c_other evicted",
                "!ack x y 1-1",
            )
        ):
            await mine.redis("PUBLISH", mine.keys.live(TOPIC), signal)
            await until(lambda n=number: hub.counters.signals == n + 1, "it is heard")  # type: ignore[misc]
        (position,) = await mine.positions(mine.quick(), TOPIC, 1)
        await until(lambda: [e["position"] for e in visit.events] == [str(position)], "its event")
        assert hub.counters.reads == reads
        assert not visit.byes
        await mine.redis("PUBLISH", mine.keys.live(TOPIC), f"!end {visit.connection} evicted or more")
        assert (await visit.ended()).byes == [EVICTED]


# -- none is left behind


async def test_a_response_that_is_never_sent_takes_nothing(mine: Rig, start: Start, faulty: FaultyGateway) -> None:
    """Nor does one to HEAD."""
    async with start(TIDEMARK_MAX_STREAMS="1") as app:
        (events,) = [route for route in app.app.routes if isinstance(route, Route) and route.path == "/events"]
        for _ in range(3):
            await events.endpoint(Request(app.scope("ann")))
        head = await app.visit(method="HEAD").ended()
        assert (head.status, head.complete, faulty.asked["take"]) == (200, True, 0)
        await app.visit().greeted()
        assert len(await held(mine)) == 1


@pytest.mark.parametrize("before", [True, False], ids=["before Redis has it", "before its answer comes"])
@pytest.mark.parametrize("what", ["take", "read"])
async def test_a_stream_that_is_cancelled_while_it_opens_holds_no_slot(
    mine: Rig, start: Start, faulty: FaultyGateway, what: str, *, before: bool
) -> None:
    """Whatever was under way. What has gone out is awaited first, or it might be carried out after the release."""
    async with start() as app:
        with faulty.holding(what, before=before) as holding:
            visit = app.visit()
            await holding.until_arrived()
            visit.task.cancel()
            await asyncio.sleep(0)
            holding.release()
            with pytest.raises(asyncio.CancelledError):
                await visit.task
        await app.deps.slots.settle()
        assert await held(mine) == set()
        assert len(app.deps.hub._audience) == 0


async def test_a_stream_that_is_cancelled_again_and_again_holds_no_slot(
    mine: Rig, start: Start, faulty: FaultyGateway
) -> None:
    """A server that is about to end has no patience: what gives it back is a task of its own."""
    async with start() as app:
        visit = await app.visit().greeted()
        assert len(await held(mine)) == 1
        with faulty.holding("HDEL", before=True) as holding:
            visit.task.cancel()
            await holding.until_arrived()
            for _ in range(3):
                visit.task.cancel()
                await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError):
                await visit.task
            assert len(await held(mine)) == 1
        await app.deps.slots.settle()
        assert await held(mine) == set()


async def test_a_slot_whose_answer_never_comes_is_given_back(mine: Rig, start: Start, faulty: FaultyGateway) -> None:
    """It was taken all the same. The client is told to come back, and does."""
    async with start() as app:
        faulty.lose_answers("take", count=2)
        refused = await app.visit(client="tab").ended()
        assert refused.byes == [("unavailable", True)]
        assert await held(mine) == set()
        await app.visit(client="tab").greeted()


async def test_a_client_that_leaves_gives_its_slot_back(mine: Rig, start: Start, faulty: FaultyGateway) -> None:
    """While it is served, and before it has got anything."""
    async with start() as app:
        visit = await app.visit().greeted()
        visit.leave()
        await visit.ended()
        assert await held(mine) == set()
        with faulty.holding("read") as holding:
            early = app.visit()
            await holding.until_arrived()
            early.leave()
        await early.ended()
        assert await held(mine) == set()


async def test_a_stream_that_was_long_in_opening_does_not_end_the_one_that_its_client_has_now(
    mine: Rig, start: Start, faulty: FaultyGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the log fails a stream asks for its slot last. Its client has given it up long before, and come back."""
    async with start() as app:
        monkeypatch.setattr(type(app.deps.slots), "is_failing", True)
        with faulty.holding("read", count=2) as holding:
            ghosts = [app.visit(client="tab"), app.visit(client="tab")]
            await until(lambda: faulty.asked["read"] == 2, "both are being read for")
            ghosts[0].leave()
            monkeypatch.setattr(type(app.deps.slots), "is_failing", False)
            stays = await app.visit(client="tab").greeted()
            holding.release()
            # One whose client is known to have left asks for nothing; where that cannot be known, it comes too late.
            for ghost in ghosts:
                await ghost.ended()
        assert faulty.asked["take"] == 2
        assert ghosts[1].byes == [("unavailable", True)]
        assert await held(mine) == {stays.connection}
        assert not stays.byes


async def test_a_process_that_had_to_start_first_does_not_end_its_clients_next_stream(
    mine: Rig, start: Start
) -> None:
    """Lambda says when a request came, to the millisecond and by one clock; the client was quicker than the start."""

    def came(at: float) -> dict[str, str]:
        return {"x-amzn-request-context": json.dumps({"timeEpoch": round(at * 1000)})}

    now = time.time()
    async with start() as warm, start() as cold:
        stays = await warm.visit(client="tab", headers=came(now - 0.2)).greeted()
        late = await cold.visit(client="tab", headers=came(now - 0.3)).ended()
        assert late.byes == [("unavailable", True)]
        assert await held(mine) == {stays.connection}
        await cold.visit(client="tab", headers=came(now - 0.1)).greeted()
        assert (await stays.ended()).byes == [SUPERSEDED]


@pytest.mark.parametrize("name", ["read", "take"])
async def test_a_stream_that_cannot_open_gives_its_slot_back(
    mine: Rig, start: Start, faulty: FaultyGateway, name: str
) -> None:
    """Told to come back in the two forms of the contract."""
    async with start() as app:
        faulty.refuse = lambda asked: Answer.error("LOADING") if asked == name else None
        assert (await app.visit().ended()).byes == [("unavailable", True)]
        plain = await app.visit(accept="*/*").ended()
        assert (plain.status, json.loads(plain.body)["code"]) == (503, "log_unavailable")
        assert await held(mine) == set()
        assert len(app.deps.hub._audience) == 0


async def test_the_first_stream_after_an_outage_opens(mine: Rig, start: Start, faulty: FaultyGateway) -> None:
    """The breaker lets one request try: what a stream needs beside it waits for that one."""
    async with start() as app:
        faulty.refuse = lambda _name: Answer.error("LOADING")
        breaker = app.deps.slots._breaker
        assert breaker is not None
        while breaker.state is not State.OPEN:
            await app.visit().ended()
        faulty.refuse = lambda _name: None
        breaker.hear_of_life()
        visit = await app.visit().greeted()
        assert await held(mine) == {visit.connection}


async def test_nobody_is_evicted_for_a_stream_that_a_full_process_cannot_serve(
    mine: Rig, start: Start, faulty: FaultyGateway
) -> None:
    """It looks at itself first."""
    async with start(TIDEMARK_MAX_STREAMS="1", TIDEMARK_MAX_STREAMS_PER_USER="1") as app:
        first = await app.visit().greeted()
        refused = await app.visit().ended()
        assert refused.byes == [("unavailable", True)]
        assert faulty.asked["take"] == 1
        assert await held(mine) == {first.connection}
        assert not first.over


async def test_nobody_is_evicted_for_a_stream_that_has_no_live_feed(
    mine: Rig, start: Start, faulty: FaultyGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be refused after that, come back, and evict the next."""
    monkeypatch.setattr("shared.hub.JOIN_TIMEOUT_S", 0.2)
    async with start(TIDEMARK_MAX_STREAMS_PER_USER="1") as app:
        first = await app.visit(client="first").greeted()
        faulty.refuse_feeds = True
        refused = await app.visit("ann", "gmail:other@example.com", client="second").ended()
        assert refused.byes == [("unavailable", True)]
        assert faulty.asked["take"] == 1
        assert await held(mine) == {first.connection}
        assert not first.byes


async def test_the_slot_is_given_back_before_the_body_ends(mine: Rig, start: Start, faulty: FaultyGateway) -> None:
    """On Lambda nothing runs on after that. The goodbye does not wait for it."""
    async with start() as app:
        visit = await app.visit().greeted()
        given_back: list[tuple[bool, int]] = []
        visit.on_write = lambda v: given_back.append((v.complete, faulty.asked["HDEL"]))
        follower = next(iter(app.deps.hub._audience))
        follower.end("shutdown")  # type: ignore[attr-defined]
        await visit.ended()
        assert visit.byes == [("shutdown", True)]
        assert given_back == [(False, 0), (True, 1)]
        assert await held(mine) == set()


async def test_a_stream_ends_in_time_when_its_slot_cannot_be_given_back(start: Start, faulty: FaultyGateway) -> None:
    """A second later at most; the slot expires."""
    async with start() as app:
        visit = await app.visit().greeted()
        with faulty.holding("HDEL"):
            began = time.monotonic()
            visit.leave()
            await visit.ended()
            assert time.monotonic() - began < 1.5


class Full:
    """A connection whose client has not read the answers before this one."""

    def __init__(self) -> None:
        self.paused = True
        self.unsent = 100_000
        self.lingers = 0
        self._room = asyncio.Event()

    def on_room(self, callback: Callable[[], None]) -> None:
        """Nothing is ever read."""

    def let_through(self, *, linger_s: float) -> None:
        """Let writes through."""
        assert linger_s > 0
        self.lingers += 1
        self.paused = False
        self._room.set()

    def before(self, app: ASGIApp) -> ASGIApp:
        """Have an application's writes wait, as a server does."""

        async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_on(message: Message) -> None:
                await self._room.wait()
                await send(message)

            await app(scope, receive, send_on)

        return waiting


@pytest.mark.parametrize("opens", [True, False])
async def test_a_client_that_has_not_read_earlier_answers_holds_no_place_for_ever(
    mine: Rig, start: Start, faulty: FaultyGateway, monkeypatch: pytest.MonkeyPatch, *, opens: bool
) -> None:
    """Nothing can be written to it, not even the head of the answer. Its stream ends as a slow one does."""
    monkeypatch.setattr("functions.stream.session.STALLED_S", 0.2)
    monkeypatch.setattr("functions.stream.session.LOOK_S", 0.1)
    async with start(TIDEMARK_MAX_STREAMS="1") as app:
        if not opens:
            faulty.refuse = lambda _name: Answer.error("LOADING")
        full = Full()
        visit = Visit(full.before(app.app), app.scope("ann", socket=full))
        app.visits.append(visit)
        await visit.ended()
        assert visit.byes == [("slow_consumer" if opens else "unavailable", True)]
        assert full.lingers == 1
        assert await held(mine) == set()
        faulty.refuse = lambda _name: None
        await app.visit("ben").greeted()


# -- the end of a stream


class Clock:
    """Time of a process and of Redis, as a test has it."""

    def __init__(self) -> None:
        self.seconds = BASE_S

    def __call__(self) -> float:
        return self.seconds

    def ms(self) -> int:
        """Give the same as Redis has it."""
        return round(self.seconds * 1000)


def timed(start: Start, clock: Clock, **settings: str) -> AbstractAsyncContextManager[StreamApp]:
    """Start a process in which time stands still unless the test moves it."""
    return start(clock=clock, now=clock, now_ms=clock.ms, **settings)


def invocation(deadline_s: Any) -> dict[str, str]:
    """Build the header in which the Lambda Web Adapter tells the deadline."""
    return {"x-amzn-lambda-context": json.dumps({"request_id": "r", "deadline": deadline_s * 1000})}


@pytest.mark.parametrize(
    ("deadline_in_s", "longest_s"),
    [(900, 840), (850, 840), (849, 839), (310, 300), (15, 5), (0, 840), (-60, 840), (1e9, 840)],
)
async def test_a_stream_ends_before_its_invocation_does(
    mine: Rig, start: Start, deadline_in_s: float, longest_s: float
) -> None:
    """Ten seconds before the deadline or when its own time is over, whichever is first, jittered like the rest.

    A deadline that has passed tells nothing. The slot expires a few seconds later than the stream.
    """
    clock = Clock()
    async with timed(start, clock) as app:
        visit = await app.visit(headers=invocation(BASE_S + deadline_in_s)).greeted()
        life_s = visit.named("hello")[0]["expires_in_s"]
        assert int(0.9 * longest_s) <= life_s <= longest_s
        (slot,) = await mine.redis("HVALS", mine.keys.slots("ann"))
        expires_s = int(slot.split(" ")[1]) / 1000
        assert life_s + GRACE_S <= expires_s - BASE_S <= life_s + 1 + GRACE_S
        clock.seconds += life_s + 1
        app.tick()
        assert (await visit.ended()).byes == [("rotate", True)]
        assert await held(mine) == set()


async def test_a_stream_that_has_no_time_left_says_so_and_is_asked_again(mine: Rig, start: Start) -> None:
    """Its hello has a cursor to come back with."""
    clock = Clock()
    async with timed(start, clock) as app:
        for left_s in (10, 3):
            visit = await app.visit(headers=invocation(BASE_S + left_s)).ended()
            assert visit.named("hello")[0]["expires_in_s"] == 0
            assert visit.byes == [("rotate", True)]
            assert await held(mine) == set()


async def test_streams_that_opened_together_do_not_end_together(start: Start) -> None:
    """Neither by their own time nor by their invocations' deadlines."""
    clock = Clock()
    async with timed(start, clock) as app:
        for headers in ({}, invocation(BASE_S + 610)):
            visits = [app.visit(f"user{number}", headers=headers) for number in range(20)]
            lives = {(await visit.greeted()).named("hello")[0]["expires_in_s"] for visit in visits}
            assert len(lives) > 10


async def test_a_day_of_one_stream(mine: Rig, start: Start) -> None:
    """It rotates and comes back until its token expires; the slots of a process that died free themselves."""
    clock = Clock()
    async with timed(start, clock, TIDEMARK_STREAM_POLICY="reject") as app:
        scope = app.scope("ann", client="tab", ttl_s=24 * 3600)

        def visit() -> Visit:
            made = Visit(app.app, scope)
            app.visits.append(made)
            return made

        slots = app.deps.slots
        dead = [
            Claim("ann", f"dead{n}", f"c_dead{n}", TOPIC, slots.asked(), ends_in_s=800, wants_acks=False)
            for n in range(2)
        ]
        for claim in dead:
            await slots.take(claim)
        dead_until = BASE_S + 800 + GRACE_S
        rotations = 0
        while True:
            stream = await visit().greeted()
            opened, life_s = clock.seconds, stream.named("hello")[0]["expires_in_s"]
            while True:
                # Half-way, just before its end, and then beyond it.
                left_s = opened + life_s - clock.seconds
                step_s = left_s / 2 if left_s > 400 else left_s - 0.5 if left_s > 1 else 2.0
                clock.seconds += step_s
                app.tick()
                if step_s == 2.0:
                    break
                await app.reconcile()
                assert not stream.over
                found = await mine.redis("HGETALL", mine.keys.slots("ann"))
                expires = {c: int(v.split(" ")[1]) / 1000 for c, v in zip(found[::2], found[1::2], strict=True)}
                assert expires[stream.connection] == pytest.approx(opened + life_s + GRACE_S, abs=1.1)
                holding = {connection for connection, at in expires.items() if at > clock.seconds}
                assert len(holding) == (3 if clock.seconds < dead_until else 1)
                if rotations == 0:
                    third = app.visit(client="third")
                    if clock.seconds < dead_until:
                        assert (await third.ended()).status == 429
                    else:
                        (await third.greeted()).leave()
                        await third.ended()
            await stream.ended()
            if stream.byes != [("rotate", True)]:
                break
            assert 0.9 * 840 - 1 <= life_s <= 840
            rotations += 1
        assert stream.byes == [("token_expired", False)]
        assert clock.seconds == pytest.approx(BASE_S + 24 * 3600, abs=2)
        assert 24 * 3600 / 841 <= rotations <= 24 * 3600 / (0.9 * 840) + 1
        assert await held(mine) <= {claim.connection for claim in dead}
        assert (await visit().ended()).status == 401
