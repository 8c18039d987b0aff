"""How the log's entries look on their way from Redis: in the answer of the read script, and on the live feed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from shared.entry import READABLE_FORMATS, Entry, Gap, TopicRead
from shared.position import Position

logger = logging.getLogger("tidemark.log")


def topic_read(
    topic: str, cursor: Position | str, answer: Sequence[Any], clock: Position, born: Position
) -> TopicRead:
    """Read what the script answered about a topic after a cursor.

    Raises ValueError and the like if it cannot have answered that.
    """
    if not answer and isinstance(cursor, Position):
        return TopicRead(topic, cursor, None, (), clock, truncated=False)
    start_text, after, resume, more, *found = answer
    start = Position.parse(start_text)
    gap = Gap(topic, Position.parse(after), Position.parse(resume), born) if after else None
    truncated = more == "1"
    entries: list[Entry] = []
    unreadable: Position | None = None
    for position_text, fmt, prev, envelope in found:
        position = Position.parse(position_text)
        if fmt in READABLE_FORMATS:
            entries.append(Entry(topic, position, Position.parse(prev), envelope))
        elif entries:
            # A later version wrote this one. Stop before it, so that the next read begins with its gap.
            truncated = True
            break
        else:
            logger.warning("an entry of a later format was skipped", extra={"format": fmt})
            unreadable = position
    if unreadable is not None:
        gap = Gap(topic, gap.after if gap else start, unreadable, born)
    if not truncated:
        end = clock
    elif entries:
        end = entries[-1].position
    else:
        end = unreadable or start
    return TopicRead(topic, start, gap, tuple(entries), end, truncated)


def parse_live(topic: str, message: str) -> Entry:
    """Read a live message ``<format> <prev> <position> <envelope>``. Raises ValueError if it is not one."""
    fmt, prev, position, envelope = message.split(" ", 3)
    if fmt not in READABLE_FORMATS:
        raise ValueError(f"live message of format {fmt}")
    return Entry(topic, Position.parse(position), Position.parse(prev), envelope)
