"""The circuit breaker, by a clock that the test moves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from shared.breaker import FAILURES, FIRST_OPEN_S, OPEN_S, Breaker, State
from shared.counts import Counts
from shared.errors import CircuitOpenError, LogDefectError, LogUnavailableError
from tests.support.alarm_lines import rung


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def breaker(clock: Clock, counts: Counts) -> Breaker:
    """Give one that waits the whole time at once: how it comes to that is tested on its own."""
    return Breaker("log", counts, counts_against=LogUnavailableError, first_open_s=OPEN_S, clock=clock)


async def good() -> str:
    return "done"


async def bad() -> str:
    raise LogUnavailableError("away")


async def defect() -> str:
    raise LogDefectError("WRONGTYPE")


async def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        with pytest.raises(LogUnavailableError):
            await breaker.call(bad)


async def tried_in_vain(breaker: Breaker) -> bool:
    """Whether the next call is let through, to fail."""
    try:
        await breaker.call(bad)
    except CircuitOpenError:
        return False
    except LogUnavailableError:
        return True
    return False


async def refused(breaker: Breaker) -> bool:
    """Whether the next call is refused without being made."""
    made = []

    async def work() -> None:
        made.append(1)

    try:
        await breaker.call(work)
    except CircuitOpenError:
        assert made == []
        return True
    return False


class Gate:
    """Work that ends when it is told to, and how."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        self.begun.set()
        return await self.end


async def begin(breaker: Breaker, work: Callable[[], Awaitable[str]]) -> asyncio.Task[str]:
    task = asyncio.create_task(breaker.call(work))
    await asyncio.sleep(0)
    return task


async def test_it_opens_after_five_failures_in_a_row_and_not_before(breaker: Breaker, counts: Counts) -> None:
    """What then comes is refused without being tried."""
    await fail(breaker, FAILURES - 1)
    assert (breaker.state, breaker.is_failing) == (State.CLOSED, True)
    await fail(breaker, 1)
    assert breaker.state is State.OPEN
    assert await refused(breaker)
    assert counts.snapshot() == {"log_open": 1, "log_refused": 1}


@pytest.mark.parametrize("answer", [good, defect])
async def test_an_answer_between_failures_begins_the_row_anew(
    breaker: Breaker, answer: Callable[[], Awaitable[str]]
) -> None:
    """An error of ours is an answer, too: the log is there."""
    for _ in range(3):
        await fail(breaker, FAILURES - 1)
        if answer is good:
            assert await breaker.call(answer) == "done"
        else:
            with pytest.raises(LogDefectError):
                await breaker.call(answer)
        assert (breaker.state, breaker.is_failing) == (State.CLOSED, False)


async def test_after_thirty_seconds_one_call_tries(breaker: Breaker, clock: Clock, counts: Counts) -> None:
    """Its success closes; until then everybody else is refused."""
    await fail(breaker, FAILURES)
    clock.now += OPEN_S - 0.1
    assert await refused(breaker)
    clock.now += 0.1
    probe = Gate()
    task = await begin(breaker, probe)
    assert breaker.state is State.HALF_OPEN
    assert await refused(breaker)
    clock.now += 10 * OPEN_S
    assert await refused(breaker)
    probe.end.set_result("done")
    assert await task == "done"
    assert (breaker.state, breaker.is_failing) == (State.CLOSED, False)
    assert not await refused(breaker)
    assert counts.snapshot() == {"log_open": 1, "log_half_open": 1, "log_closed": 1, "log_refused": 3}


async def test_of_two_tasks_that_race_to_try_one_is_let_through(breaker: Breaker, clock: Clock) -> None:
    """The other is refused at once; the half-open state never admits two."""
    await fail(breaker, FAILURES)
    clock.now += OPEN_S
    probe = Gate()
    results = asyncio.gather(*(breaker.call(probe) for _ in range(2)), return_exceptions=True)
    await probe.begun.wait()
    probe.end.set_result("done")
    first, second = await results
    assert first == "done"
    assert isinstance(second, CircuitOpenError)


async def test_a_failed_try_opens_for_another_thirty_seconds(breaker: Breaker, clock: Clock) -> None:
    """Counted from its failure, after one failure only."""
    await fail(breaker, FAILURES)
    for _ in range(3):
        clock.now += OPEN_S
        await fail(breaker, 1)
        assert breaker.state is State.OPEN
        clock.now += OPEN_S - 0.1
        assert await refused(breaker)
        clock.now += 0.1 - OPEN_S
    clock.now += OPEN_S
    with pytest.raises(LogDefectError):
        await breaker.call(defect)
    assert breaker.state is State.CLOSED


