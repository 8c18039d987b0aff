"""A circuit breaker: what has failed several times in a row is left alone for a while, then tried once.

The first try comes after a second, and each that fails doubles the wait, up to half a minute: a failover is over
within seconds, and nobody should wait half a minute more for it, while a long outage costs one slow call in half a
minute. `purgatory` has the same states, but always waits the whole time, lets any number of calls through while half
open, lets calls that began before a change of state decide about the next one, and goes by the wall clock.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import TypeVar

from shared.counts import Counts
from shared.errors import CircuitOpenError

logger = logging.getLogger("tidemark.breaker")

T = TypeVar("T")

FAILURES = 5
FIRST_OPEN_S = 1.0
OPEN_S = 30.0
#: No call takes so long: each has a time-out of a few seconds. One that did was held up by its own process, which
#: stood still, as Lambda freezes it between two invocations.
STOOD_STILL_S = 10.0


class State(Enum):
    """``CLOSED`` lets calls through, ``OPEN`` refuses them, ``HALF_OPEN`` waits for what becomes of one."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Stands before one dependency, in one event loop. ``counts_against`` are the errors that are failures of it.

    Any other error is an answer: it shows that the dependency is there. A call that is cancelled shows nothing, and
    neither does one that failed while this process stood still.
    Once open it waits for ``first_open_s``, twice as long after each try that fails, ``open_s`` at most. ``clock`` is
    monotonic seconds. Counts ``<name>_open``, ``<name>_half_open``, ``<name>_closed`` and
    ``<name>_refused``.
    """

    def __init__(
        self,
        name: str,
        counts: Counts,
        *,
        counts_against: type[Exception],
        failures: int = FAILURES,
        first_open_s: float = FIRST_OPEN_S,
        open_s: float = OPEN_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._counts = counts
        self._counts_against = counts_against
        self._failures = failures
        self._first_open_s = min(first_open_s, open_s)
        self._open_s = open_s
        self._clock = clock
        self._state = State.CLOSED
        self._failed = 0
        self._reason = ""
        self._wait_s = self._first_open_s
        self._try_at = 0.0
        # Goes up with each change of state: a call says nothing about a state that it did not begin in.
        self._epoch = 0

    @property
    def state(self) -> State:
        """What it is now; ``OPEN`` also when the next call would be let through to try."""
        return self._state

    @property
    def is_failing(self) -> bool:
        """Whether the last call that showed anything was a failure."""
        return self._failed > 0

    def hear_of_life(self) -> None:
        """Let the next call try at once: something else has just had an answer of the dependency."""
        self._try_at = self._clock()

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work and return its result. Raises CircuitOpenError without doing it, and whatever it raises."""
        epoch = self._admit()
        began = self._clock()
        try:
            result = await work()
        except self._counts_against as error:
            if epoch == self._epoch:
                if self._clock() - began < STOOD_STILL_S:
                    self._note_failure(error)
                else:
                    self._note_nothing()
            raise
        except Exception:  # whatever else is raised, the dependency has answered
            if epoch == self._epoch:
                self._note_answer()
            raise
        except BaseException:
            if epoch == self._epoch:
                self._note_nothing()
            raise
        if epoch == self._epoch:
            self._note_answer()
        return result

    def _admit(self) -> int:
        if self._state is State.OPEN and self._clock() >= self._try_at:
            self._enter(State.HALF_OPEN)
        elif self._state is not State.CLOSED:
            self._counts.count(f"{self._name}_refused")
            raise CircuitOpenError(
                f"the {self._name} has failed {self._failed} times in a row and is left alone; last: {self._reason}"
            )
        return self._epoch

    def _note_failure(self, error: Exception) -> None:
        self._failed += 1
        self._reason = str(error)
        if self._state is State.HALF_OPEN:
            self._wait_s = min(2 * self._wait_s, self._open_s)
        elif self._failed < self._failures:
            return
        else:
            self._wait_s = self._first_open_s
        self._try_at = self._clock() + self._wait_s
        self._enter(State.OPEN, reason=str(error))

    def _note_answer(self) -> None:
        self._failed = 0
        if self._state is not State.CLOSED:
            self._enter(State.CLOSED)

    def _note_nothing(self) -> None:
        """Note that nothing was learned. If it was a try, the next call may make one at once: it was due already."""
        if self._state is State.HALF_OPEN:
            self._enter(State.OPEN)

    def _enter(self, state: State, *, reason: str = "") -> None:
        self._state = state
        self._epoch += 1
        self._counts.count(f"{self._name}_{state.value}")
        level = logging.INFO if state is State.CLOSED else logging.WARNING
        extra = {"breaker": self._name, "state": state.value, "failed": self._failed}
        logger.log(level, "circuit breaker", extra=extra | ({"reason": reason} if reason else {}))
