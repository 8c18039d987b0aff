"""When a queue gives back what could not be delivered."""

from __future__ import annotations

import random
from collections.abc import Sequence

from functions.deliver.courier import Parcel

MOST_S = 15


def hidden_s(failed: Sequence[Parcel]) -> dict[str, int]:
    """Return for how long each receipt stays hidden: 1, 2, 4 … `MOST_S` seconds, with jitter.

    The messages of a group come back with its first one: while one of them is hidden, SQS gives out none.
    """
    chosen: dict[str, int] = {}
    seconds: dict[str, int] = {}
    for parcel in failed:
        group = parcel.group or parcel.receipt
        if group not in chosen:
            longest_s = min(MOST_S, 2 ** min(parcel.receives - 1, 10))
            chosen[group] = round(longest_s * random.uniform(0.5, 1.0)) or 1  # noqa: S311 - jitter, not a secret
        seconds[parcel.receipt] = chosen[group]
    return seconds
