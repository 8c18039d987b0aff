"""A thousand streams on one process: it is killed, and all of them are back on another with nothing missed."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import aclosing
from pathlib import Path

from infra.chaos.origin import Origin
from infra.chaos.pushes import traffic
from shared.keys import Keys
from tests.support.log_rig import Redis
from tests.support.pubsub_sender import Sender
from tests.support.recorder import Recorder, faults, following, missing
from tests.support.stack import Stack
from tests.support.waiting import until

logger = logging.getLogger(__name__)

STREAMS = 1000
MAILBOXES = [f"box{n:03}@example.com" for n in range(250)]
PUSHES = 1500
PER_S = 120


async def test_a_thousand_streams_of_a_killed_process_are_back_on_another_and_none_is_refused_for_its_ghost(
    tmp_path: Path,
) -> None:
    """A user may have one stream here, and one more is refused: who comes back takes its own place.

    Nobody gives the slots of the dead process back: each is taken over by its client, and none is left over.
    """
    pushes = traffic(MAILBOXES, PUSHES, seed=51)
    settings = {"TIDEMARK_STREAM_POLICY": "reject", "TIDEMARK_MAX_STREAMS_PER_USER": "1"}
    async with (
        Stack.running(tmp_path, second_stream=True, settings=settings) as stack,
        aclosing(Sender(stack.webhook.port)) as sender,
    ):
        clients = [
            Recorder(stack.stream.port, [f"gmail:{MAILBOXES[n % len(MAILBOXES)]}"], name=f"client{n}")
            for n in range(STREAMS)
        ]
        async with following(*clients, greeted_in_s=60), asyncio.TaskGroup() as group:
            sending = group.create_task(sender.send(pushes, per_s=PER_S))
            await until(lambda: sender.started > PUSHES // 4, "mail comes in", timeout_s=30)
            for client in clients:
                client.origin = Origin.local(stack.second_stream.port)
            stack.stream.kill()
            loop = asyncio.get_running_loop()
            killed_at = loop.time()
            await until(lambda: all(_greeted(client) >= 2 for client in clients), "all are back", timeout_s=60)
            back_s = loop.time() - killed_at
            await sending
            expected = {client: sender.expected(pushes, client.topics) for client in clients}
            await until(lambda: not any(missing(*pair) for pair in expected.items()), "all came", timeout_s=30)
            slots = await _slots(stack)
    logger.info("all were back %.1f s after the kill", back_s)
    assert [fault for client in clients for fault in faults(client, expected[client])] == []
    assert len(expected[clients[0]]) > 0
    assert Counter(map(_greeted, clients)) == {2: STREAMS}
    # What met the process while it died has no status; nothing was answered 429.
    assert {connection.status for client in clients for connection in client.connections} <= {200, None}
    assert [bye for client in clients for bye in client.byes if bye["reason"] != "shutdown"] == []
    assert slots == {Keys("dev").slots(client.name): 1 for client in clients}


def _greeted(client: Recorder) -> int:
    """Count the connections on which it was greeted."""
    return sum(connection.hello is not None for connection in client.connections)


async def _slots(stack: Stack) -> dict[str, int]:
    """Count the slots of each user."""
    redis = Redis(f"redis://127.0.0.1:{stack.redis.port}")
    try:
        return {key: await redis("HLEN", key) for key in await redis("KEYS", "tidemark:*:slots:*")}
    finally:
        await redis.close()
