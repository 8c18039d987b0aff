"""Counters."""

from __future__ import annotations

from shared.counts import Counts


def test_what_was_never_counted_is_zero_and_is_not_listed() -> None:
    """Asking makes no counter."""
    counts = Counts()
    assert counts["never"] == 0
    assert counts.snapshot() == {}


def test_each_name_counts_for_itself() -> None:
    """By one, or by more."""
    counts = Counts()
    counts.count("a")
    counts.count("b", 5)
    counts.count("a")
    assert (counts["a"], counts["b"]) == (2, 5)
    assert counts.snapshot() == {"a": 2, "b": 5}


def test_a_snapshot_does_not_change_any_more() -> None:
    """It is a copy."""
    counts = Counts()
    counts.count("a")
    before = counts.snapshot()
    counts.count("a")
    assert before == {"a": 1}
    assert counts.snapshot() == {"a": 2}


def test_a_gauge_keeps_the_highest_it_ever_was() -> None:
    counts = Counts()
    for value in (3, 7, 0, 5):
        counts.reach("buffered", value)
    assert counts["buffered"] == 7
    assert counts.snapshot() == {"buffered": 7}
