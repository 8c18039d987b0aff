"""A process at size: three thousand streams of a thousand users, and what that costs."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from tests.support.app_rig import StreamApp, Visit
from tests.support.gateway import GatewayProcess
from tests.support.log_rig import Rig
from tests.support.stream_rig import eventually

USERS, STREAMS_EACH = 1000, 3
RECONCILE_S = 1


def requests(gateway: GatewayProcess) -> int:
    """Count what the gateway was asked: commands and pipelines."""
    counted = gateway.stats()["requests"]
    return int(counted["command"] + counted["pipeline"])


def all_answered(visits: list[Visit]) -> bool:
    """Tell whether each has got something."""
    return all(visit.body for visit in visits)


async def test_a_thousand_users_with_three_streams_each_cost_next_to_nothing(
    mine: Rig, gateway: GatewayProcess
) -> None:
    """A topic each: at most 50 connections, no request for a delivered event, one an interval while nothing happens;
    and when all of them leave no slot is left.
    """  # noqa: D205 - one sentence is not enough
    most = 0
    async with StreamApp.running(gateway, mine.keys.stage, TIDEMARK_RECONCILE_S=str(RECONCILE_S)) as app:
        deps = app.deps

        def connections() -> int:
            return deps.hub._live.open_connections + deps.log._upstash.open_connections

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, connections())
                await asyncio.sleep(0.01)

        watching = asyncio.ensure_future(watch())
        visits: list[Visit] = []
        for start in range(0, USERS, 250):
            visits += [
                app.visit(f"user{user}", f"t:{user}", client=f"tab{tab}")
                for user in range(start, start + 250)
                for tab in range(STREAMS_EACH)
            ]
            await eventually(partial(all_answered, visits), "they are greeted", timeout_s=30)
        assert all(visit.named("hello") and not visit.over for visit in visits)
        # The clock stands still: one look sees every topic begun, and from then on it is one request each time.
        await app.reconcile()
        before, began = requests(gateway), time.monotonic()
        log = mine.quick()
        written = {user: (await mine.append(log, f"t:{user}")).position for user in range(0, USERS, 50)}
        for user, position in written.items():
            for visit in visits[user * STREAMS_EACH :][:STREAMS_EACH]:
                await eventually(lambda v=visit: bool(v.events), "its event")  # type: ignore[misc]
                assert [event["position"] for event in visit.events] == [str(position)]
        intervals = (time.monotonic() - began) / RECONCILE_S
        # The clock has moved: a reconcile may look after every topic, in two chunks.
        assert requests(gateway) - before <= 3 * (intervals + 1)
        assert sum(len(visit.events) for visit in visits) == len(written) * STREAMS_EACH
        await app.reconcile()
        before, began = requests(gateway), time.monotonic()
        await asyncio.sleep(3 * RECONCILE_S)
        intervals = (time.monotonic() - began) / RECONCILE_S
        assert 1 <= requests(gateway) - before <= intervals + 1
        assert most <= 50
        watching.cancel()
        for visit in visits:
            visit.leave()
        await asyncio.gather(*(visit.task for visit in visits))
        assert await mine.redis("KEYS", f"tidemark:{mine.keys.stage}:slots:*") == []
