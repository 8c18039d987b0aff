"""Reads of the log that are slow, silent or answered out of order, while live events come in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from pathlib import Path

from infra.chaos.pushes import Key, Push, traffic
from shared.position import Position
from tests.support.delaying_proxy import Delay, DelayingProxy
from tests.support.pubsub_sender import Sender
from tests.support.recorder import Recorder, faults, following, missing
from tests.support.stack import Stack
from tests.support.waiting import until

#: How the request line of a command begins, where that of a feed names its channel.
COMMANDS = "/ HTTP"
#: The log gives a stream that opens at most so many events at once.
PAGE = 500


async def test_a_stream_that_is_behind_skips_nothing_when_the_log_falls_silent_and_the_feed_does_not(
    tmp_path: Path,
) -> None:
    """A client that reads up is not sent live events beyond what it has: its cursor would step over the rest."""
    held = traffic(["ann@example.com"], PAGE + 40, seed=3)
    live = [Push("ann@example.com", 1, f"live{n}") for n in range(5)]
    async with (
        DelayingProxy.running(lambda line: Delay(answer_s=0.3 if COMMANDS in line else 0.0)) as upstream,
        Stack.running(tmp_path, upstream=upstream, reconcile_s=60) as stack,
        aclosing(Sender(stack.webhook.port)) as sender,
    ):
        await sender.send(held, per_s=1000)
        client = Recorder(stack.stream.port, ["gmail:ann@example.com"], name="client", start="earliest")
        async with following(client):
            # The first page has been sent; the answer with the second is on its way, and stays there.
            assert upstream.freeze(COMMANDS, new=True) > 0
            await until(lambda: len(client.events) >= PAGE, "the first page has come in")
            assert len(client.events) == PAGE
            requests = upstream.opened(COMMANDS)
            await sender.send(live, per_s=1000)
            await until(lambda: upstream.opened(COMMANDS) > requests, "the read is given up and tried again")
            upstream.thaw()
            expected = sender.expected([*held, *live], client.topics)
            with contextlib.suppress(AssertionError):
                await until(lambda: not missing(client, expected), "it has read up", timeout_s=15)
        assert faults(client, expected) == []


async def test_clients_that_open_a_mailbox_together_miss_nothing_when_their_reads_overtake_each_other(
    tmp_path: Path,
) -> None:
    """Of two first reads the earlier one is answered last: what lies between the two is missing in neither."""
    commands = 0

    def crossing(line: str) -> Delay:
        nonlocal commands
        if COMMANDS not in line:
            return Delay(answer_s=0.2)  # both clients wait for the feed, and so read at the same moment
        commands += 1
        # The reads have the first two connections; the slots are asked for beside them.
        return Delay(answer_s=0.6) if commands == 1 else Delay(request_s=0.3)

    pushes = traffic(["ann@example.com"], 300, seed=4)
    async with (
        DelayingProxy.running(crossing) as upstream,
        Stack.running(tmp_path, upstream=upstream, reconcile_s=60) as stack,
        aclosing(Sender(stack.webhook.port)) as sender,
    ):
        clients = [Recorder(stack.stream.port, ["gmail:ann@example.com"], name=name) for name in ("one", "two")]
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(sender.send(pushes, per_s=100))
            await until(lambda: sender.started > 10, "mail comes in")
            async with following(*clients):
                await sending
                expected = {client: _after_hello(client, sender, pushes) for client in clients}
                with contextlib.suppress(AssertionError):
                    await until(lambda: not any(missing(*pair) for pair in expected.items()), "all came", timeout_s=5)
        assert clients[0].connections[0].ids[0] != clients[1].connections[0].ids[0]
        assert [fault for client in clients for fault in faults(client, expected[client])] == []


def _after_hello(client: Recorder, sender: Sender, pushes: Sequence[Push]) -> Mapping[Key, str | None]:
    """Give what a client that began with `now` should get: all that stands after the cursor of its first hello."""
    start = client.connections[0].ids[0]
    events = sender.expected(pushes, client.topics)
    return {key: position for key, position in events.items() if position and Position.parse(position) > start}
