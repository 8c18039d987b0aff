"""How fast the deliver function brings 10,000 queued pushes into the log once it is back."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.machine import describe
from bench.processes import STAGE, Processes
from bench.report import spread, table
from bench.rounds import RoundFailedError
from infra.local.resp import RespClient
from shared.delivery import Delivery, Event
from shared.delivery_queue import DeliveryQueue
from shared.envelope import Notification, envelope_of
from shared.keys import Keys
from shared.settings import Function, Settings
from shared.sqs import Sqs

RESULTS = Path(__file__).parent / "results"
LEAST_PER_S = 500
_MESSAGES = 10_000
#: Messages of one mailbox go one after the other: with few mailboxes little can be done at the same time.
_MAILBOXES = (2_000, 100, 10)
_ROUNDS = 3
_SENDERS = 20
_POLL_S = 0.05
_PATIENCE_S = 120.0
_HEAD = ("mailboxes", "messages/s", "seconds", "CPU s: deliver", "queues", "gateway", "redis", f"{LEAST_PER_S}/s?")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("--messages", type=int, default=_MESSAGES, metavar="N", help="queued pushes a round")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, metavar="N", help="rounds of each kind (default 3)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the messages, one round; writes no results")


@dataclass(frozen=True, slots=True)
class Drained:
    """One round: from the first event in the log to the last, in s, and the CPU seconds of each process."""

    mailboxes: int
    messages: int
    took_s: float
    cpu_s: dict[str, float]

    @property
    def per_s(self) -> float:
        """How many messages a second were delivered."""
        return self.messages / self.took_s


async def run(args: argparse.Namespace) -> None:
    """Measure, print and write. Raises RoundFailedError."""
    if args.quick:
        args.messages, args.rounds = args.messages // 10, 1
    machine = describe()
    rounds = []
    for number in range(args.rounds):
        for mailboxes in _MAILBOXES:
            rounds.append(await _round(args.messages, mailboxes))
            print(f"round {number + 1}, {mailboxes:>5} mailboxes: {rounds[-1].per_s:.0f} messages/s", flush=True)
    text = _markdown(rounds, machine)
    print(f"\n{text}")
    if not args.quick:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "drain.md").write_text(text, encoding="utf-8")


async def _round(messages: int, mailboxes: int) -> Drained:
    """Fill the queue, start the deliver function, and wait until all is in the log, each once and in its order."""
    async with Processes.running({"TIDEMARK_TOPIC_MAX_EVENTS": "100000"}, queues=True) as processes:
        settings = Settings.of(processes.product, Function.DELIVER)
        assert settings.queues is not None
        sqs = Sqs(settings.queues.delivery, settings.queues.access)
        redis = RespClient(f"redis://127.0.0.1:{processes.ports.redis}")
        try:
            await _fill(DeliveryQueue(sqs), messages, mailboxes)
            before = processes.cpu_s()
            await processes.start_deliver()
            began = await _until(redis, mailboxes, 1)
            ended = await _until(redis, mailboxes, messages)
            await _check(redis, messages, mailboxes)
            await _until_empty(sqs)
            used = {name: cpu_s - before.get(name, 0.0) for name, cpu_s in processes.cpu_s().items()}
        finally:
            await sqs.close()
            await redis.close()
        if processes.faults:
            raise RoundFailedError("; ".join(processes.faults[:3]))
    return Drained(mailboxes, messages, ended - began, used)


async def _fill(queue: DeliveryQueue, messages: int, mailboxes: int) -> None:
    """Queue pushes as the webhook does, those of a mailbox in their order."""

    async def some(sender: int) -> None:
        # A mailbox belongs to one sender: its pushes are queued one after the other.
        for number in range(messages):
            if number % mailboxes % _SENDERS == sender:
                await queue.put(_delivery(number, mailboxes), timeout_s=30)

    await asyncio.gather(*(some(sender) for sender in range(_SENDERS)))


def _delivery(number: int, mailboxes: int) -> Delivery:
    note = Notification(
        subscription="projects/bench/subscriptions/gmail",
        message_id=f"{number:012}",
        published_at="2026-11-24T12:00:00.000Z",
        email_address=f"box{number % mailboxes}@example.com",
        history_id=str(9_000_000_000 + number),
        topic=_topic(number % mailboxes),
    )
    event = Event(note.topic, envelope_of(note), note.subscription, note.message_id)
    return Delivery(event, accepted_at="2026-11-24T12:00:00.000Z")


def _topic(mailbox: int) -> str:
    return f"gmail:box{mailbox}@example.com"


#: Counts the entries of the logs of a stage; one call a look, so that looking costs little.
_COUNT = """
local found = 0
for n = 0, ARGV[2] - 1 do found = found + redis.call('XLEN', ARGV[1] .. n .. '@example.com') end
return found
"""


async def _until(redis: RespClient, mailboxes: int, count: int) -> float:
    """Return when the log holds so many events."""
    deadline = time.perf_counter() + _PATIENCE_S
    found = -1
    while time.perf_counter() < deadline:
        told = await redis.execute("EVAL", _COUNT, 0, Keys(STAGE).log("gmail:box"), mailboxes)
        found = int(told) if isinstance(told, int) else -1
        if found >= count:
            return time.perf_counter()
        await asyncio.sleep(_POLL_S)
    raise RoundFailedError(f"{found} of {count} events were in the log after {_PATIENCE_S:g} s")


async def _check(redis: RespClient, messages: int, mailboxes: int) -> None:
    """Raise RoundFailedError unless every event is there once, and each mailbox in its order."""
    found = 0
    for mailbox in range(mailboxes):
        entries = await redis.execute("XRANGE", Keys(STAGE).log(_topic(mailbox)), "-", "+")
        assert isinstance(entries, list)
        ids = [bytes(fields[5]).partition(b'"id":"')[2][:12] for _, fields in entries]
        if ids != sorted(set(ids)):
            raise RoundFailedError(f"the events of mailbox {mailbox} are doubled or out of their order")
        found += len(ids)
    if found != messages:
        raise RoundFailedError(f"{found} events for {messages} messages")


async def _until_empty(sqs: Sqs) -> None:
    """Return when the queue holds nothing: the last batch is deleted after it was delivered."""
    names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    deadline = time.perf_counter() + _PATIENCE_S
    while time.perf_counter() < deadline:
        attributes = await sqs.attributes()
        if all(attributes[name] == "0" for name in names):
            return
        await asyncio.sleep(_POLL_S)
    raise RoundFailedError("messages were left in the queue")


def _markdown(rounds: Sequence[Drained], machine: dict[str, str]) -> str:
    rows = []
    for mailboxes in _MAILBOXES:
        of = [one for one in rounds if one.mailboxes == mailboxes]
        per_s = [one.per_s for one in of]
        cpu = [f"{median(one.cpu_s[name] for one in of):.1f}" for name in ("deliver", "queues", "gateway", "redis")]
        met = "yes" if median(per_s) >= LEAST_PER_S else "no"
        took = f"{median(one.took_s for one in of):.1f}"
        rows.append([f"{mailboxes:,}", spread(per_s, ".0f"), took, *cpu, met])
    how = (
        f"{rounds[0].messages:,} pushes lie in the queue, those of each mailbox in their order; then the deliver "
        "function is started as in the local stack (two batches at a time, ten messages each), and brings them into "
        "the log. From the first event in the log to the last, the median (and range) of "
        f"{len(rounds) // len(_MAILBOXES)} rounds; the CPU seconds are of each process, for deliver with its start. "
        "Each event was there once, and each mailbox in its order."
    )
    about = [f"- {name}: {text}" for name, text in machine.items()]
    return "\n".join(["# Draining the queue", "", how, "", *table(_HEAD, rows), "", *about, ""])
