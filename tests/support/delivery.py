"""A whole delivery: mail sent to the webhook, clients that follow it through a cutting proxy, and what came of it.

    async with Delivery.running(directory, follows, plan=plan) as delivery:
        await delivery.send(pushes, per_s=200)
        await delivery.complete()
    assert delivery.faults() == []

`str` of it says how many cuts, resumes and refusals there were.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

from infra.chaos.pushes import Key, Push
from tests.support.cutting_proxy import CuttingProxy, Plan, never
from tests.support.delaying_proxy import Delay, DelayingProxy
from tests.support.pubsub_sender import Sender
from tests.support.recorder import Recorder, faults, following, live_resumes, missing, resumes
from tests.support.stack import Stack
from tests.support.waiting import until


class Delivery:
    """Everything that takes part in it."""

    def __init__(
        self,
        stack: Stack,
        proxy: CuttingProxy,
        sender: Sender,
        clients: Sequence[Recorder],
        careless: Sequence[Recorder],
    ) -> None:
        self.stack = stack
        self.proxy = proxy
        self.sender = sender
        self.clients = clients
        """Those that must get everything."""
        self.careless = careless
        """Those that resume from the last event they got."""
        self._pushes: list[Push] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls,
        directory: Path,
        follows: Mapping[str, Sequence[str]],
        *,
        naive: Mapping[str, Sequence[str]] | None = None,
        plan: Plan = never,
        delay: Callable[[str], Delay] | None = None,
    ) -> AsyncIterator[Delivery]:
        """Start everything; each client, by its name, follows its topics. ``delay`` stands before the gateway."""
        async with contextlib.AsyncExitStack() as stacked:
            upstream = None if delay is None else await stacked.enter_async_context(DelayingProxy.running(delay))
            stack = await stacked.enter_async_context(Stack.running(directory, upstream=upstream))
            proxy = await stacked.enter_async_context(CuttingProxy.running(stack.stream.port, plan))
            sender = await stacked.enter_async_context(contextlib.aclosing(Sender(stack.webhook.port)))
            clients = [Recorder(proxy.port, topics, name=name) for name, topics in follows.items()]
            careless = [Recorder(proxy.port, topics, name=n, naive=True) for n, topics in (naive or {}).items()]
            await stacked.enter_async_context(following(*clients, *careless))
            yield cls(stack, proxy, sender, clients, careless)

    async def send(self, pushes: Sequence[Push], *, per_s: float) -> None:
        """Send at a rate; returns when every push is acknowledged."""
        self._pushes += pushes
        await self.sender.send(pushes, per_s=per_s)

    def expected(self, client: Recorder) -> Mapping[Key, str | None]:
        """Give what a client should have got by now."""
        return self.sender.expected(self._pushes, client.topics)

    async def complete(self, *, timeout_s: float = 30.0) -> None:
        """Return when every client has every event, or after some time: then `faults` tells what is missing."""
        expected = [(client, self.expected(client)) for client in self.clients]
        with contextlib.suppress(AssertionError):
            await until(
                lambda: not any(missing(client, events) for client, events in expected),
                "all came",
                timeout_s=timeout_s,
            )

    def faults(self) -> list[str]:
        """Judge what the clients recorded: an empty list means that every promise was kept."""
        return [fault for client in self.clients for fault in faults(client, self.expected(client))]

    @property
    def fewest_cuts(self) -> int:
        """How often the client was cut off that was cut off least."""
        return min(self.proxy.cuts_of[client.name] for client in self.clients)

    @property
    def inside_frame(self) -> float:
        """Which share of the cuts fell inside a frame."""
        return self.proxy.inside_frame / max(1, self.proxy.cuts)

    def __str__(self) -> str:
        return (
            f"{len(self.sender.positions)} pushes acknowledged, {self.sender.refusals} attempts not, "
            f"{self.sender.repeats} sent twice; {self.proxy.cuts} cuts, {self.fewest_cuts} or more a client, "
            f"{self.inside_frame:.0%} inside a frame; {len(resumes(self.clients))} resumes, "
            f"{live_resumes(self.clients)} with live events"
        )
