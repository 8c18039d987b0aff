"""The log behind its circuit breaker: what counts against it, and what closes it again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from shared.breaker import FAILURES, OPEN_S, Breaker, State
from shared.counts import Counts
from shared.errors import CircuitOpenError, LogDefectError, LogUnavailableError, Trouble
from shared.hub import Hub
from shared.live import LiveFeed
from shared.log import EARLIEST, From, Log
from shared.position import Position
from tests.support.faulty_gateway import Answer, FaultyGateway
from tests.support.gateway import RedisServer
from tests.support.log_rig import Rig, envelope, rig
from tests.support.stream_rig import Recorder
from tests.support.waiting import until

TOPIC = "gmail:ann@example.com"


def guarded(mine: Rig) -> tuple[Log, Breaker]:
    """Give a log behind a breaker that waits for half a minute at once, so that no test waits it out."""
    breaker = Breaker("log", Counts(), counts_against=LogUnavailableError, first_open_s=OPEN_S)
    return Log(mine.upstash, mine.keys, mine.retention, breaker=breaker), breaker


async def append(log: Log, number: int = 1) -> None:
    await log.append(topic=TOPIC, envelope=envelope(number), subscription="s", message_id=f"m{number}")


OPERATIONS: dict[str, Callable[[Log], Awaitable[object]]] = {
    "append": append,
    "read": lambda log: log.read({TOPIC: From(EARLIEST)}, limit=1),
    "glance": lambda log: log.glance(revoked_after_ms=0),
    "ack": lambda log: log.ack("ann", "tab", Position(1, 0)),
    "acked": lambda log: log.acked("ann", "tab"),
    "revoke": lambda log: log.revoke("ann"),
    "fence": lambda log: log.fence(Position(1, 0)),
    "forget": lambda log: log.forget(TOPIC),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (Answer.error("LOADING Redis is loading the dataset in memory"), Trouble.LOADING),
        (Answer(200, b'{"result":["what","is","this"]}'), Trouble.UNREADABLE),
        (Answer(502, b"<html>"), Trouble.UNREADABLE),
    ],
)
async def test_every_operation_counts_and_is_refused_at_once_when_the_breaker_is_open(
    faulty: FaultyGateway,
    redis_server: RedisServer,
    operation: Callable[[Log], Awaitable[object]],
    answer: Answer,
    trouble: Trouble,
) -> None:
    """An answer that cannot be our script's is no sign of life, whatever its status."""
    async with rig(redis_server.url, faulty.url, faulty.token) as mine:
        log, breaker = guarded(mine)
        faulty.refuse = lambda _name: answer
        for _ in range(FAILURES):
            with pytest.raises(LogUnavailableError) as caught:
                await operation(log)
            assert caught.value.trouble is trouble
        assert breaker.state is State.OPEN
        asked = faulty.total()
        for refused in OPERATIONS.values():
            with pytest.raises(CircuitOpenError):
                await refused(log)
        assert faulty.total() == asked
        assert log.is_failing


async def test_defects_of_ours_do_not_count(mine: Rig) -> None:
    """They show that Redis is there; a breaker could not mend them."""
    log, breaker = guarded(mine)
    await mine.redis("SET", mine.keys.log(TOPIC), "no stream")
    for number in range(2 * FAILURES):
        with pytest.raises(LogDefectError):
            await append(log, number)
    assert (breaker.state, breaker.is_failing) == (State.CLOSED, False)


async def test_a_feed_that_opens_again_lets_the_log_be_tried_at_once(
    faulty: FaultyGateway, redis_server: RedisServer
) -> None:
    """Streams do not wait out the breaker when Redis has already confirmed their subscription."""
    async with rig(redis_server.url, faulty.url, faulty.token) as mine:
        log, breaker = guarded(mine)
        hub = Hub(log, LiveFeed(faulty.url, faulty.token, mine.keys), reconcile_s=3600)
        follower = Recorder()
        hub.start()
        try:
            await hub.join(follower, [TOPIC])
            hub.seed(await log.read({TOPIC: From(EARLIEST)}, limit=1))
            faulty.refuse = lambda _name: Answer.error("LOADING")
            for _ in range(FAILURES):
                with pytest.raises(LogUnavailableError):
                    await append(log)
            assert breaker.state is State.OPEN
            faulty.refuse = lambda _name: None
            faulty.cut_feeds()
            await until(lambda: breaker.state is State.CLOSED, "the breaker is closed", timeout_s=10)
            await append(log)
        finally:
            hub.leave(follower, [TOPIC])
            await hub.close()


async def test_one_operation_tries_for_all(faulty: FaultyGateway, redis_server: RedisServer) -> None:
    """While it is under way the others are refused."""
    async with rig(redis_server.url, faulty.url, faulty.token) as mine:
        log, _ = guarded(mine)
        faulty.refuse = lambda _name: Answer.error("LOADING")
        for _ in range(FAILURES):
            with pytest.raises(LogUnavailableError):
                await append(log)
        faulty.refuse = lambda _name: None
        log.hear_of_life()
        with faulty.holding("append", count=1) as held:
            trying = asyncio.ensure_future(append(log))
            await held.until_arrived()
            with pytest.raises(CircuitOpenError):
                await OPERATIONS["glance"](log)
            held.release()
            await trying
        await OPERATIONS["glance"](log)
        assert not log.is_failing
