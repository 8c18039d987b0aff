"""Calls that pile up are answered together, and nobody is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from shared.coalesce import Coalescer


class _Recorder:
    """A run that waits until it is let go, and records what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def run(self, queries: Sequence[int]) -> list[str]:
        self.batches.append(list(queries))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return [f"answer to {query}" for query in queries]


def _coalescer(recorder: _Recorder, *, parallel: int = 1, most: int = 100) -> Coalescer[int, str]:
    return Coalescer(recorder.run, parallel=parallel, weight=lambda query: query, most=most)


async def _until_idle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_lone_call_runs_at_once_and_alone() -> None:
    """Without load there is no waiting and no batch."""
    recorder = _Recorder()
    recorder.gate.set()
    coalescer = _coalescer(recorder)
    assert [await coalescer.call(1), await coalescer.call(2)] == ["answer to 1", "answer to 2"]
    assert recorder.batches == [[1], [2]]


async def test_calls_that_pile_up_go_out_as_one() -> None:
    """What arrives while the runs are busy is answered by one run, each caller with its own answer."""
    recorder = _Recorder()
    coalescer = _coalescer(recorder)
    calls = [asyncio.ensure_future(coalescer.call(number)) for number in (1, 2, 3, 4)]
    await _until_idle()
    recorder.gate.set()
    assert await asyncio.gather(*calls) == [f"answer to {number}" for number in (1, 2, 3, 4)]
    assert recorder.batches == [[1], [2, 3, 4]]


async def test_a_run_takes_no_more_than_it_may_but_always_one() -> None:
    """Batches are bounded by weight; a query that is too heavy by itself still gets its turn."""
    recorder = _Recorder()
    coalescer = _coalescer(recorder, most=10)
    calls = [asyncio.ensure_future(coalescer.call(weight)) for weight in (1, 6, 4, 1, 50, 2)]
    await _until_idle()
    recorder.gate.set()
    await asyncio.gather(*calls)
    assert recorder.batches == [[1], [6, 4], [1], [50], [2]]


async def test_an_error_reaches_every_caller_of_the_run_and_no_other() -> None:
    """Who was part of a failed run gets its error; the next run is not harmed."""
    recorder = _Recorder()
    coalescer = _coalescer(recorder)
    first = asyncio.ensure_future(coalescer.call(1))
    others = [asyncio.ensure_future(coalescer.call(number)) for number in (2, 3)]
    await _until_idle()
    recorder.error = ValueError("no")
    recorder.gate.set()
    results = await asyncio.gather(first, *others, return_exceptions=True)
    assert all(isinstance(result, ValueError) for result in results)
    recorder.error = None
    assert await coalescer.call(4) == "answer to 4"


async def test_a_caller_that_gives_up_is_not_asked_for() -> None:
    """A cancelled caller takes no place in the next run, whether it waits or runs."""
    recorder = _Recorder()
    coalescer = _coalescer(recorder)
    running, waiting, last = (asyncio.ensure_future(coalescer.call(number)) for number in (1, 2, 3))
    await _until_idle()
    waiting.cancel()
    running.cancel()
    recorder.gate.set()
    assert await last == "answer to 3"
    assert recorder.batches == [[1], [3]]
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_several_runs_go_on_beside_each_other() -> None:
    """Up to the limit, calls do not wait for each other."""
    recorder = _Recorder()
    coalescer = _coalescer(recorder, parallel=3)
    calls = [asyncio.ensure_future(coalescer.call(number)) for number in (1, 2, 3, 4, 5)]
    await _until_idle()
    assert recorder.batches == [[1], [2], [3]]
    recorder.gate.set()
    await asyncio.gather(*calls)
    assert recorder.batches[3:] == [[4, 5]]


async def test_a_run_that_its_callers_have_left_can_be_waited_for() -> None:
    """On Lambda nothing may be left running when a handler answers."""
    recorder = _Recorder()
    coalescer = _coalescer(recorder)
    first, second = (asyncio.ensure_future(coalescer.call(number)) for number in (1, 2))
    await _until_idle()
    recorder.gate.set()  # lets the first run go on, and
    recorder.gate.clear()  # not the one that begins after it
    await first
    await _until_idle()
    assert recorder.batches == [[1], [2]]
    second.cancel()
    settling = asyncio.ensure_future(coalescer.settle())
    await _until_idle()
    assert not settling.done()
    recorder.gate.set()
    await settling
    await coalescer.settle()


async def test_who_settles_does_not_wait_for_what_others_begin_meanwhile() -> None:
    """Under steady load there would be no end to it."""
    recorder = _Recorder()
    coalescer = _coalescer(recorder)
    calls = [asyncio.ensure_future(coalescer.call(number)) for number in (1, 2)]
    await _until_idle()
    recorder.gate.set()
    recorder.gate.clear()
    await _until_idle()
    settling = asyncio.ensure_future(coalescer.settle())
    calls.append(asyncio.ensure_future(coalescer.call(3)))
    await _until_idle()
    recorder.gate.set()
    recorder.gate.clear()
    await settling
    assert recorder.batches == [[1], [2], [3]]
    assert not calls[2].done()
    recorder.gate.set()
    await asyncio.gather(*calls)


async def test_a_run_that_answers_too_few_fails_every_caller() -> None:
    """Nobody can tell whose answer is missing, and nobody waits for ever."""

    async def run(queries: Sequence[int]) -> list[str]:
        await asyncio.sleep(0)
        return ["only one"] if len(queries) > 1 else ["alone"]

    coalescer = Coalescer(run, parallel=1, weight=lambda _query: 1, most=10)
    answers = await asyncio.gather(*(coalescer.call(number) for number in range(4)), return_exceptions=True)
    assert answers[0] == "alone"
    assert [type(answer) for answer in answers[1:]] == [ValueError] * 3
