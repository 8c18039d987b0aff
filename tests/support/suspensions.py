"""Every suspension of a request is counted: of its own task, and of each task that it starts.

A suspension is where a coroutine gives way to the event loop, whatever await it was: what a process has done for a
request when it dies is all that lies before one of them, or the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

_note: ContextVar[Callable[[], None] | None] = ContextVar("note", default=None)


class _Counted:
    """Drives a coroutine, and notes each time that it waits for something."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], note: Callable[[], None]) -> None:
        self._coroutine = coroutine
        self._note = note

    def __await__(self) -> Generator[Any, Any, Any]:
        step, value = self._coroutine.send, None
        while True:
            try:
                waits_for = step(value)
            except StopIteration as end:
                return end.value
            self._note()
            try:
                value = yield waits_for
                step = self._coroutine.send
            except BaseException as error:  # noqa: BLE001 - cancellation included: it is the coroutine's to handle
                value, step = error, self._coroutine.throw


async def _run(coroutine: Coroutine[Any, Any, T], note: Callable[[], None]) -> T:
    result: T = await _Counted(coroutine, note)
    return result


async def counted(coroutine: Coroutine[Any, Any, T], note: Callable[[], None]) -> T:
    """Run a coroutine in this task; call ``note`` at each suspension of it and of the tasks that it starts."""
    asyncio.get_running_loop().set_task_factory(_task)
    _note.set(note)
    return await _run(coroutine, note)


def _task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    note = _note.get()
    return asyncio.Task(coroutine if note is None else _run(coroutine, note), loop=loop, **options)
