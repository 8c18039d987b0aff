"""Secrets are rotated while mail comes in and clients follow: nothing is lost, and nobody is told of a gap."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
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
PER_S = 100


async def replace(part: Part, **changed: str) -> None:
    """Stop a part as a deployment does, and start it with these settings."""
    part.terminate()
    await until(lambda: part.gone, f"{part.name} ends", timeout_s=10)
    await part.start(**changed)


class Mail:
    """Pushes at a rate, for as long as a test needs them: on a busy machine a process takes its time to start."""

    def __init__(self, sender: Sender) -> None:
        self.pushes: list[Push] = []
        self._sender = sender
        self._enough = False
        self._sending: asyncio.Task[None] | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, sender: Sender) -> AsyncIterator[Mail]:
        """Send while the body runs, or until `last`."""
        mail = cls(sender)
        async with asyncio.TaskGroup() as group:
            mail._sending = group.create_task(mail._send())
            yield mail
            mail._enough = True

    async def last(self) -> None:
        """Send no more; return when all is acknowledged."""
        assert self._sending is not None
        self._enough = True
        await asyncio.wait([self._sending])

    async def _send(self) -> None:
        for seed in itertools.count(1):
            if self._enough:
                return
            more = traffic([BOX], PER_S // 2, seed=seed)
            self.pushes += more
            await self._sender.send(more, per_s=PER_S)


async def some_more(recorder: Recorder) -> None:
    """Wait until a client has got some more mail."""
    enough = len(recorder.events) + 10
    await until(lambda: len(recorder.events) >= enough, "mail goes on", timeout_s=20)


async def test_the_keys_of_client_tokens_are_rotated(tmp_path: Path) -> None:
    """Both count for a while; who still has a token of the old key after that gets a new one and goes on."""
    async with Stack.running(tmp_path) as stack, aclosing(Sender(stack.webhook.port)) as sender:
        port = stack.stream.port
        old = Recorder(port, TOPICS, name="old", start="earliest")
        async with Mail.running(sender) as mail, following(old):
            await some_more(old)
            both = f"{KID}:{TOKEN_KEY},{NEXT[0]}:{NEXT[1]}"
            await replace(stack.stream, TIDEMARK_TOKEN_KEYS=both)
            new = Recorder(port, TOPICS, name="new", key=NEXT, start="earliest")
            async with following(new):
                await asyncio.gather(some_more(old), some_more(new))
                await replace(stack.stream, TIDEMARK_TOKEN_KEYS=f"{NEXT[0]}:{NEXT[1]}")
                await until(lambda: old.current.status == 401, "the old key counts no more")
                await some_more(new)
                expected = sender.expected(mail.pushes, TOPICS)
                assert missing(old, expected) != set()
                renewed = Recorder(port, TOPICS, name="old", key=NEXT, cursor=old.cursor)
                renewed.events.update(old.events)
                async with following(renewed):
                    await some_more(renewed)
                    await mail.last()
                    expected = sender.expected(mail.pushes, TOPICS)
                    await until(lambda: not missing(new, expected) | missing(renewed, expected), "all arrives")
    assert len(expected) == len(mail.pushes)
    assert faults(new, expected) == []
    assert faults(renewed, expected) == []
    assert {bye["reason"] for bye in [*old.byes, *new.byes]} == {"shutdown"}


async def test_the_token_of_the_database_is_rotated(tmp_path: Path) -> None:
    """From its reset until the functions know the new one the log is away: Pub/Sub sends again, streams wait."""
    async with Stack.running(tmp_path) as stack, aclosing(Sender(stack.webhook.port)) as sender:
        steady = Recorder(stack.stream.port, TOPICS, name="steady", start="earliest")
        async with Mail.running(sender) as mail, following(steady):
            await some_more(steady)
            await replace(stack.gateway, **{TOKEN_VARIABLE: NEW_TOKEN})
            refused = sender.refusals
            await until(lambda: sender.refusals > refused + 40, "pushes are refused")
            assert steady.live
            await replace(stack.webhook, UPSTASH_REDIS_REST_TOKEN=NEW_TOKEN)
            await replace(stack.stream, UPSTASH_REDIS_REST_TOKEN=NEW_TOKEN)
            await some_more(steady)
            await mail.last()
            expected = sender.expected(mail.pushes, TOPICS)
            await until(lambda: not missing(steady, expected), "all arrives")
    assert len(expected) == len(mail.pushes)
    assert faults(steady, expected) == []
    assert [bye["reason"] for bye in steady.byes] == ["shutdown"]
