"""What a client asked for when it opened a stream."""

from __future__ import annotations

from typing import NamedTuple

from shared.position import Position
from shared.tokens import Grant

#: Start at the cursor that this client has acknowledged, at the earliest when there is none.
ACKED = "acked"


class Order(NamedTuple):
    """What a client asked for.

    ``grant`` is what the client's token allows. ``start`` is a cursor, `EARLIEST`, `NOW` or `ACKED`; ``ends_at``, in
    seconds of the stream's clock, is when the stream ends for ``end_reason``. ``max_rate`` is in events a second,
    ``window`` in events beyond the last acknowledged one; None is no limit.
    """

    connection: str
    grant: Grant
    client: str
    topics: tuple[str, ...]
    start: Position | str
    ends_at: float
    end_reason: str
    max_rate: float | None = None
    window: int | None = None
