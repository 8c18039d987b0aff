"""What Redis is asked to do, as its owner counts and bills it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bench.processes import Processes
from infra.local.resp import RespClient

_CALLS = re.compile(r"^cmdstat_([^:]+):calls=(\d+)", re.MULTILINE)
#: What belongs to a connection, or to this measurement, and not to anybody's bill.
_FREE = ("info", "hello", "client", "config", "select", "auth", "quit", "command")


@dataclass(frozen=True, slots=True)
class Count:
    """Requests to the gateway, feeds opened there, and commands: a script's own call and each call inside it."""

    requests: float
    feeds: float
    commands: float

    def __sub__(self, other: Count) -> Count:
        return Count(self.requests - other.requests, self.feeds - other.feeds, self.commands - other.commands)

    def __add__(self, other: Count) -> Count:
        return Count(self.requests + other.requests, self.feeds + other.feeds, self.commands + other.commands)

    def per(self, number: float) -> Count:
        """Divide it."""
        return Count(self.requests / number, self.feeds / number, self.commands / number)

    def times(self, number: float) -> Count:
        """Multiply it."""
        return self.per(1 / number) if number else Count(0, 0, 0)


async def counted(processes: Processes) -> Count:
    """Return what has been asked so far. A script's inner calls are in Redis's own statistics."""
    redis = RespClient(f"redis://127.0.0.1:{processes.ports.redis}")
    try:
        told = await redis.execute("INFO", "commandstats")
    finally:
        await redis.close()
    assert isinstance(told, bytes)
    calls = {name: int(number) for name, number in _CALLS.findall(told.decode())}
    commands = sum(number for name, number in calls.items() if name.partition("|")[0] not in _FREE)
    requests = (await processes.gateway_stats())["requests"]
    asked = sum(requests[kind] for kind in ("command", "pipeline", "multi_exec"))
    return Count(asked, requests["subscribe"], commands)