async def test_the_first_try_comes_soon_and_each_that_fails_doubles_the_wait(clock: Clock, counts: Counts) -> None:
    """A failover is not waited out for half a minute, and an outage is not asked about every second."""
    breaker = Breaker("log", counts, counts_against=LogUnavailableError, clock=clock)
    for _ in range(2):
        await fail(breaker, FAILURES)
        waited = []
        for _ in range(7):
            began = clock.now
            while not await tried_in_vain(breaker):
                clock.now += 0.5
            waited.append(clock.now - began)
        assert waited == [FIRST_OPEN_S, 2.0, 4.0, 8.0, 16.0, OPEN_S, OPEN_S]
        clock.now += OPEN_S
        assert await breaker.call(good) == "done"


async def test_a_sign_of_life_lets_the_next_call_try(breaker: Breaker, clock: Clock) -> None:
    """One call only; its failure waits for the whole time again. Closed, it changes nothing."""
    await fail(breaker, FAILURES)
    assert await refused(breaker)
    breaker.hear_of_life()
    await fail(breaker, 1)
    assert await refused(breaker)
    breaker.hear_of_life()
    assert await breaker.call(good) == "done"
    breaker.hear_of_life()
    assert not await refused(breaker)
    clock.now += 1.0
    await fail(breaker, FAILURES)
    assert await refused(breaker)


async def test_a_try_that_is_cancelled_shows_nothing_and_leaves_the_next_one_to_try(
    breaker: Breaker, clock: Clock
) -> None:
    """Neither closed nor another thirty seconds of refusals."""
    await fail(breaker, FAILURES)
    clock.now += OPEN_S
    task = await begin(breaker, Gate())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await breaker.call(good) == "done"
    assert not breaker.is_failing


@pytest.mark.parametrize("ends_well", [True, False])
async def test_a_call_that_began_before_says_nothing_about_what_came_after(
    breaker: Breaker, clock: Clock, *, ends_well: bool
) -> None:
    """A late answer does not close what has opened since, and a late failure does not open what has closed."""
    late = [Gate() for _ in range(FAILURES)]
    tasks = [await begin(breaker, gate) for gate in late]
    await fail(breaker, FAILURES)
    if not ends_well:
        clock.now += OPEN_S
        assert await breaker.call(good) == "done"
    before = breaker.state
    for gate in late:
        if ends_well:
            gate.end.set_result("done")
        else:
            gate.end.set_exception(LogUnavailableError("late"))
    await asyncio.gather(*tasks, return_exceptions=True)
    assert breaker.state is before
    assert breaker.is_failing is ends_well


async def test_a_cancelled_call_is_no_failure(breaker: Breaker) -> None:
    """A client that leaves says nothing of the log."""
    for _ in range(2 * FAILURES):
        task = await begin(breaker, Gate())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (breaker.state, breaker.is_failing) == (State.CLOSED, False)


async def test_a_call_that_failed_while_its_process_stood_still_shows_nothing(breaker: Breaker, clock: Clock) -> None:
    """Frozen for a minute, every request that was under way is late, and the log has nothing to do with that."""
    for _ in range(2 * FAILURES):
        gate = Gate()
        task = await begin(breaker, gate)
        clock.now += 60.0
        gate.end.set_exception(LogUnavailableError("late"))
        with pytest.raises(LogUnavailableError):
            await task
    assert (breaker.state, breaker.is_failing) == (State.CLOSED, False)


async def test_a_try_that_failed_while_its_process_stood_still_leaves_the_next_one_to_try(
    breaker: Breaker, clock: Clock
) -> None:
    """As one that was cancelled."""
    await fail(breaker, FAILURES)
    clock.now += OPEN_S
    gate = Gate()
    task = await begin(breaker, gate)
    clock.now += 60.0
    gate.end.set_exception(LogUnavailableError("late"))
    with pytest.raises(LogUnavailableError):
        await task
    assert await breaker.call(good) == "done"


async def test_each_change_is_logged(breaker: Breaker, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """With the reason of the failure that opened it."""
    caplog.set_level("INFO", logger="tidemark.breaker")
    await fail(breaker, FAILURES)
    clock.now += OPEN_S
    await breaker.call(good)
    told = [(record.levelno, vars(record)["state"], vars(record).get("reason")) for record in caplog.records]
    assert told == [
        (logging.WARNING, "open", "away"),
        (logging.WARNING, "half_open", None),
        (logging.INFO, "closed", None),
    ]
    assert [rung([record]) for record in caplog.records] == [{"LogAway"}, set(), set()]
