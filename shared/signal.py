"""Signals: what processes tell each other on live channels, beside events.

    !end <connection> <reason>          this stream's slot was taken away
    !ack <user> <client> <cursor>       a client has everything up to this cursor; the user is hashed

An event's message begins with its format, a digit; a signal with its mark. A version that knows no signals takes one
for an event that it cannot read, and asks the log. A kind of signal that is not known here is ignored, and so are
words at its end: a later version may have added them.

A live feed promises nothing, so whatever is said here can also be found out by a reconcile.
"""

from __future__ import annotations

from typing import NamedTuple

from shared.errors import BadCursorError
from shared.position import Position

MARK = "!"
#: Why a slot is taken away, as far as is known here.
REASONS = ("superseded", "evicted")


class End(NamedTuple):
    """The stream of this connection has lost its slot. ``reason`` is one of `REASONS`, or of a later version."""

    connection: str
    reason: str

    @classmethod
    def of(cls, text: str) -> End:
        """Read ``<connection> <reason>``; words that follow are ignored, as those of a signal are."""
        connection, reason, *_ = [*text.split(" "), "", ""]
        return cls(connection, reason)


class Ack(NamedTuple):
    """A client has everything up to this cursor. ``user`` is hashed."""

    user: str
    client: str
    cursor: Position


def is_signal(message: str) -> bool:
    """Tell whether a live message is no event."""
    return message.startswith(MARK)


def parse(message: str) -> End | Ack | None:
    """Read a signal; None if it is of no kind that is known here, or torn."""
    match message.split(" "):
        case ["!end", connection, reason, *_]:
            return End(connection, reason)
        case ["!ack", user, client, cursor, *_]:
            try:
                return Ack(user, client, Position.parse(cursor))
            except BadCursorError:
                return None
        case _:
            return None
