"""Processes that are killed and started again while mail comes in and clients follow."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from infra.chaos.part import Part
from infra.chaos.pushes import traffic
from tests.support.cutting_proxy import seeded
from tests.support.delivery import Delivery
from tests.support.waiting import until

logger = logging.getLogger(__name__)

SEED = 20_262
PUSHES = 2000
PER_S = 200
KILLS_AFTER = (400, 900, 1400)
MAILBOXES = [f"box{n:02}@example.com" for n in range(50)]


@pytest.mark.parametrize("victim", ["stream", "gateway", "redis"])
async def test_what_was_acknowledged_arrives_once_although_a_process_is_killed_three_times(
    tmp_path: Path, victim: str
) -> None:
    """SIGKILL of the stream process, the gateway or Redis costs no client an event, and none is told of a gap.

    Redis runs with ``appendfsync always``, so it forgets nothing that it answered.
    """
    follows = {f"client{n}": [f"gmail:{mailbox}"] for n, mailbox in enumerate(MAILBOXES)}
    plan = seeded(SEED, (1500, 6000), early=2, later_bytes=(4000, 12_000))
    async with Delivery.running(tmp_path, follows, plan=plan) as delivery:
        part: Part = getattr(delivery.stack, victim)

        async def kill_now_and_then() -> None:
            for count in KILLS_AFTER:
                await until(lambda: delivery.sender.started >= count, "mail goes on", timeout_s=60)  # noqa: B023
                attempts = delivery.sender.attempts
                part.kill()
                if victim == "stream":
                    await until(lambda: not any(client.live for client in delivery.clients), "all are cut off")
                else:
                    await until(lambda: delivery.sender.attempts > attempts + 40, "pushes meet the outage")  # noqa: B023
                await part.start()

        async with asyncio.TaskGroup() as group:
            group.create_task(kill_now_and_then())
            group.create_task(delivery.send(traffic(MAILBOXES, PUSHES, seed=SEED), per_s=PER_S))
        await delivery.complete()
    logger.info("%s killed: %s", victim, delivery)
    assert delivery.faults() == []
    assert len(delivery.sender.positions) == PUSHES
