"""Counts: how often things have happened in this process that its operator wants to know of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


class Counts:
    """Named counters and high-water marks, from zero at cold start.

    Names are words in snake case; whoever counts documents its own.
    """

    def __init__(self) -> None:
        self._counter: Counter[str] = Counter()

    def count(self, name: str, by: int = 1) -> None:
        """Note that something has happened."""
        self._counter[name] += by

    def reach(self, name: str, value: int) -> None:
        """Note that a gauge was as high as this; what is kept is the highest it ever was."""
        self._counter[name] = max(self._counter[name], value)

    def __getitem__(self, name: str) -> int:
        """Return how often it has happened, or how high it was; 0 for what never has."""
        return self._counter[name]

    def snapshot(self) -> Mapping[str, int]:
        """Return all counters that are not zero."""
        return dict(self._counter)
