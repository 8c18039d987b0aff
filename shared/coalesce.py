"""Coalescing: calls that pile up are answered together.

A process that a thousand tabs come back to at once would send a thousand requests and time out on its own queue.
Here a few calls run beside each other, each alone; what arrives meanwhile waits and goes out as one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Coalescer(Generic[Q, A]):
    """Answers queries by ``run``, which takes several and returns their answers in the same order.

    At most ``parallel`` runs are under way. A run takes queries whose ``weight`` adds up to ``most``, and always
    at least one. While there is room a query runs at once, alone and in its caller's own task.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Q]], Awaitable[Sequence[A]]],
        *,
        parallel: int,
        weight: Callable[[Q], int],
        most: int,
    ) -> None:
        self._run = run
        self._parallel = parallel
        self._weight = weight
        self._most = most
        self._running = 0
        self._waiting: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def call(self, query: Q) -> A:
        """Return the answer of a query. Raises what the run that it was part of has raised."""
        if self._running < self._parallel:
            self._running += 1
            try:
                return (await self._run([query]))[0]
            finally:
                self._running -= 1
                self._start_waiting()
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((query, future))
        return await future

    async def settle(self) -> None:
        """Wait until nothing runs any more that runs now and whose callers may have left.

        What others begin meanwhile is theirs to wait for: under steady load there would be no end to it.
        """
        running = list(self._tasks)
        if running:
            await asyncio.wait(running)

    def _start_waiting(self) -> None:
        while self._running < self._parallel and (batch := self._next_batch()):
            self._running += 1
            task = asyncio.ensure_future(self._answer(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _next_batch(self) -> list[tuple[Q, asyncio.Future[A]]]:
        batch: list[tuple[Q, asyncio.Future[A]]] = []
        room = self._most
        while self._waiting:
            query, future = self._waiting[0]
            if future.done():  # its caller has given up
                self._waiting.popleft()
                continue
            room -= self._weight(query)
            if batch and room < 0:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _answer(self, batch: Sequence[tuple[Q, asyncio.Future[A]]]) -> None:
        try:
            answers = await self._run([query for query, _ in batch])
            answered = list(zip(batch, answers, strict=True))
        except Exception as error:  # noqa: BLE001 - each caller gets it
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, future), answer in answered:
                if not future.done():
                    future.set_result(answer)
        finally:
            self._running -= 1
            self._start_waiting()
