"""Feeds that overtake each other: what a cursor over several mailboxes is worth."""

from __future__ import annotations

import asyncio
import logging
import random
import re

import pytest

from infra.chaos.pushes import traffic
from tests.support.cutting_proxy import seeded
from tests.support.delaying_proxy import Delay
from tests.support.delivery import Delivery
from tests.support.recorder import Recorder, missing

logger = logging.getLogger(__name__)

SEED = 20_263
PUSHES = 1000
PER_S = 150
MAILBOXES = [f"box{n:02}@example.com" for n in range(25)]
MAILBOXES_EACH = 5
CLIENTS = 20
NAIVE_CLIENTS = 10
LONGEST_DELAY_S = 0.4


def _by_mailbox(request_line: str) -> Delay:
    """Delay the feed of each mailbox by its own time, from nothing to the longest."""
    found = re.search(r"/subscribe/.*gmail:box(\d\d)@", request_line)
    return Delay(answer_s=int(found[1]) / (len(MAILBOXES) - 1) * LONGEST_DELAY_S) if found else Delay()


@pytest.fixture(scope="module")
def delivery(tmp_path_factory: pytest.TempPathFactory) -> Delivery:
    """Give the record of one run with careful and with naive clients, all of them cut off now and then."""

    async def run() -> Delivery:
        rng = random.Random(SEED)

        def some() -> list[str]:
            return [f"gmail:{mailbox}" for mailbox in rng.sample(MAILBOXES, MAILBOXES_EACH)]

        follows = {f"client{n}": some() for n in range(CLIENTS)}
        naive = {f"naive{n}": some() for n in range(NAIVE_CLIENTS)}
        plan = seeded(SEED, (1000, 8000), early=3, later_bytes=(4000, 20_000))
        directory = tmp_path_factory.mktemp("delayed")
        async with Delivery.running(directory, follows, naive=naive, plan=plan, delay=_by_mailbox) as running:
            await running.send(traffic(MAILBOXES, PUSHES, seed=SEED), per_s=PER_S)
            await running.complete()
            # What a naive client misses, no reconcile may bring either.
            await asyncio.sleep(2.5)
        logger.info("%s", running)
        return running

    return asyncio.run(run())


def _overtaken(client: Recorder) -> int:
    """Count the events that came after one of another mailbox that stands behind them in the log."""
    count = 0
    for connection in client.connections:
        highest = None
        for arrival in connection.arrivals:
            count += highest is not None and arrival.position < highest
            highest = max(highest or arrival.position, arrival.position)
    return count


def test_a_client_of_several_mailboxes_misses_nothing_although_their_feeds_overtake_each_other(
    delivery: Delivery,
) -> None:
    """The id trails what was sent, so that resuming from it brings what a slow feed still owed."""
    logger.info("overtaken: %s", [_overtaken(client) for client in delivery.clients])
    assert delivery.faults() == []
    assert len(delivery.sender.positions) == PUSHES
    assert all(_overtaken(client) for client in delivery.clients)
    assert delivery.fewest_cuts >= 3


def test_a_client_that_resumes_from_its_last_event_loses_events_in_the_same_run(delivery: Delivery) -> None:
    """The position of the last event is no safe cursor over several mailboxes: this run can tell the difference."""
    lost = [len(missing(client, delivery.expected(client))) for client in delivery.careless]
    logger.info("naive clients lost %s", lost)
    assert sum(count > 0 for count in lost) > NAIVE_CLIENTS / 2
