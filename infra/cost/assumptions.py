"""What is assumed: the load, how the streams behave, what one process bears, and what each thing asks of Redis.

Every assumption is a field with a name, a unit, a default and bounds, so that it can be printed and changed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

MONTH_H = 730.0
MONTH_S = MONTH_H * 3600
DAYS = MONTH_H / 24
GB = 1e9


class BadAssumptionError(Exception):
    """An assumption lies outside what it can be; the message says what it can be, ``name`` which one it is."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


#: Where a new kind of assumption begins, and what the kind is called.
KINDS = {
    "streams": "the load",
    "rotation_s": "the streams",
    "streams_per_process": "a process with many streams",
    "stream_mb": "the functions on Lambda",
    "commands_per_push": "Redis",
    "alarms": "what watches over it, and the budget",
}


def _of(default: float, what: str, *, least: float = 0.0, most: float = math.inf, whole: bool = False) -> Any:
    return field(default=default, metadata={"what": what, "least": least, "most": most, "whole": whole})


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """All of them. Raises BadAssumptionError for one that cannot be."""

    # The load.
    streams: float = _of(1000, "streams open at the same time", most=1e7, whole=True)
    hours: float = _of(24, "hours a day that they are open", least=0.1, most=24)
    pushes_per_user_day: float = _of(100, "pushes a user and day", most=1e6)
    streams_per_user: float = _of(1, "streams a user has open", least=1, most=100, whole=True)
    topics_per_stream: float = _of(1, "topics a stream follows", least=1, most=50, whole=True)
    vanish_per_day: float = _of(1, "times a day that a stream's client leaves, and comes back", most=1e5)
    acks_per_day: float = _of(10, "acks a stream and day", most=1e6)
    replays_per_day: float = _of(1, "pages of missed events that a user asks for a day", most=1e6)
    resent: float = _of(0.01, "share of pushes that come a second time", most=10)
    queued: float = _of(0.001, "share of pushes that go through the queue", most=1)
    confirm: float = _of(0, "share of pushes appended a second time, for confirmation: 0 or 1", most=1)
    peak: float = _of(5, "the busiest second, in averages", least=1, most=1000)
    # The streams.
    rotation_s: float = _of(840, "longest life of a stream, s", least=10, most=86_400)
    life: float = _of(0.95, "what a stream lives of that on average", least=0.1, most=1)
    reconcile_s: float = _of(20, "a process asks Redis once in so many seconds", least=1, most=3600)
    heartbeat_s: float = _of(15, "a silent stream says something once in so many seconds", least=1, most=900)
    event_bytes: float = _of(500, "an event as it is sent, bytes", least=1, most=1e6)
    heartbeat_bytes: float = _of(40, "a heartbeat as it is sent, bytes", least=1, most=1e4)
    packet_bytes: float = _of(80, "what TLS, TCP and IP add to each, bytes", most=1e4)
    open_bytes: float = _of(5000, "handshake and heads of a request, bytes", most=1e6)
    # One process of the stream function.
    streams_per_process: float = _of(1000, "streams that one process is given at most", least=1, most=1e6, whole=True)
    process_mb: float = _of(120, "an idle process, MB", least=1, most=1e5)
    memory_per_stream_kib: float = _of(40, "an idle stream, KiB", least=0.1, most=1e5)
    memory_use: float = _of(0.7, "share of its memory that a process may fill", least=0.05, most=1)
    cpu_us_per_delivery: float = _of(22, "CPU for each event or heartbeat sent or read, us", least=0.1, most=1e6)
    cpu_ms_per_open: float = _of(5, "CPU for a stream that opens, ms", least=0.01, most=1e4)
    cpu_use: float = _of(0.5, "share of a vCPU that a process may use at the peak", least=0.05, most=1)
    storm_s: float = _of(30, "a process's streams, all lost at once, are open again within, s", least=1, most=600)
    spare: float = _of(1, "processes that may fail without anybody being refused", most=100, whole=True)
    containers_least: float = _of(2, "containers at least", least=1, most=100, whole=True)
    instances_least: float = _of(3, "managed instances at least", least=1, most=100, whole=True)
    balancer_zones: float = _of(
        2, "zones a load balancer stands in, with an address each", least=2, most=6, whole=True
    )
    nat_gateways: float = _of(1, "NAT gateways of managed instances", most=6, whole=True)
    # The functions on Lambda.
    stream_mb: float = _of(
        128, "memory of the stream function with a stream an environment, MB", least=128, most=10_240
    )
    function_mb: float = _of(256, "memory of webhook, replay and deliver, MB", least=128, most=10_240)
    webhook_ms: float = _of(60, "duration of a push, ms", least=1, most=9e5)
    replay_ms: float = _of(60, "duration of a replay or an ack, ms", least=1, most=9e5)
    deliver_ms: float = _of(150, "duration of a delivery from a queue, ms", least=1, most=9e5)
    schedule_s: float = _of(300, "deliver is called by its schedule once in so many seconds", least=60, most=86_400)
    scheduled_ms: float = _of(1300, "duration of such a call, ms: it waits for a dead letter", least=1, most=9e5)
    concurrency: float = _of(1000, "the account's concurrency", least=10, most=1e7, whole=True)
    unreserved: float = _of(100, "concurrency kept for everything but streams", most=1e7, whole=True)
    pollers: float = _of(5, "long polls of 20 s that Lambda keeps on a queue", least=1, most=1000, whole=True)
    # Redis: commands as they are billed (a script is one, and each call inside it), counted on the local gateway.
    commands_per_push: float = _of(12, "billed commands: a push, with its rate limit", most=1000)
    commands_per_open: float = _of(14, "billed commands: a stream of one topic, opened and closed", most=1000)
    commands_per_topic: float = _of(2, "billed commands: each further topic of a stream that opens", most=1000)
    commands_per_reconcile: float = _of(5, "billed commands: a reconcile", most=1000)
    commands_per_ack: float = _of(8, "billed commands: an ack", most=1000)
    commands_per_replay: float = _of(8, "billed commands: a replay", most=1000)
    commands_per_confirmation: float = _of(4, "billed commands: an append that was there before", most=1000)
    redis_answer_bytes: float = _of(600, "an answer of Redis with its head, bytes", most=1e6)
    redis_request_bytes: float = _of(1200, "a request to Redis with its head, bytes", most=1e6)
    stored_bytes_per_push: float = _of(1200, "what a push takes in Redis while it is kept, bytes", most=1e6)
    retention_h: float = _of(24, "hours that it is kept", least=0.1, most=24 * 365)
    redis_use: float = _of(0.8, "share of a plan's limits that the load may fill", least=0.05, most=1)
    prod_pack: float = _of(0, "Prod Packs of Upstash: 0 or 1", most=1, whole=True)
    # What watches over it, and where its secrets are.
    alarms: float = _of(20, "alarms", most=1e5, whole=True)
    metrics: float = _of(8, "custom metrics", most=1e6, whole=True)
    dashboards: float = _of(1, "dashboards", most=1000, whole=True)
    log_bytes: float = _of(800, "log lines of an invocation or a stream, bytes", most=1e6)
    log_days: float = _of(30, "days that logs are kept", least=1, most=3653)
    parameters: float = _of(0, "parameters in Parameter Store, standard", most=10_000, whole=True)
    secrets: float = _of(1, "secrets in Secrets Manager", most=10_000, whole=True)
    budget: float = _of(500, "what it may cost a month, USD", most=1e9)

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            least, most, whole = one.metadata["least"], one.metadata["most"], one.metadata["whole"]
            if not least <= value <= most or (whole and value != int(value)):
                kind = "a whole number" if whole else "a number"
                upto = f"of at least {least:g}" if math.isinf(most) else f"from {least:,g} to {most:,.0f}"
                raise BadAssumptionError(one.name, f"must be {kind} {upto}")
        if self.unreserved >= self.concurrency:
            raise BadAssumptionError("unreserved", "must be below the concurrency, or none is left for streams")
