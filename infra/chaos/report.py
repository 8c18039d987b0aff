"""What is printed: a line a seed, all about a seed that failed, and in the end how often each fault has fired."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from infra.chaos.run import Result
from infra.chaos.topology import Kind

_SHOWN = 20


def line(result: Result) -> str:
    """Give the one line about a seed."""
    if result.verdict.good and result.healed_s is not None:
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


def details(result: Result, again: str) -> Iterator[str]:
    """Give everything about a seed that failed."""
    for name, found in result.verdict.found():
        if found:
            yield f"  {name} ({len(found)}):"
            yield from (f"    {what}" for what in found[:_SHOWN])
            if len(found) > _SHOWN:
                yield f"    … and {len(found) - _SHOWN} more"
    yield "  its faults:"
    yield from (f"    {episode}" for episode in result.schedule)
    yield f"  logs of its processes: {result.logs}"
    yield f"  run it again: {again}"


def summary(results: Sequence[Result]) -> Iterator[str]:
    """Give the sums over all seeds."""
    failed = [result.seed for result in results if not _is_good(result)]
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
    yield "faults that hit, by kind: " + ", ".join(f"{kind.value} {by_kind[kind]}" for kind in Kind)


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


def exit_code(results: Sequence[Result], require_fired: int, kinds: Sequence[Kind]) -> tuple[int, str]:
    """Give the exit code and, when a kind has not fired often enough, why."""
    by_kind = fired_by_kind(results)
    short = [f"{kind.value} {by_kind[kind]}" for kind in kinds if by_kind[kind] < require_fired]
    if short:
        return 1, f"fired fewer than {require_fired} times: {', '.join(short)}"
    return (0 if all(_is_good(result) for result in results) else 1), ""


def _is_good(result: Result) -> bool:
    return result.verdict.good and result.healed_s is not None
