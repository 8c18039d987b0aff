"""The judgement of a drill, from what was sent, held and heard."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from shared.drill_report import DrillReport, Followed, Outcome, Sent, examine

PUBLISHED, QUEUED, REFUSED = Outcome.PUBLISHED, Outcome.QUEUED, Outcome.REFUSED


def sent(id_: str, at: float, outcome: Outcome = PUBLISHED, position: str | None = None) -> Sent:
    told = position or f"{at:.0f}-0" if outcome is PUBLISHED else None
    return Sent(id_, at, at + 0.01, outcome, told)


def heard(ids: Sequence[str], reconnects: int, gaps: int) -> Followed:
    return Followed(ids, reconnects, gaps, meant=("a", "b"))


def judged(
    pushes: Sequence[Sent],
    held: dict[str, list[str]],
    *streams: Followed,
    fault_at: float | None = None,
) -> DrillReport:
    return examine(pushes, held, streams, fault_at=fault_at)


def test_a_drill_in_which_nothing_happens_is_good() -> None:
    """Every push published, held once, and heard once."""
    report = judged([sent("a", 1), sent("b", 2)], {"a": ["1-0"], "b": ["2-0"]}, heard(("a", "b"), 0, 0), fault_at=1.5)
    assert report.is_good
    assert (report.pushes, report.published, report.queued, report.refused) == (2, 2, 0, 0)
    assert report.first_success_s == 0.0
    assert report.longest_silence_s == pytest.approx(1.0)
    assert (report.lost, report.doubled, report.missed, report.seen_twice, report.forgotten) == (0, 0, 0, 0, 0)


def test_what_was_accepted_and_is_not_held_is_lost() -> None:
    """Published or queued; what was refused was promised to nobody."""
    pushes = [sent("a", 1), sent("b", 2, QUEUED), sent("c", 3, REFUSED), sent("d", 4)]
    report = judged(pushes, {"d": ["4-0"]})
    assert (report.lost, report.forgotten, report.restored) == (2, 1, 0)
    assert not report.is_good


def test_what_a_failover_forgot_and_confirmation_brought_back_is_restored_and_not_lost() -> None:
    """It stands at another position than its push was told; a stream that had it gets it twice."""
    report = judged([sent("a", 1), sent("b", 2)], {"a": ["9-0"], "b": ["2-0"]}, heard(("a", "b", "a"), 1, 1))
    assert (report.forgotten, report.restored, report.lost) == (1, 1, 0)
    assert (report.seen_twice, report.reconnects, report.gaps_told) == (1, 1, 1)
    assert report.is_good


def test_a_message_at_two_positions_is_doubled() -> None:
    """Whatever its pushes were told."""
    report = judged([sent("a", 1)], {"a": ["1-0", "2-0"]})
    assert report.doubled == 1
    assert not report.is_good


def test_a_stream_that_was_told_of_no_gap_must_have_everything() -> None:
    """One that was told has been told the truth."""
    pushes = [sent("a", 1), sent("b", 2)]
    held = {"a": ["1-0"], "b": ["2-0"]}
    assert judged(pushes, held, heard(("a",), 0, 0)).missed == 1
    assert judged(pushes, held, heard(("a",), 0, 1)).missed == 0
    assert judged(pushes, held, Followed(("a",), 0, 0, meant=("a",))).missed == 0


@pytest.mark.parametrize(
    ("outcomes", "first"),
    [
        ([(6, QUEUED), (7, QUEUED), (9, PUBLISHED)], 4.01),
        ([(6, PUBLISHED), (7, REFUSED), (9, PUBLISHED)], 4.01),
        ([(6, PUBLISHED)], 0.0),
        ([(6, QUEUED), (9, REFUSED)], None),
        ([(1, REFUSED), (6, PUBLISHED)], 0.0),
    ],
)
def test_the_first_success_is_the_first_after_a_failure_after_the_fault(
    outcomes: Sequence[tuple[float, Outcome]], first: float | None
) -> None:
    """Counted from the fault: what had been answered before says nothing."""
    report = judged([sent(str(at), at, outcome) for at, outcome in outcomes], {}, fault_at=5.0)
    assert report.first_success_s == (None if first is None else pytest.approx(first))


def test_the_longest_silence_reaches_to_the_last_answer() -> None:
    """A drill that ends in an outage does not look well."""
    pushes = [sent("a", 0), sent("b", 1), sent("c", 2, QUEUED), sent("d", 8, QUEUED)]
    assert judged(pushes, {}).longest_silence_s == pytest.approx(7.0)
    assert judged([], {}).longest_silence_s == 0.0


def test_a_report_is_json() -> None:
    """With every number in it, and what was and was not forced."""
    told = examine([sent("a", 1)], {"a": ["1-0"]}, [], fault_at=None, forced=["x"], only_measured=["y"]).as_json()
    assert (told["forced"], told["only_measured"], told["pushes"]) == (("x",), ("y",), 1)
