"""Secrets are rotated while mail comes in and clients follow: nothing is lost, and nobody is told of a gap."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from infra.chaos.part import Part
from infra.chaos.pushes import Push, traffic
from infra.local.gateway import TOKEN_VARIABLE
from tests.support.pubsub_sender import Sender
from tests.support.recorder import Recorder, faults, following, missing
from tests.support.stack import KID, TOKEN_KEY, Stack
from tests.support.waiting import until

BOX = "ann@example.com"
TOPICS = [f"gmail:{BOX}"]
NEXT = ("next", "n" * 32)
NEW_TOKEN = "t" * 32
PUSHES = 800
PER_S = 100


async def replace(part: Part, **changed: str) -> None:
    """Stop a part as a deployment does, and start it with these settings."""
    part.terminate()
    await until(lambda: part.gone, f"{part.name} ends", timeout_s=10)
    await part.start(**changed)


@contextlib.asynccontextmanager
async def mail(sender: Sender) -> AsyncIterator[list[Push]]:
    """Send pushes at a rate while the body runs, and until all of them are acknowledged."""
    pushes = traffic([BOX], PUSHES, seed=11)
    async with asyncio.TaskGroup() as group:
        group.create_task(sender.send(pushes, per_s=PER_S))
        yield pushes


async def some_more(recorder: Recorder) -> None:
    """Wait until a client has got some more mail."""
    enough = len(recorder.events) + 10
    await until(lambda: len(recorder.events) >= enough, "mail goes on", timeout_s=20)


async def test_the_keys_of_client_tokens_are_rotated(tmp_path: Path) -> None:
    """Both count for a while; who still has a token of the old key after that gets a new one and goes on."""
    async with Stack.running(tmp_path) as stack, aclosing(Sender(stack.webhook.port)) as sender:
        port = stack.stream.port
        old = Recorder(port, TOPICS, name="old", start="earliest")
        async with mail(sender) as pushes, following(old):
            await some_more(old)
            both = f"{KID}:{TOKEN_KEY},{NEXT[0]}:{NEXT[1]}"
            await replace(stack.stream, TIDEMARK_TOKEN_KEYS=both)
            new = Recorder(port, TOPICS, name="new", key=NEXT, start="earliest")
            async with following(new):
                await asyncio.gather(some_more(old), some_more(new))
                await replace(stack.stream, TIDEMARK_TOKEN_KEYS=f"{NEXT[0]}:{NEXT[1]}")
                await until(lambda: old.current.status == 401, "the old key counts no more")
                await some_more(new)
                expected = sender.expected(pushes, TOPICS)
                assert missing(old, expected) != set()
                renewed = Recorder(port, TOPICS, name="old", key=NEXT, cursor=old.cursor)
                renewed.events.update(old.events)
                async with following(renewed):
                    await some_more(renewed)
                    await until(lambda: len(sender.positions) == PUSHES, "all is acknowledged", timeout_s=30)
                    expected = sender.expected(pushes, TOPICS)
                    await until(lambda: not missing(new, expected) | missing(renewed, expected), "all arrives")
    assert len(expected) == PUSHES
    assert faults(new, expected) == []
    assert faults(renewed, expected) == []
    assert {bye["reason"] for bye in [*old.byes, *new.byes]} == {"shutdown"}


async def test_the_token_of_the_database_is_rotated(tmp_path: Path) -> None:
    """From its reset until the functions know the new one the log is away: Pub/Sub sends again, streams wait."""
    async with Stack.running(tmp_path) as stack, aclosing(Sender(stack.webhook.port)) as sender:
        steady = Recorder(stack.stream.port, TOPICS, name="steady", start="earliest")
        async with mail(sender) as pushes, following(steady):
            await some_more(steady)
            await replace(stack.gateway, **{TOKEN_VARIABLE: NEW_TOKEN})
            refused = sender.refusals
            await until(lambda: sender.refusals > refused + 40, "pushes are refused")
            assert steady.live
            await replace(stack.webhook, UPSTASH_REDIS_REST_TOKEN=NEW_TOKEN)
            await replace(stack.stream, UPSTASH_REDIS_REST_TOKEN=NEW_TOKEN)
            await until(lambda: len(sender.positions) == PUSHES, "all is acknowledged", timeout_s=40)
            expected = sender.expected(pushes, TOPICS)
            await until(lambda: not missing(steady, expected), "all arrives")
    assert len(expected) == PUSHES
    assert faults(steady, expected) == []
    assert [bye["reason"] for bye in steady.byes] == ["shutdown"]
