"""The stream process ends, and clients that leave early."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

from infra.chaos.pushes import Push, traffic
from infra.local.loopback import shut
from shared.tokens import mint
from tests.support.log_rig import Redis
from tests.support.pubsub_sender import Sender
from tests.support.recorder import Recorder, faults, following, missing
from tests.support.stack import BYPASS_SECRET, KID, TOKEN_KEY, Stack
from tests.support.waiting import until

logger = logging.getLogger(__name__)

MAILBOXES = [f"box{n:02}@example.com" for n in range(20)]
ENDS_WITHIN_S = 3.0
USERS = 334


async def test_a_stream_process_that_is_told_to_end_says_goodbye_to_every_client_and_ends_in_time(
    tmp_path: Path,
) -> None:
    """SIGTERM: each stream ends with `bye` `shutdown`; with the next process the clients go on where they were."""
    pushes = traffic(MAILBOXES, 300, seed=6)
    async with (
        Stack.running(tmp_path) as stack,
        aclosing(Sender(stack.webhook.port)) as sender,
    ):
        port = stack.stream.port
        clients = [Recorder(port, [f"gmail:{box}"], name=f"client{n}") for n, box in enumerate(MAILBOXES)]
        clients.append(Recorder(port, [f"gmail:{box}" for box in MAILBOXES], name="all"))
        async with following(*clients), asyncio.TaskGroup() as group:
            sending = group.create_task(sender.send(pushes, per_s=100))
            await until(lambda: sender.started > 100, "mail comes in")
            streams = [client.current for client in clients]
            stack.stream.terminate()
            told_at = time.monotonic()
            await until(lambda: stack.stream.gone, "the process has ended", timeout_s=2 * ENDS_WITHIN_S)
            took_s = time.monotonic() - told_at
            await stack.stream.start()
            await sending
            expected = {client: sender.expected(pushes, client.topics) for client in clients}
            await until(lambda: not any(missing(*pair) for pair in expected.items()), "all came")
    logger.info("ended %.2f s after SIGTERM", took_s)
    assert took_s < ENDS_WITHIN_S
    assert [stream.byes for stream in streams] == [[{"reason": "shutdown", "reconnect": True}]] * len(clients)
    assert all(stream.ended for stream in streams)
    assert [fault for client in clients for fault in faults(client, expected[client])] == []


async def test_a_thousand_streams_are_ended_and_their_slots_given_back_within_two_seconds(tmp_path: Path) -> None:
    """Three of each user: what they held is free for the next process at once."""
    async with Stack.running(tmp_path) as stack, contextlib.AsyncExitStack() as closing:
        redis = Redis(f"redis://127.0.0.1:{stack.redis.port}")
        closing.push_async_callback(redis.close)
        bodies = [
            body
            for first in range(0, USERS, 10)
            for of_each in await asyncio.gather(
                *(
                    _follow_thrice(stack.stream.port, f"user{n}", closing)
                    for n in range(first, min(first + 10, USERS))
                )
            )
            for body in of_each
        ]
        slots = await redis("KEYS", "tidemark:*:slots:*")
        assert (len(slots), sum([await redis("HLEN", key) for key in slots])) == (USERS, 3 * USERS)
        stack.stream.terminate()
        told_at = time.monotonic()
        async with asyncio.timeout(10):
            said = await asyncio.gather(*(body.read() for body in bodies))
        took_s = time.monotonic() - told_at
        assert await redis("KEYS", "tidemark:*:slots:*") == []
    logger.info("said goodbye to %d streams within %.2f s", len(said), took_s)
    assert took_s < 2
    goodbye = b'event: tidemark.bye\ndata: {"reason":"shutdown","reconnect":true}\n\n'
    assert all(body.count(goodbye) == 1 for body in said)
    # The last chunk of a body that came to its proper end (RFC 9112, section 7.1).
    assert all(body.endswith(b"0\r\n\r\n") for body in said)


async def _follow_thrice(port: int, user: str, closing: contextlib.AsyncExitStack) -> list[asyncio.StreamReader]:
    return [await _follow(port, user, f"tab{number}", closing) for number in range(3)]


async def _follow(port: int, user: str, client: str, closing: contextlib.AsyncExitStack) -> asyncio.StreamReader:
    """Open a stream; return what reads its body from after the hello."""
    topic = f"gmail:{user}@example.com"
    token = mint(user, [topic], kid=KID, key=TOKEN_KEY, ttl_s=600, now=time.time())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    closing.push_async_callback(shut, writer)
    lines = [
        f"GET /events?client={client} HTTP/1.1",
        "Host: 127.0.0.1",
        "Accept: text/event-stream",
        f"Authorization: Bearer {token}",
        f"X-Tidemark-Bypass: {BYPASS_SECRET}",
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    async with asyncio.timeout(10):
        await reader.readuntil(b"event: tidemark.hello")
    return reader


async def test_a_client_that_got_only_the_greeting_misses_nothing_when_it_returns_with_its_id(
    tmp_path: Path,
) -> None:
    """Hello carries the start cursor as its id: to the same process, and to another one."""
    pushes = traffic(MAILBOXES[:1], 6, seed=7)
    async with (
        Stack.running(tmp_path) as stack,
        aclosing(Sender(stack.webhook.port)) as sender,
    ):
        early = [Recorder(stack.stream.port, [f"gmail:{MAILBOXES[0]}"], name=name) for name in ("one", "two")]
        async with following(*early):
            pass
        assert not any(client.events for client in early)

        await sender.send(pushes[:3], per_s=100)
        await _return(early[0], sender, pushes[:3])

        stack.stream.kill()
        await sender.send(pushes[3:], per_s=100)
        await stack.stream.start()
        await _return(early[1], sender, pushes)


async def _return(client: Recorder, sender: Sender, pushes: Sequence[Push]) -> None:
    """Let a client come back with its cursor, until it has every event since then."""
    async with following(client):
        await until(lambda: len(client.events) == len(pushes), "it has what was sent")
    assert faults(client, sender.expected(pushes, client.topics)) == []
