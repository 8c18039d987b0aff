"""What the streams may run on: the parts that each way has in common."""

from __future__ import annotations

from dataclasses import dataclass

from infra.cost.assumptions import GB, MONTH_S, Assumptions
from infra.cost.line import Line, total
from infra.cost.load import Load
from infra.cost.prices import Prices
from infra.cost.redis import Usage

STREAMS = "streams"
NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Shape:
    """One way to run the streams: what it costs but for what stands around it, and why it cannot be, if it cannot."""

    name: str
    #: What it consists of, in a few words.
    made_of: str
    lines: tuple[Line, ...]
    usage: Usage
    misfits: tuple[str, ...] = ()
    #: What is doubtful about it.
    doubts: tuple[str, ...] = ()

    @property
    def usd(self) -> float:
        """What it comes to."""
        return total(self.lines)


def usage_of_processes(given: Assumptions, load: Load, number: int) -> Usage:
    """Reckon what always-on processes ask of Redis: each reconciles, and reads every push from the pattern feed."""
    return Usage.of(
        given,
        load,
        reconciles=number * MONTH_S / given.reconcile_s,
        fed=number * load.pushes,
        # Up to 32 feeds of single topics, or the pattern feed instead, and two connections for requests.
        connections=number * (2 + min(32.0, given.streams / max(1, number) * given.topics_per_stream)),
    )


def streamed_beyond_gb(given: Assumptions, load: Load) -> float:
    """Return how much goes out of a function URL beyond the first 6 MB of each stream, which are free."""
    if not load.opens:
        return 0.0
    sent = load.deliveries * given.event_bytes + load.heartbeats * given.heartbeat_bytes
    return load.opens * max(0.0, sent / load.opens - 6e6) / GB


def redis_gb(given: Assumptions, usage: Usage) -> float:
    """Return the GB that go to Redis and come from it."""
    return usage.out_gb + usage.requests * given.redis_request_bytes / GB


def aws_network(given: Assumptions, load: Load, usage: Usage, prices: Prices) -> tuple[Line, ...]:
    """Price what goes out to clients, and what goes to Redis and comes from it."""
    return (
        Line(NETWORK, "GB out to clients", (load.stream_bytes + load.replay_bytes) / GB, prices["aws_out_gb"]),
        Line(NETWORK, "GB to and from Redis", redis_gb(given, usage), prices["aws_region_gb"]),
    )
