"""Redis is away under steady traffic: every push is taken, and all of it arrives, once."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from statistics import median

import pytest

from infra.chaos.origin import Origin
from infra.chaos.pushes import traffic
from shared.keys import Keys
from shared.position import Position
from tests.support.log_rig import Redis
from tests.support.recorder import Recorder, faults, following, missing
from tests.support.stack import Stack
from tests.support.steady_traffic import SteadyTraffic, Told, percentile
from tests.support.suspending import suspended
from tests.support.waiting import until

logger = logging.getLogger(__name__)

#: How long Redis is away. The promise is about a minute; its first seconds show all that can go wrong.
LONG = os.environ.get("TIDEMARK_TEST_LONG") == "1"
OUTAGE_S = 60.0 if LONG else 10.0
PER_S = 100
MAILBOXES = [f"box{n:02}@example.com" for n in range(40)]
CLIENTS = 10
#: Once the log is known to be away, 95 of 100 pushes are answered in this time.
P95_S = 0.1
DELIVERED_WITHIN_S = 60.0
#: The first pushes of an outage wait 1.5 s for the log.
OPEN_WITHIN_S = 4.0


@contextlib.asynccontextmanager
async def _redis_hangs(stack: Stack) -> AsyncIterator[None]:
    """Redis takes connections and commands, and answers none; what it was sent meanwhile it does afterwards."""
    with suspended(stack.redis):
        yield


@contextlib.asynccontextmanager
async def _redis_is_gone(stack: Stack) -> AsyncIterator[None]:
    """Redis was killed: connections are refused."""
    stack.redis.kill()
    yield
    await stack.redis.start()


@pytest.mark.timeout(180 + OUTAGE_S)
@pytest.mark.parametrize("outage", [_redis_hangs, _redis_is_gone], ids=["hangs", "gone"])
async def test_every_push_is_taken_while_redis_is_away_and_arrives_once_after_it(
    tmp_path: Path, outage: Callable[[Stack], contextlib.AbstractAsyncContextManager[None]]
) -> None:
    """``published`` or ``queued`` each, quickly once the breaker is open; open streams stay open and miss nothing."""
    clients = _clients()
    async with Stack.running(tmp_path, queues=True) as stack:
        for client in clients:
            client.origin = Origin.local(stack.stream.port)
        pushes = traffic(MAILBOXES, 40_000, seed=41)
        loop = asyncio.get_running_loop()
        async with following(*clients):
            async with SteadyTraffic(stack.webhook.port, pushes, per_s=PER_S).running() as sent:
                await until(lambda: sent.words()["published"] > PER_S, "mail goes through")
                async with outage(stack):
                    away_at = loop.time()
                    await until(lambda: _is_open(stack), "the breaker opens", timeout_s=OPEN_WITHIN_S)
                    open_at = loop.time()
                    await asyncio.sleep(away_at + OUTAGE_S - loop.time())
                    last_at = loop.time()
                back_at = loop.time()
                published = sent.words()["published"]
                await until(lambda: sent.words()["published"] > published + PER_S, "mail goes through", timeout_s=40)
                closed_s = loop.time() - back_at
            expected = [(client, sent.expected(client.topics)) for client in clients]
            within_s = back_at + DELIVERED_WITHIN_S - loop.time()
            await until(
                lambda: not any(missing(client, events) for client, events in expected),
                "everything is delivered",
                timeout_s=within_s,
            )
            delivered_s = loop.time() - back_at
        held = await _held(stack)
    answers_s = [told.took_s for told in sent.between(open_at, last_at)]
    logger.info(
        "away for %.0f s, open after %.2f s; %s; p50 %.1f ms, p95 %.1f ms, most %.0f ms of %d answers while open; "
        "a hundred more were published %.1f s after Redis was back, all was delivered after %.1f s",
        last_at - away_at,
        open_at - away_at,
        dict(sent.words()),
        *(1e3 * percentile(answers_s, percent) for percent in (50, 95, 100)),
        len(answers_s),
        closed_s,
        delivered_s,
    )
    assert set(sent.words()) == {"published", "queued"}
    assert sent.words()["queued"] > (OUTAGE_S - OPEN_WITHIN_S) * PER_S / 2
    assert _usual_p95(sent.between(open_at, last_at)) < P95_S
    assert [fault for client, events in expected for fault in faults(client, events)] == []
    assert [len(client.connections) for client in clients] == [1] * len(clients)
    assert [client.byes for client in clients] == [[]] * len(clients)
    assert held == len(sent.told)
    if outage is _redis_is_gone:
        # What hung may have been stored when Redis went on, before what was queued earlier.
        assert _overtaken(sent, clients) == []


def _clients() -> list[Recorder]:
    """Each follows some of the mailboxes; together they follow them all."""
    return [
        Recorder(0, [f"gmail:{mailbox}" for mailbox in MAILBOXES[n::CLIENTS]], name=f"client{n}")
        for n in range(CLIENTS)
    ]


def _usual_p95(told: Sequence[Told]) -> float:
    """Return the p95 of the answers of a second, as it is in half of the seconds or more.

    The machine of the tests does other work as well, and may stand still for a second or two.
    """
    seconds = itertools.groupby(sorted(told, key=lambda one: one.began), key=lambda one: int(one.began))
    return median(percentile([one.took_s for one in within], 95) for _, within in seconds)


def _is_open(stack: Stack) -> bool:
    return '"state": "open"' in stack.webhook.log()


async def _held(stack: Stack) -> int:
    """Count the entries of all mailboxes."""
    redis = Redis(f"redis://127.0.0.1:{stack.redis.port}")
    try:
        return sum([await redis("XLEN", Keys("dev").log(f"gmail:{mailbox}")) for mailbox in MAILBOXES])
    finally:
        await redis.close()


def _overtaken(sent: SteadyTraffic, clients: Sequence[Recorder]) -> list[str]:
    """Find pushes that were queued when an earlier one of their mailbox was in the queue already, and came first."""
    arrived: dict[str, Position] = {}
    for client in clients:
        arrived |= {key[1]: arrival.position for key, arrival in client.events.items()}
    queued = sorted((told for told in sent.told if told.word == "queued"), key=lambda told: told.began)
    return [
        f"{second.push} at {arrived[second.push.message_id]} before {first.push}"
        for mailbox in MAILBOXES
        for first, second in itertools.pairwise(told for told in queued if told.push.mailbox == mailbox)
        if first.ended < second.began and arrived[second.push.message_id] < arrived[first.push.message_id]
    ]
