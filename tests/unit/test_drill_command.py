"""What `tidemark drill` takes for a broken promise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from infra.commands.drill import broken
from shared.drill_report import examine

GOOD = replace(examine([], {}, [], fault_at=None), pushes=10, published=8, queued=2, first_success_s=3.0)


def test_a_failover_in_time_without_loss_keeps_every_promise() -> None:
    """With confirmation and without."""
    assert broken(GOOD, confirmed=True) == broken(GOOD, confirmed=False) == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"first_success_s": None}, "no push was published again"),
        ({"first_success_s": 30.0}, "the first push was published again after 30 s"),
        ({"lost": 2, "forgotten": 2}, "2 accepted pushes are lost"),
        ({"doubled": 1}, "1 messages stand in the log twice"),
        ({"missed": 4}, "streams missed 4 events and were told of no gap"),
    ],
)
def test_each_broken_promise_is_named(changed: dict[str, float | None], told: str) -> None:
    """With confirmation a failover has no excuse."""
    assert broken(replace(GOOD, **changed), confirmed=True) == [told]  # type: ignore[arg-type]


def test_without_confirmation_what_a_failover_forgot_is_no_broken_promise() -> None:
    """But what was queued, or stands nowhere for no reason, is."""
    assert broken(replace(GOOD, lost=2, forgotten=2), confirmed=False) == []
    assert broken(replace(GOOD, lost=3, forgotten=2), confirmed=False) == ["1 accepted pushes are lost"]
