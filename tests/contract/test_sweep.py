"""Looking through a whole queue, over the queue server: every message once, and all of it left as it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from infra.backends import open_queue
from infra.sweep import HIDDEN_S, Sweep, sweeping
from shared.errors import QueueUnavailableError
from shared.sqs import Message
from tests.support.queue_set import QueueSet, event, letter


@asynccontextmanager
async def swept(queues: QueueSet, url: str, said: list[str] | None = None) -> AsyncIterator[Sweep]:
    heard: list[str] = [] if said is None else said
    async with open_queue(url, queues.access) as sqs, sweeping(sqs, heard.append) as sweep:
        yield sweep
    if said is None:
        assert heard == []


async def all_of(sweep: Sweep) -> list[Message]:
    return [message async for messages in sweep.batches() for message in messages]


async def test_every_message_is_seen_once_and_shown_again(queues: QueueSet) -> None:
    """More than SQS gives at a time; while it is looked at nobody else gets any, and afterwards all of it."""
    ids = {queues.bury(letter(event(number))) for number in range(35)}
    async with swept(queues, queues.dead_letters) as sweep:
        found = await all_of(sweep)
        assert len(found) == len(ids)
        assert {message.id for message in found} == ids
        assert not sweep.unfinished
        assert queues.count(queues.dead_letters) == (0, 35, 0)
        assert await sweep.elsewhere() == 0
    assert queues.count(queues.dead_letters) == (35, 0, 0)


async def test_an_empty_queue_is_seen_to_be_empty(queues: QueueSet) -> None:
    """Within a second or two."""
    async with asyncio.timeout(5), swept(queues, queues.dead_letters) as sweep:
        assert await all_of(sweep) == []
        assert await sweep.waiting() == 0


async def test_what_was_deleted_is_gone_and_the_rest_is_not(queues: QueueSet) -> None:
    """In a FIFO queue the next of a group come only when the ones before them are deleted."""
    ann = [queues.put(event(number, "ann@example.com")) for number in range(25)]
    ben = [queues.put(event(f"b{number}", "ben@example.com")) for number in range(12)]
    group = event(0, "ann@example.com").group
    async with swept(queues, queues.delivery) as sweep:
        deleted: list[str] = []
        others: list[str] = []
        async for messages in sweep.batches():
            its = [message for message in messages if message.group == group]
            await sweep.delete(its)
            deleted += [message.id for message in its]
            others += [message.id for message in messages if message not in its]
    assert deleted == ann
    # Some of a group stand for the rest of it.
    assert 0 < len(others) <= 10
    assert others == ben[: len(others)]
    assert queues.count(queues.delivery) == (12, 0, 0)
    assert [message["MessageId"] for message in queues.take(queues.delivery)] == ben[:10]


async def test_it_ends_although_messages_show_again_meanwhile(
    queues: QueueSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep that takes longer than they stay hidden sees them again, and gives none twice."""
    monkeypatch.setattr("infra.sweep.HIDDEN_S", 0)
    ids = {queues.bury(letter(event(number))) for number in range(3)}
    async with asyncio.timeout(20), swept(queues, queues.dead_letters) as sweep:
        found = await all_of(sweep)
        assert len(found) == len(ids)
        assert sweep.unfinished
        await sweep.delete(found)
    assert queues.count(queues.dead_letters) == (0, 0, 0)


async def test_what_is_in_somebody_elses_hands_is_counted(queues: QueueSet) -> None:
    """It cannot be looked at."""
    for number in range(4):
        queues.bury(letter(event(number)))
    taken = queues.client.receive_message(QueueUrl=queues.dead_letters, VisibilityTimeout=60)["Messages"]
    async with swept(queues, queues.dead_letters) as sweep:
        assert len(await all_of(sweep)) == 3
        assert await sweep.elsewhere() == len(taken) == 1


@pytest.mark.parametrize("how", ["cancelled", "an error"])
async def test_whatever_ends_it_the_messages_show_again(queues: QueueSet, how: str) -> None:
    """At once, not when their time is over."""
    queues.bury(letter(event(1)))
    looking = asyncio.Event()

    async def look() -> None:
        async with swept(queues, queues.dead_letters) as sweep:
            assert len(await all_of(sweep)) == 1
            looking.set()
            if how == "an error":
                raise ValueError(how)
            await asyncio.Event().wait()

    task = asyncio.ensure_future(look())
    await looking.wait()
    if how == "cancelled":
        task.cancel()
    with pytest.raises((ValueError, asyncio.CancelledError)):
        await task
    assert queues.count(queues.dead_letters) == (1, 0, 0)


async def test_messages_that_cannot_be_shown_are_told(queues: QueueSet) -> None:
    """The queue is gone: they would show by themselves. What ended the sweep is raised all the same."""
    queues.bury(letter(event(1)))
    said: list[str] = []

    async def look() -> None:
        async with swept(queues, queues.dead_letters, said) as sweep:
            await all_of(sweep)
            queues.client.delete_queue(QueueUrl=queues.dead_letters)
            await sweep.waiting()

    with pytest.raises(QueueUnavailableError):
        await look()
    (told,) = said
    assert f"1 messages cannot be shown again now; they show by themselves in {HIDDEN_S} s" in told
