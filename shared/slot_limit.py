"""How many streams a user may have open, and what happens beyond that."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Policy(StrEnum):
    """What a stream beyond the limit does."""

    EVICT_OLDEST = "evict_oldest"
    """It takes the place of the one that was opened first."""
    REJECT = "reject"
    """It is refused."""


class SlotLimit(NamedTuple):
    """``most`` streams of one user."""

    most: int = 3
    policy: Policy = Policy.EVICT_OLDEST
