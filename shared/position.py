"""Positions: where an event stands in the log, and how far a client has read.

A position is written ``<ms>-<seq>``, digits only, as Redis stream ids are. Positions rise strictly across all
topics of a deployment, so that one of them (then called a cursor) can resume any set of topics.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from shared.errors import BadCursorError

# Both numbers stay exact as Lua numbers (doubles). In milliseconds this reaches beyond the year 287000.
_LARGEST = 2**53 - 1
FORM = re.compile(r"(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,15})", re.ASCII)


class Position(NamedTuple):
    """A point in the log: milliseconds since 1970 and a sequence number within them."""

    ms: int
    seq: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read ``<ms>-<seq>``. Raises BadCursorError for any other text, leading zeros included."""
        match = FORM.fullmatch(text)
        if match is None:
            raise BadCursorError("A cursor has the form <milliseconds>-<number>, for example 1795426696974-0.")
        ms, seq = int(match[1]), int(match[2])
        if ms > _LARGEST or seq > _LARGEST:
            raise BadCursorError("A cursor's numbers must be below 2^53.")
        return cls(ms, seq)


#: Below every event. As a cursor it lies below every horizon, so a client that resumes here is told of a gap.
ZERO = Position(0, 0)
