"""Redis as everything here uses it: scripts and commands behind one circuit breaker."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from shared.breaker import Breaker
from shared.errors import BadCursorError, LogUnavailableError, Trouble
from shared.scripts import script
from shared.upstash import Upstash

T = TypeVar("T")

Command = Sequence[str | int]


class Store:
    """Runs commands and has their answers read: one that cannot be ours is no sign of life for the breaker.

    Every method raises LogUnavailableError or LogDefectError; while the breaker is open CircuitOpenError, at once.
    """

    def __init__(self, upstash: Upstash, breaker: Breaker | None = None) -> None:
        self._upstash = upstash
        self._breaker = breaker

    async def run(
        self, name: str, keys: Sequence[str], args: Command, read: Callable[[Any], T], *, timeout_s: float
    ) -> T:
        """Run the script ``<name>.lua`` and return what ``read`` makes of its answer."""
        return await self.execute(evaluate(name, keys, args), read, timeout_s=timeout_s)

    async def execute(self, command: Command, read: Callable[[Any], T], *, timeout_s: float) -> T:
        """Run a command that may be repeated, and return what ``read`` makes of its answer."""

        async def work() -> T:
            answer = await self._upstash.execute(command, timeout_s=timeout_s)
            with _readable():
                return read(answer)

        return await (work() if self._breaker is None else self._breaker.call(work))

    async def execute_all(
        self, commands: Sequence[Command], read: Callable[[Any], T], *, timeout_s: float
    ) -> Sequence[T]:
        """Run several commands in one request, not as one transaction. Not tried again; one that fails fails all."""

        async def work() -> Sequence[T]:
            answers = await self._upstash.execute_all(commands, timeout_s=timeout_s)
            with _readable():
                return [read(answer) for answer in answers]

        return await (work() if self._breaker is None else self._breaker.call(work))


def evaluate(name: str, keys: Sequence[str], args: Command) -> Command:
    """Return the command that runs the script ``<name>.lua``."""
    return ["EVAL", script(name), len(keys), *keys, *args]


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Read an answer inside of this. Raises LogUnavailableError for one that our script cannot have given.

    Then something else has answered in Redis's place: whatever it was, it is no fault of the caller's request.
    """
    try:
        yield
    except (BadCursorError, ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise LogUnavailableError("Redis answered with something unreadable", Trouble.UNREADABLE) from error
