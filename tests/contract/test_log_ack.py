"""Acks: the cursor up to which a client has everything, kept per user and client, never moving backwards."""

from __future__ import annotations

import asyncio
from itertools import permutations

import pytest

from shared.errors import CursorAheadError, LogDefectError, LogUnavailableError
from shared.position import ZERO, Position
from tests.support.faulty_gateway import FaultyGateway
from tests.support.gateway import GatewayProcess, RedisServer
from tests.support.log_rig import DAY_S, Rig, rig

TOPIC = "gmail:a@b.c"


async def test_a_client_that_never_acked_has_no_cursor(mine: Rig) -> None:
    """None, not zero."""
    assert await mine.log().acked("user", "client") is None


async def test_an_ack_is_kept_for_the_retention_time(mine: Rig) -> None:
    """Each ack begins it anew, also one that changes nothing."""
    log = mine.log()
    first, second = await mine.positions(log, TOPIC, 2)
    key = mine.keys.ack("user", "client")
    for cursor, kept in ((second, second), (first, second), (second, second)):
        assert await log.ack("user", "client", cursor) == kept
        assert await mine.log().acked("user", "client") == kept
        assert DAY_S - 5 < await mine.redis("TTL", key) <= DAY_S
        await mine.redis("EXPIRE", key, 10)


async def test_acks_of_other_users_and_clients_are_their_own(mine: Rig) -> None:
    """Also where their names run together."""
    log = mine.log()
    names = [("user", "a"), ("user", "b"), ("usera", "b"), ("use", "ra"), ("user:a", "b")]
    cursors = await mine.positions(log, TOPIC, len(names))
    for (user, client), cursor in zip(names, cursors, strict=True):
        await log.ack(user, client, cursor)
    assert [await log.acked(user, client) for user, client in names] == cursors


async def test_acks_in_any_order_leave_the_highest(mine: Rig) -> None:
    """By number, not by text: 10 is above 9."""
    log = mine.log()
    (clock,) = await mine.positions(log, TOPIC, 1)
    cursors = [Position(9, 5), Position(10, 9), Position(10, 10), clock]
    for number, order in enumerate(permutations(cursors)):
        for cursor in order:
            await log.ack("user", f"c{number}", cursor)
        assert await log.acked("user", f"c{number}") == clock


async def test_parallel_acks_leave_the_highest(mine: Rig) -> None:
    """From several processes at once."""
    logs = [mine.log() for _ in range(3)]
    cursors = await mine.positions(mine.quick(), TOPIC, 30)
    await asyncio.gather(*(logs[n % 3].ack("user", "client", cursor) for n, cursor in enumerate(cursors)))
    assert await logs[0].acked("user", "client") == cursors[-1]


async def test_a_cursor_beyond_the_clock_is_refused_and_changes_nothing(mine: Rig) -> None:
    """The one at the clock is not beyond it."""
    log = mine.log()
    (clock,) = await mine.positions(log, TOPIC, 1)
    for ahead in (Position(clock.ms, clock.seq + 1), Position(clock.ms + 1, 0), Position(2**53 - 1, 2**53 - 1)):
        with pytest.raises(CursorAheadError):
            await log.ack("user", "client", ahead)
        assert await log.acked("user", "client") is None
    assert await log.ack("user", "client", clock) == clock
    with pytest.raises(CursorAheadError):
        await log.ack("user", "client", Position(clock.ms, clock.seq + 1))
    assert await log.acked("user", "client") == clock


async def test_the_largest_cursor_there_is_keeps_all_its_digits(mine: Rig) -> None:
    """Lua's numbers hold what a position may hold."""
    await mine.redis("SET", mine.keys.clock, f"{2**53 - 1}-{2**53 - 1}")
    await mine.redis("SET", mine.keys.born, "0-0")
    log = mine.log()
    largest = Position(2**53 - 1, 2**53 - 2)
    assert await log.ack("user", "client", largest) == largest
    assert await log.acked("user", "client") == largest


async def test_an_ack_to_a_log_that_has_forgotten_it_gives_way(mine: Rig) -> None:
    """After a wipe the kept cursor may lie beyond the clock; it would hold the client up for ever."""
    log = mine.log()
    (cursor,) = await mine.positions(log, TOPIC, 1)
    key = mine.keys.ack("user", "client")
    await mine.redis("SET", key, f"{cursor.ms + 60_000}-0")
    assert await log.ack("user", "client", cursor) == cursor
    assert await log.acked("user", "client") == cursor


async def test_an_ack_to_an_empty_log_makes_it(mine: Rig) -> None:
    """Zero is below every clock."""
    assert await mine.log().ack("user", "client", ZERO) == ZERO
    assert await mine.position_at(mine.keys.born) == await mine.position_at(mine.keys.clock)


async def test_an_ack_that_fails_says_so_and_keeps_what_was_kept(mine: Rig, redis_server: RedisServer) -> None:
    """A refusal is temporary, a wrong type is a defect, a lost answer is retried."""
    async with (
        FaultyGateway.running(redis_server.url) as faulty,
        rig(redis_server.url, faulty.url, faulty.token) as far,
    ):
        far.keys = mine.keys
        log = far.log()
        first, second = await mine.positions(mine.quick(), TOPIC, 2)
        await log.ack("user", "client", first)
        faulty.rewrite = lambda command: ["EVAL", "return redis.call('NO SUCH COMMAND')", 0, *command[-4:]]
        with pytest.raises(LogUnavailableError):
            await log.ack("user", "client", second)
        faulty.rewrite = None
        assert await log.acked("user", "client") == first
        faulty.lose_answers("ack")
        assert await log.ack("user", "client", second) == second
    key = mine.keys.ack("user", "client")
    await mine.redis("DEL", key)
    await mine.redis("RPUSH", key, "x")
    with pytest.raises(LogDefectError, match="WRONGTYPE"):
        await mine.log().acked("user", "client")
    # Acknowledging again replaces it.
    assert await mine.log().ack("user", "client", first) == first
    assert await mine.log().acked("user", "client") == first


async def test_an_ack_is_one_http_request(mine: Rig, gateway: GatewayProcess) -> None:
    """And so is asking for it."""
    log = mine.log()
    (cursor,) = await mine.positions(log, TOPIC, 1)
    before = gateway.stats()["requests"]["command"]
    await log.ack("user", "client", cursor)
    await log.acked("user", "client")
    assert gateway.stats()["requests"]["command"] - before == 2
