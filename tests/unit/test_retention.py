"""Retention: what the log keeps, and for how long it can vouch for a cursor."""

from __future__ import annotations

import pytest

from shared.retention import Retention


def test_memory_reaches_thirty_days_beyond_the_retention() -> None:
    """A cursor older than retention + 30 days is a gap by rule: nothing that is kept can vouch for it."""
    assert Retention(keep_s=86_400, topic_max_events=1000, dedupe_s=86_400).memory_s == 31 * 86_400
    assert Retention(keep_s=1, topic_max_events=1, dedupe_s=3600).memory_s == 30 * 86_400 + 1


def test_retention_does_not_change_once_it_is_read() -> None:
    """It is a value: part of the settings of a process."""
    with pytest.raises(AttributeError):
        Retention(1, 1, 3600).keep_s = 2  # type: ignore[misc]  # the point of the test
