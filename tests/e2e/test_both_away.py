"""Redis and the queues are away at the same time: pushes are refused, and all that is acknowledged arrives."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest

from infra.chaos.origin import Origin
from infra.chaos.pushes import traffic
from infra.local.mail import push_body
from tests.support.gateway import NO_TLS
from tests.support.pubsub_sender import Sender
from tests.support.recorder import Recorder, faults, following, missing
from tests.support.stack import BYPASS_SECRET, Stack
from tests.support.waiting import until

logger = logging.getLogger(__name__)

MAILBOXES = [f"box{n:02}@example.com" for n in range(20)]
PUSHES = 900
PER_S = 100
ANSWER_S = 3.0
#: What a message may be hidden for, and what it takes besides.
DELIVERED_WITHIN_S = 40.0


@pytest.mark.parametrize("first_back", ["redis", "queues"])
async def test_with_redis_and_queues_killed_pushes_are_refused_and_whatever_was_acknowledged_arrives(
    tmp_path: Path, first_back: str
) -> None:
    """503 and Retry-After while both are away; sent again until they are acknowledged, all arrive once.

    First Redis is killed, so that pushes are queued, and then the queues with them in it.
    """
    pushes = traffic(MAILBOXES, PUSHES, seed=43)
    clients = [Recorder(0, [f"gmail:{box}" for box in MAILBOXES[n::4]], name=f"client{n}") for n in range(4)]
    async with (
        Stack.running(tmp_path, queues=True) as stack,
        aclosing(Sender(stack.webhook.port, seed=43)) as sender,
        httpx.AsyncClient(timeout=15, verify=NO_TLS, trust_env=False) as http,
    ):
        for client in clients:
            client.origin = Origin.local(stack.stream.port)
        async with following(*clients):
            sending = asyncio.ensure_future(sender.send(pushes, per_s=PER_S))
            await until(lambda: _words(sender)["published"] > PER_S, "pushes are published")
            stack.redis.kill()
            await until(lambda: _words(sender)["queued"] > PER_S, "pushes are queued")
            stack.queues.kill()
            await until(lambda: _statuses(sender)[503] > PER_S // 2, "pushes are refused")
            refused = await _push(http, stack)
            first, second = (stack.redis, stack.queues) if first_back == "redis" else (stack.queues, stack.redis)
            before = len(sender.acknowledged)
            await first.start()
            await until(lambda: len(sender.acknowledged) > before + PER_S // 2, "pushes are taken", timeout_s=40)
            await second.start()
            await sending
            expected = [(client, sender.expected(pushes, client.topics)) for client in clients]
            await until(
                lambda: not any(missing(client, events) for client, events in expected),
                "all is delivered",
                timeout_s=DELIVERED_WITHIN_S,
            )
    logger.info("attempts by status: %s, acknowledged: %s", dict(_statuses(sender)), dict(_words(sender)))
    assert refused.status_code == 503
    assert refused.json()["code"] == "queue_unavailable"
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.elapsed.total_seconds() < ANSWER_S
    assert set(_statuses(sender)) == {200, 503}
    assert len(sender.acknowledged) == PUSHES
    assert [fault for client, events in expected for fault in faults(client, events)] == []
    assert [len(client.connections) for client in clients] == [1] * len(clients)


def _words(sender: Sender) -> Counter[str]:
    return Counter(attempt.word for made in sender.attempts_of.values() for attempt in made)


def _statuses(sender: Sender) -> Counter[int | None]:
    return Counter(attempt.status for made in sender.attempts_of.values() for attempt in made)


async def _push(http: httpx.AsyncClient, stack: Stack) -> httpx.Response:
    """Push one that nobody follows."""
    body = push_body("nobody@example.com", 1, "1")
    return await http.post(f"{stack.webhook.url}/push", json=body, headers={"X-Tidemark-Bypass": BYPASS_SECRET})
