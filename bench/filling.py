"""Many events in one mailbox, by the shortest way there is."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import hiredis

from bench.append import Appends
from bench.processes import STAGE, Processes
from bench.rounds import RoundFailedError
from bench.subject import Server
from infra.local.resp import RespClient

_BATCH = 10
_PATIENCE_S = 120.0


async def append(processes: Processes, mailbox: int, count: int, *, over_s: float = 0.0, kept: int = 1000) -> None:
    """Append to a mailbox of ours with the webhook's own script, straight at Redis: nothing else is kept busy.

    Takes ``over_s`` seconds at least; the log keeps so many events. Raises RoundFailedError.
    """
    appends = Appends(STAGE, processes.ports.gateway, processes.gateway_token, kept=kept)
    redis = RespClient(f"redis://127.0.0.1:{processes.ports.redis}")
    first_id, began = time.time_ns(), time.perf_counter()
    try:
        for number in range(0, count, _BATCH):
            await asyncio.sleep(max(0.0, began + number / count * over_s - time.perf_counter()))
            batch = [appends.command(mailbox, first_id + n) for n in range(number, min(number + _BATCH, count))]
            replies = await redis.execute_many(batch)
            refused = [reply for reply in replies if isinstance(reply, hiredis.ReplyError)]
            if refused:
                raise RoundFailedError(f"an append was refused: {refused[0]}")
    finally:
        await redis.close()


async def push(subject: Server, mailbox: int, count: int) -> None:
    """Push to a mailbox of any subject, as fast as its connections take it. Raises RoundFailedError."""
    first_id = time.time_ns()
    left, faults = count, list[str]()
    done = asyncio.Event()

    def answered(status: int, body: bytes) -> None:
        nonlocal left
        left -= 1
        fault = subject.fault(status, body)
        if fault is not None:
            faults.append(fault)
        if not left:
            done.set()

    for number in range(count):
        subject.send(subject.request(mailbox, first_id + number), partial(answered))
    try:
        await asyncio.wait_for(done.wait(), _PATIENCE_S)
    except TimeoutError:
        faults.append(f"{left} of {count} pushes were not answered within {_PATIENCE_S:g} s")
    if faults:
        raise RoundFailedError(f"{subject.name}: {faults[0]}")
