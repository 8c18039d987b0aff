"""What is printed: a line a seed, all about a seed that failed, and in the end how often each fault has fired."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from infra.chaos.run import Result
from infra.chaos.topology import Kind

_SHOWN = 20


def line(result: Result) -> str:
    """Give the one line about a seed."""
    if result.good:
        outcome = "ok    "
        what = f"all there {result.healed_s:.1f} s after the last fault"
    else:
        outcome = "FAILED"
        what = ", ".join(f"{len(found)} {name}" for name, found in result.verdict.found() if found)
        what = what or "not all was there in time"
    words = ", ".join(f"{count} {word}" for word, count in sorted(result.words.items()))
    hits = f"{len(result.schedule)} faults hit {result.fired.total()} times"
    return (
        f"seed {result.seed}: {outcome} {what}; {result.pushes} pushes ({words}; {result.refused} attempts refused), "
        f"{result.connections} connections, {hits}"
    )


def details(result: Result, command: str) -> Iterator[str]:
    """Give everything about a seed that failed."""
    for name, found in result.verdict.found():
        if found:
            yield f"  {name} ({len(found)}):"
            yield from (f"    {what}" for what in found[:_SHOWN])
            if len(found) > _SHOWN:
                yield f"    … and {len(found) - _SHOWN} more"
    yield "  its faults:"
    yield from (f"    {episode}" for episode in result.schedule)
    if result.logs:
        yield f"  logs and data of its processes: {result.logs}"
    yield f"  run it again: {command}"


def summary(results: Sequence[Result]) -> Iterator[str]:
    """Give the sums over all seeds."""
    failed = [result.seed for result in results if not result.good]
    totals = Counter[str]()
    for result in results:
        totals.update({name: len(found) for name, found in result.verdict.found()})
    yield f"{len(results)} seeds, {len(failed)} failed: " + ", ".join(f"{totals[name]} {name}" for name in totals)
    if failed:
        yield f"failed: {','.join(map(str, failed))}"
    healed = sorted(result.healed_s for result in results if result.healed_s is not None)
    if healed:
        yield f"all there after the last fault: median {healed[len(healed) // 2]:.1f} s, at most {healed[-1]:.1f} s"
    fired = fired_by_link(results)
    yield "faults that hit, by link or process:"
    for where in sorted(fired):
        kinds = ", ".join(f"{kind.value} {fired[where][kind]}" for kind in Kind if kind in fired[where])
        yield f"  {where:18} {kinds}"
    by_kind = fired_by_kind(results)
    possible = _possible(results)
    yield "faults that hit, by kind: " + ", ".join(f"{kind.value} {by_kind[kind]}" for kind in possible)


def fired_by_link(results: Sequence[Result]) -> dict[str, Counter[Kind]]:
    """Sum up how often each kind has fired, on each link."""
    fired: defaultdict[str, Counter[Kind]] = defaultdict(Counter)
    for result in results:
        for (where, kind), count in result.fired.items():
            fired[where][kind] += count
    return fired


def fired_by_kind(results: Sequence[Result]) -> Counter[Kind]:
    """Sum up how often each kind has fired."""
    fired = Counter[Kind]()
    for counts in fired_by_link(results).values():
        fired += counts
    return fired


def exit_code(results: Sequence[Result], require_fired: int) -> tuple[int, str]:
    """Give the exit code and, when a kind has not hit often enough, why."""
    by_kind = fired_by_kind(results)
    short = [f"{kind.value} {by_kind[kind]}" for kind in _possible(results) if by_kind[kind] < require_fired]
    if short:
        return 1, f"hit fewer than {require_fired} times: {', '.join(short)}"
    return (0 if all(result.good for result in results) else 1), ""


def again(seed: int, seconds: float, *, deployed: bool) -> str:
    """Give the command that runs a seed again."""
    more = " and the same --url and credentials" if deployed else ""
    return f'make chaos ARGS="--seeds {seed} --seconds {seconds:g}"{more}'


def _possible(results: Sequence[Result]) -> list[Kind]:
    return [kind for kind in Kind if any(kind in result.kinds for result in results)]
