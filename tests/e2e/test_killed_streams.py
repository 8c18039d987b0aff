"""A process with a thousand streams vanishes while mail flows: all go on elsewhere, no dead stream is in the way."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from infra.chaos.origin import Origin
from infra.chaos.pushes import Key, Push, traffic
from infra.chaos.stream_client import Connection
from shared.keys import Keys
from shared.slots import GRACE_S
from tests.support.log_rig import Redis
from tests.support.pubsub_sender import Sender
from tests.support.recorder import Recorder, faults, following, missing
from tests.support.stack import Stack
from tests.support.waiting import until

logger = logging.getLogger(__name__)

LONG = os.environ.get("TIDEMARK_TEST_LONG") == "1"
TABS = 3
MAILBOXES = [f"box{n:03}@example.com" for n in range(334)]
GHOSTS = [f"gone{n}@example.com" for n in range(5)]
PUSHES = 600
PER_S = 100
KILLED_AFTER = 200
#: Longer than the test: whoever changes connections meanwhile does so because of the kill.
STREAM_MAX_S = 60
EXPIRES_WITHIN_S = STREAM_MAX_S + GRACE_S
BACK_WITHIN_S = 20.0
STRICT = {"TIDEMARK_STREAM_POLICY": "reject", "TIDEMARK_STREAM_MAX_S": str(STREAM_MAX_S)}


def _tab(port: int, mailbox: str, name: str) -> Recorder:
    return Recorder(port, [f"gmail:{mailbox}"], name=name, user=mailbox)


@pytest.mark.timeout(180 + EXPIRES_WITHIN_S)
async def test_a_thousand_streams_of_a_killed_process_are_back_on_another_with_nothing_missed(tmp_path: Path) -> None:
    """SIGKILL under the strict policy, every user at its limit: no client is refused because of its own ghost.

    What the dead streams held is taken over at once; what nobody takes over is held until its expiry, and no longer.
    """
    pushes = traffic(MAILBOXES, PUSHES, seed=52)
    async with (
        Stack.running(tmp_path, second_stream=True, settings=STRICT) as stack,
        aclosing(Sender(stack.webhook.port)) as sender,
        _redis(stack) as redis,
    ):
        here, there = stack.stream.port, stack.second_stream.port
        clients = [_tab(here, box, f"tab{n}-{box[:6]}") for box in MAILBOXES for n in range(TABS)]
        gone = [_tab(here, box, f"gone{n}") for box in GHOSTS for n in range(TABS)]
        async with following(*clients, *gone, greeted_in_s=60), asyncio.TaskGroup() as group:
            opened_by = time.time()
            sending = group.create_task(sender.send(pushes, per_s=PER_S))
            await until(lambda: sender.started > KILLED_AFTER, "mail flows")
            dead = {client: client.current for client in clients}
            # The others go on to ask the process that is no more.
            for client in clients:
                client.origin = Origin.local(there)
            stack.stream.kill()
            killed_at, started = time.monotonic(), sender.started
            await until(
                lambda: all(client.live and client.current is not dead[client] for client in clients),
                "all are back",
                timeout_s=BACK_WITHIN_S,
            )
            back_s, meanwhile = time.monotonic() - killed_at, sender.started - started
            holding = {(client.current.hello or {})["connection"] for client in clients}
            held = {box: await _slots(redis, box) for box in MAILBOXES}
            await sending
            expected = _expected(sender, pushes)
            await until(
                lambda: not any(missing(client, expected[client.topics[0]]) for client in clients),
                "everything is delivered",
                timeout_s=BACK_WITHIN_S,
            )
        logger.info(
            "%d streams were back %.2f s after the kill; %d pushes came meanwhile", len(clients), back_s, meanwhile
        )
        assert meanwhile > 0
        assert {name for slots in held.values() for name in slots} == holding, "dead streams' slots were taken over"
        assert [fault for client in clients for fault in faults(client, expected[client.topics[0]])] == []
        assert _refusals(clients) == Counter()
        await _expire(redis, there, opened_by)


@asynccontextmanager
async def _redis(stack: Stack) -> AsyncIterator[Redis]:
    redis = Redis(f"redis://127.0.0.1:{stack.redis.port}")
    try:
        yield redis
    finally:
        await redis.close()


async def _expire(redis: Redis, port: int, opened_by: float) -> None:
    """Those who did not come back: their slots are in nobody's way for longer than they were made for."""
    last = 0.0
    for mailbox in GHOSTS:
        expires = list((await _slots(redis, mailbox)).values())
        assert len(expires) == TABS
        last = max(last, *expires)
        refused = await _first(_tab(port, mailbox, "other"))
        assert refused.status == 429
    assert last <= opened_by + EXPIRES_WITHIN_S
    if LONG:
        await until(lambda: time.time() > last + 0.1, "they expire", timeout_s=EXPIRES_WITHIN_S)
        assert [await _slots(redis, mailbox) for mailbox in GHOSTS] == [{}] * len(GHOSTS)
        async with following(*(_tab(port, GHOSTS[0], f"other{n}") for n in range(TABS))):
            assert len(await _slots(redis, GHOSTS[0])) == TABS


async def _first(client: Recorder) -> Connection:
    async with asyncio.timeout(10):
        return await client.connect_once()


async def _slots(redis: Redis, user: str) -> Mapping[str, float]:
    """Return the connections that hold a slot, each with its expiry in Unix seconds."""
    flat: Sequence[str] = await redis("HGETALL", Keys("dev").slots(user))
    return {c: int(text.split(" ")[1]) / 1000 for c, text in zip(flat[::2], flat[1::2], strict=True)}


def _expected(sender: Sender, pushes: Sequence[Push]) -> Mapping[str, Mapping[Key, str | None]]:
    """Give what was acknowledged, by topic."""
    positions = sender.positions
    found: dict[str, dict[Key, str | None]] = defaultdict(dict)
    for push in pushes:
        found[push.topic][push.key] = positions[push.message_id]
    return found


def _refusals(clients: Sequence[Recorder]) -> Counter[str]:
    """Count the answers that were no stream, and the goodbyes."""
    return Counter(
        str(connection.byes or connection.status)
        for client in clients
        for connection in client.connections
        if connection.byes or connection.status not in (200, None)
    )
