"""One line of a bill."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """So much of something at a price in USD; ``part`` is what it belongs to. A line comes to whole cents."""

    part: str
    what: str
    quantity: float
    price: float

    @property
    def usd(self) -> float:
        """What it comes to."""
        return round(self.quantity * self.price, 2)


def total(lines: Iterable[Line]) -> float:
    """Add lines up, as they stand on the bill."""
    return round(sum(line.usd for line in lines), 2)
