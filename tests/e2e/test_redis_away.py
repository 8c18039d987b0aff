"""Redis goes away while streams are open and others want to open, and comes back."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx

from infra.chaos.origin import Origin
from infra.chaos.pushes import traffic
from shared.tokens import mint
from tests.support.gateway import NO_TLS
from tests.support.pubsub_sender import Sender
from tests.support.recorder import Recorder, faults, following, missing
from tests.support.stack import KID, TOKEN_KEY, Stack
from tests.support.waiting import until

logger = logging.getLogger(__name__)

BOX = "ann@example.com"
TOPICS = [f"gmail:{BOX}"]
RECONCILE_S = 2
#: A stream is refused when it has waited this long for its feed and for its first read.
REFUSED_WITHIN_S = 7.0
#: The longest that a refused client is told to wait, and the longest pause between two tries to open a feed.
LONGEST_RETRY_S = 8.0
LONGEST_PAUSE_S = 3.0
MARGIN_S = 5.0


async def test_while_redis_is_away_open_streams_stay_new_ones_are_told_to_come_back_and_all_heals(
    tmp_path: Path,
) -> None:
    """Nothing false is said meanwhile, and nothing is missed afterwards; nobody has to be helped."""
    pushes = traffic([BOX], 6, seed=5)
    steady = Recorder(0, TOPICS, name="steady")
    returning = Recorder(0, TOPICS, name="returning", obeys_retry=True)
    newcomer = Recorder(0, ["gmail:ben@example.com"], name="newcomer")
    async with (
        Stack.running(tmp_path, replay=True, reconcile_s=RECONCILE_S) as stack,
        aclosing(Sender(stack.webhook.port)) as sender,
        httpx.AsyncClient(timeout=15, verify=NO_TLS, trust_env=False) as http,
    ):
        for client in (steady, returning, newcomer):
            client.origin = Origin.local(stack.stream.port)
        async with following(steady):
            async with following(returning):
                await sender.send(pushes[:2], per_s=100)
                await until(lambda: len(steady.events) == len(returning.events) == 2, "both have what was sent")

            stack.redis.kill()
            async with following(returning):
                refused, _ = await asyncio.gather(newcomer.connect_once(), _all_refuse(http, stack))
                await until(lambda: bool(returning.byes), "the returning client is refused")
                sending = asyncio.ensure_future(sender.send(pushes[2:], per_s=100))
                await until(lambda: sender.refusals > 4, "pushes are refused")
                assert steady.live
                await stack.redis.start()
                back_at = time.monotonic()
                await sending
                expected = sender.expected(pushes, TOPICS)
                within_s = LONGEST_PAUSE_S + RECONCILE_S + MARGIN_S
                await until(lambda: not missing(steady, expected), "the open stream heals", timeout_s=within_s)
                healed_s = time.monotonic() - back_at
                within_s = LONGEST_PAUSE_S + LONGEST_RETRY_S + MARGIN_S
                await until(lambda: not missing(returning, expected), "the client came back", timeout_s=within_s)
                returned_s = time.monotonic() - back_at
            await _all_serve(http, stack, len(pushes))
    logger.info("healed %.1f s after Redis was back, the refused client after %.1f s", healed_s, returned_s)
    assert refused.status == 200
    assert refused.byes == [{"reason": "unavailable", "reconnect": True}]
    assert refused.hello is None
    assert refused.ended
    assert 2000 <= int(refused.retries[-1]) <= LONGEST_RETRY_S * 1000
    assert len(steady.connections) == 1
    assert steady.byes == []
    assert {bye["reason"] for bye in returning.byes} == {"unavailable"}
    assert [fault for client in (steady, returning) for fault in faults(client, expected)] == []


def _headers(**more: str) -> dict[str, str]:
    token = mint("ann", TOPICS, kid=KID, key=TOKEN_KEY, ttl_s=600, now=time.time())
    return {"Authorization": f"Bearer {token}", **more}


async def _all_refuse(http: httpx.AsyncClient, stack: Stack) -> None:
    """See what every function says to a client while Redis is away."""
    began = time.monotonic()
    plain, native, replay, ack, *health = await asyncio.gather(
        http.get(f"{stack.stream.url}/events", headers=_headers()),
        http.get(f"{stack.stream.url}/events", headers=_headers(Accept="text/event-stream")),
        http.get(f"{stack.replay.url}/replay?after=earliest", headers=_headers()),
        http.post(f"{stack.replay.url}/ack", headers=_headers(), json={"cursor": "1-0", "client": "a"}),
        *(http.get(f"{part.url}/healthz") for part in (stack.stream, stack.replay, stack.webhook)),
    )
    assert time.monotonic() - began < REFUSED_WITHIN_S
    for answer in (plain, replay, ack):
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] == "log_unavailable"
    assert native.status_code == 200
    assert native.headers["Content-Type"].startswith("text/event-stream")
    retry, event, data = native.text.strip().split("\n")
    assert int(retry.removeprefix("retry: ")) >= 2000
    assert event == "event: tidemark.bye"
    assert json.loads(data.removeprefix("data: ")) == {"reason": "unavailable", "reconnect": True}
    for answer in health:
        assert answer.status_code == 503
        assert "log" in answer.json()["checks"]


async def _all_serve(http: httpx.AsyncClient, stack: Stack, held: int) -> None:
    """See that every function is well again."""
    page: dict[str, Any] = (await http.get(f"{stack.replay.url}/replay?after=earliest", headers=_headers())).json()
    assert len(page["events"]) == held
    assert page["gaps"] == []
    for part in (stack.stream, stack.replay, stack.webhook):
        assert (await http.get(f"{part.url}/healthz")).status_code == 200
    fresh = Recorder(stack.stream.port, TOPICS, name="fresh", start="earliest")
    async with following(fresh):
        await until(lambda: len(fresh.events) == held, "a new stream brings what is held")
    assert fresh.byes == []
