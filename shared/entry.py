"""Entries of the log, gaps between them, and the page that merges several topics.

Every entry carries ``prev``, the position of the entry before it in its topic. That one field is what makes
holes visible: a reader that knows a topic up to some proven position has missed nothing when ``prev`` is not
above it, and has missed something when it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from shared.position import Position

# A format changes over two releases that are deployed one after the other, none skipped: the first reads the new one
# and still writes the old one, the second writes it. So what a release writes, the one before it and the one after it
# can read: both serve while a deployment goes on, it can be rolled back, and an open stream lives through it. A third
# release may read the old one no more, once nothing is held that was written in it: for entries, after the retention.
# `shared.delivery` has the same rule for what the queues hold. Who meets a format that it does not read all the same
# tells its clients of a gap: see `shared.wire`.

#: The form in which entries and live messages are written now, and the ones that are read.
FORMAT = "1"
READABLE_FORMATS = frozenset({FORMAT})


class Entry(NamedTuple):
    """One event of one topic, as stored. ``envelope`` is JSON text without a position."""

    topic: str
    position: Position
    prev: Position
    envelope: str


class Gap(NamedTuple):
    """Events of a topic after ``after`` and up to ``resume`` may be lost; what is still held of them follows.

    ``born`` is where the log's memory began when this was found: whoever was told of it is not told again.
    """

    topic: str
    after: Position
    resume: Position
    born: Position


class TopicRead(NamedTuple):
    """What one read found of one topic.

    ``start`` is where this read begins: the cursor, or where a gap or a word such as ``earliest`` has put it.
    ``end`` is the position up to which the topic is proven by it: the clock, or when ``truncated`` (more entries
    follow) the last entry that was read.
    """

    topic: str
    start: Position
    gap: Gap | None
    entries: tuple[Entry, ...]
    end: Position
    truncated: bool


class Reading(NamedTuple):
    """The answer of one atomic read: the log's clock, when its memory begins, and each topic asked for.

    ``revoked_at``, in Unix seconds, is when the tokens of the reader's user were revoked, if they were.
    """

    clock: Position
    born: Position
    topics: tuple[TopicRead, ...]
    revoked_at: float | None = None


class Page(NamedTuple):
    """Several topics merged: gaps first, then entries in rising positions, all of them at or below ``cursor``.

    ``cursor`` is proven for every topic of the page. ``more`` means that a further page follows.
    """

    gaps: tuple[Gap, ...]
    entries: tuple[Entry, ...]
    cursor: Position
    more: bool


def merge(reading: Reading, limit: int) -> Page:
    """Merge a reading into a page of at most ``limit`` entries.

    The page ends at the smallest last position among the truncated topics: above it a truncated topic may hold
    entries that were not read. A gap whose topic has nothing on the page and resumes above its end belongs to a
    later page, where it is found again.
    """
    ends = [topic.end for topic in reading.topics if topic.truncated]
    end = min(ends, default=reading.clock)
    entries = sorted(
        (entry for topic in reading.topics for entry in topic.entries if entry.position <= end),
        key=lambda entry: entry.position,
    )
    more = bool(ends)
    if len(entries) > limit:
        entries = entries[:limit]
        end = entries[-1].position
        more = True
    present = {entry.topic for entry in entries}
    gaps = tuple(
        topic.gap
        for topic in reading.topics
        if topic.gap is not None and (not more or topic.topic in present or topic.gap.resume <= end)
    )
    return Page(gaps=gaps, entries=tuple(entries), cursor=end, more=more)


def starting_cursor(topics: Sequence[TopicRead]) -> Position:
    """Return the cursor that is safe before anything of the topics was delivered: the lowest start."""
    return min(topic.start for topic in topics)
