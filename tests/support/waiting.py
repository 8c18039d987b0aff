"""Waiting for a condition inside an event loop (`tests.support.gateway.eventually` is the blocking form)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

POLL_S = 0.02
STOPPED_WITHIN_S = 15.0


async def until(condition: Callable[[], bool], what: str, *, timeout_s: float = 10.0) -> None:
    """Return as soon as the condition holds; fail with `what` when it does not in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not condition():
        if loop.time() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        await asyncio.sleep(POLL_S)


async def stopped(tasks: Collection[asyncio.Task[Any]], what: str) -> list[BaseException | None]:
    """Cancel tasks and return what each of them raised; fail with `what` when one takes no notice."""
    for task in tasks:
        task.cancel()
    running = (await asyncio.wait(tasks, timeout=STOPPED_WITHIN_S))[1] if tasks else set()
    if running:
        raise AssertionError(f"{len(running)} of {len(tasks)} go on {STOPPED_WITHIN_S:g} s after the end: {what}")
    return [None if task.cancelled() else task.exception() for task in tasks]
