"""What one process has to tell another about a stream: over the live feed at once, else by the next reconcile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from infra.chaos.origin import Origin
from infra.chaos.poster import Poster
from infra.chaos.pushes import traffic
from tests.support.delaying_proxy import DelayingProxy
from tests.support.pubsub_sender import Sender
from tests.support.recorder import Recorder, faults, following
from tests.support.stack import Stack
from tests.support.waiting import stopped, until

logger = logging.getLogger(__name__)

RECONCILE_S = 4
#: What a reconcile takes besides, on a busy machine.
MARGIN_S = 3.0
FEEDS = ("/subscribe/", "/psubscribe/")
MAILBOXES = ["ann@example.com", "ben@example.com"]
TOPICS = [f"gmail:{mailbox}" for mailbox in MAILBOXES]
SUPERSEDED = [{"reason": "superseded", "reconnect": False}]
WINDOW = 2


async def test_an_ack_and_a_newer_stream_are_heard_of_elsewhere_at_once_or_by_the_next_reconcile(
    tmp_path: Path,
) -> None:
    """`POST /ack` on the replay process frees a window; the same client on another process ends its older stream.

    Then the feeds fall silent, without a word.
    """
    async with (
        DelayingProxy.running() as upstream,
        Stack.running(tmp_path, upstream=upstream, replay=True, second_stream=True, reconcile_s=RECONCILE_S) as stack,
        aclosing(Sender(stack.webhook.port)) as sender,
        contextlib.AsyncExitStack() as tabs,
    ):
        here, there = stack.stream.port, stack.second_stream.port
        narrow = Recorder(here, TOPICS, name="narrow", user="ann", asks={"window": str(WINDOW)})
        wide = Recorder(here, TOPICS, name="wide", user="ann")
        pushes = traffic(MAILBOXES, 6 * WINDOW, seed=53)
        await tabs.enter_async_context(following(narrow, wide))
        for number, push in enumerate(pushes, start=1):
            await sender.send_one(push)
            await until(lambda: len(wide.events) == number, "it is there")  # noqa: B023

        began = time.monotonic()
        for number in (1, 2, 3):
            await until(lambda: len(narrow.events) == WINDOW * number, "a window is sent", timeout_s=RECONCILE_S)  # noqa: B023
            await until(lambda: _may_ack(narrow, number), "and can be acknowledged", timeout_s=RECONCILE_S)  # noqa: B023
            if number < 3:
                await _ack(stack, narrow)
        roaming = await tabs.enter_async_context(_roaming(here))
        for port in (there, here, there, here):
            newer = await tabs.enter_async_context(_roaming(port))
            await until(lambda: roaming.byes == SUPERSEDED, "the older stream ends", timeout_s=RECONCILE_S)  # noqa: B023
            roaming = newer
        at_once_s = time.monotonic() - began

        assert upstream.freeze(*FEEDS) > 0
        began = time.monotonic()
        await _ack(stack, narrow)
        newest = await tabs.enter_async_context(_roaming(there))
        await until(
            lambda: len(narrow.events) == 4 * WINDOW and roaming.byes == SUPERSEDED,
            "both are heard of",
            timeout_s=RECONCILE_S + MARGIN_S,
        )
        late_s = time.monotonic() - began
        upstream.thaw()
        for number in (4, 5):
            await until(lambda: _may_ack(narrow, number), "a window can be acknowledged", timeout_s=10)  # noqa: B023
            await _ack(stack, narrow)
        await until(lambda: len(narrow.events) == len(pushes), "all of it came", timeout_s=10)
        assert newest.live
        assert wide.byes == narrow.byes == []
        expected = sender.expected(pushes, TOPICS)
    logger.info("six times at once took %.2f s; with silent feeds it took %.2f s", at_once_s, late_s)
    # One after the other: by reconciles alone it would take one each, half of one at best.
    assert at_once_s < RECONCILE_S
    assert [fault for client in (narrow, wide) for fault in faults(client, expected)] == []
    assert len(narrow.connections) == 1


@contextlib.asynccontextmanager
async def _roaming(port: int) -> AsyncIterator[Recorder]:
    """Give a client that opens its stream on one process and does not come back."""
    client = Recorder(port, TOPICS, name="roaming", user="ann")
    once = asyncio.ensure_future(client.connect_once())
    try:
        await until(lambda: client.greeted, "it is greeted")
        yield client
    finally:
        await stopped([once], "the roaming client")


def _may_ack(client: Recorder, windows: int) -> bool:
    """Whether the client knows a cursor that covers all that it was sent, so many windows."""
    arrivals = client.current.arrivals
    return len(arrivals) >= windows * WINDOW and client.current.ids[-1] >= max(a.position for a in arrivals)


async def _ack(stack: Stack, client: Recorder) -> None:
    """Acknowledge what a client has."""
    headers = {"Authorization": f"Bearer {client._token}"}
    async with aclosing(Poster(Origin.local(stack.replay.port), headers)) as poster:
        reply = await poster.post("/ack", {"client": client.name, "cursor": client.cursor}, timeout_s=10)
    assert reply.status == 204


async def test_a_stream_with_a_rate_takes_the_time_that_its_events_must_take(tmp_path: Path) -> None:
    """Of what the log holds and of what comes in; another client of the same mailbox gets it as it comes."""
    rate, held, live = 20, 15, 15
    async with Stack.running(tmp_path) as stack, aclosing(Sender(stack.webhook.port)) as sender:
        pushes = traffic(MAILBOXES[:1], held + live, seed=54)
        await sender.send(pushes[:held], per_s=500)
        paced = Recorder(stack.stream.port, TOPICS[:1], name="paced", start="earliest", asks={"max_rate": str(rate)})
        free = Recorder(stack.stream.port, TOPICS[:1], name="free", start="earliest")
        async with following(paced, free):
            await sender.send(pushes[held:], per_s=500)
            await until(lambda: len(free.events) == len(pushes), "the other has all")
            await until(lambda: len(paced.events) == len(pushes), "it has all")
        expected = sender.expected(pushes, TOPICS[:1])
    asked_at = paced.current.asked_at
    burst = rate // 10
    for number, arrival in enumerate(paced.current.arrivals, start=1):
        assert arrival.at - asked_at >= (number - burst) / rate - 0.001
    assert [fault for client in (paced, free) for fault in faults(client, expected)] == []
