"""How many streams one process of the stream function bears, and how many processes that makes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from infra.cost.assumptions import Assumptions
from infra.cost.load import Load


@dataclass(frozen=True, slots=True)
class Capacity:
    """Streams that fit into a process, and what it is that ends there."""

    streams: int
    why: str


def capacity(given: Assumptions, load: Load, *, vcpu: float, mib: float, most: float = math.inf) -> Capacity:
    """Say how many streams fit into a process of so much CPU and memory; ``most`` is what its host allows.

    A process is one event loop: it uses one vCPU at most. It reads every push of the stage from the pattern feed.
    """
    cpu = min(vcpu, 1.0)
    delivery_s = given.cpu_us_per_delivery / 1e6
    stream_s = 1 / given.heartbeat_s * delivery_s + given.cpu_ms_per_open / 1e3 / load.life_s
    if given.streams:
        stream_s += load.pushes_s * given.streams_per_user / given.streams * delivery_s
    reasons = {
        "as assumed": given.streams_per_process,
        "memory": (mib * given.memory_use - given.process_mb * 1e6 / 2**20) * 1024 / given.memory_per_stream_kib,
        "CPU": (cpu * given.cpu_use - load.pushes_s * delivery_s) / stream_s,
        "CPU, when all come back at once": given.storm_s * cpu / (given.cpu_ms_per_open / 1e3),
        "what the host allows": most,
    }
    why = min(reasons, key=lambda name: reasons[name])
    return Capacity(max(0, math.floor(reasons[why])), why)


def processes(given: Assumptions, each: Capacity, *, least: float) -> int | None:
    """Say how many processes bear the streams even when the spare ones have failed; None if no number does."""
    if given.streams and not each.streams:
        return None
    needed = math.ceil(given.streams / each.streams) if given.streams else 0
    return int(max(least, needed + given.spare))
