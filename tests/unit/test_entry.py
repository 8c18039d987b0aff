"""Merging what several topics hold into pages: nothing twice, nothing left out, no gap untold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from shared.entry import Entry, Gap, Page, Reading, TopicRead, merge, starting_cursor
from shared.position import ZERO, Position

CLOCK = Position(100, 0)


def at(ms: int) -> Position:
    return Position(ms, 0)


def entry(topic: str, ms: int, prev: int = 0) -> Entry:
    return Entry(topic, at(ms), at(prev), "{}")


def read(topic: str, *entries: Entry, cursor: int = 0, gap: Gap | None = None, truncated: bool = False) -> TopicRead:
    end = entries[-1].position if truncated else CLOCK
    return TopicRead(topic, at(cursor), gap, entries, end, truncated)


def reading(*topics: TopicRead) -> Reading:
    return Reading(CLOCK, ZERO, topics)


def test_a_complete_page_ends_at_the_clock() -> None:
    """When no topic is cut short, everything up to the clock is proven, and nothing follows."""
    a, b = entry("a", 10), entry("b", 20)
    assert merge(reading(read("a", a), read("b", b)), 10) == Page((), (a, b), CLOCK, more=False)


def test_no_entries_at_all_still_move_the_cursor_to_the_clock() -> None:
    """A quiet topic is proven too: its readers' cursors do not grow old."""
    assert merge(reading(read("a")), 10) == Page((), (), CLOCK, more=False)


def test_a_page_ends_where_the_first_truncated_topic_ends() -> None:
    """Above it that topic may hold entries that were not read: b's 30 has to wait for a's 15."""
    a = read("a", entry("a", 10), truncated=True)
    b = read("b", entry("b", 5), entry("b", 30))
    page = merge(reading(a, b), 10)
    assert [e.position for e in page.entries] == [at(5), at(10)]
    assert (page.cursor, page.more) == (at(10), True)


def test_of_several_truncated_topics_the_one_that_ends_first_ends_the_page() -> None:
    """What the others hold beyond it comes with the next page, after what this one still holds."""
    a = read("a", entry("a", 10), truncated=True)
    b = read("b", entry("b", 20), entry("b", 30), truncated=True)
    page = merge(reading(b, a), 10)
    assert [e.position for e in page.entries] == [at(10)]
    assert (page.cursor, page.more) == (at(10), True)


def test_a_page_of_too_many_entries_ends_at_its_last() -> None:
    """The limit holds over all topics together."""
    page = merge(reading(read("a", entry("a", 10), entry("a", 30)), read("b", entry("b", 20))), 2)
    assert [e.position for e in page.entries] == [at(10), at(20)]
    assert (page.cursor, page.more) == (at(20), True)


def test_a_page_that_holds_exactly_the_limit_is_complete() -> None:
    """No further page follows that would be empty."""
    page = merge(reading(read("a", entry("a", 10), entry("a", 20))), 2)
    assert (page.cursor, page.more) == (CLOCK, False)


def test_a_gap_of_a_topic_that_comes_later_waits_for_its_page() -> None:
    """Told now it would be told again: the next read begins below it and finds it anew."""
    gap = Gap("b", at(0), at(50), ZERO)
    a = read("a", entry("a", 10), truncated=True)
    b = read("b", entry("b", 60, prev=50), gap=gap)
    assert merge(reading(a, b), 10).gaps == ()
    assert merge(reading(read("a"), b), 10).gaps == (gap,)


def test_a_gap_that_ends_on_the_page_is_told_on_it() -> None:
    """Its topic has nothing on the page, but the page's cursor leaves the gap behind."""
    gap = Gap("b", at(0), at(5), ZERO)
    page = merge(reading(read("a", entry("a", 10), truncated=True), read("b", gap=gap)), 10)
    assert page.gaps == (gap,)


@given(st.lists(st.integers(0, 99), min_size=1))
def test_the_starting_cursor_is_the_lowest_start(starts: list[int]) -> None:
    """Before anything was sent, only the lowest start is safe to resume from in every topic."""
    topics = [read(f"t{number}", cursor=start) for number, start in enumerate(starts)]
    assert starting_cursor(topics) == at(min(starts))


class _Log:
    """A log in a few lines: what each topic was given, and how many of its oldest entries were trimmed."""

    def __init__(self, topics: Mapping[str, Sequence[int]], trimmed: Mapping[str, int]) -> None:
        self.held: dict[str, list[Entry]] = {}
        self.horizon: dict[str, Position] = {}
        for topic, moments in topics.items():
            entries = [entry(topic, ms, prev) for prev, ms in zip([0, *moments], moments, strict=False)]
            self.held[topic] = entries[trimmed[topic] :]
            lost = entries[: trimmed[topic]]
            self.horizon[topic] = lost[-1].position if lost else ZERO

    def read(self, cursor: Position, budgets: Mapping[str, int]) -> Reading:
        return reading(*(self._read_topic(topic, cursor, budgets[topic]) for topic in self.held))

    def _read_topic(self, topic: str, cursor: Position, budget: int) -> TopicRead:
        after = [e for e in self.held[topic] if e.position > cursor]
        found, truncated = tuple(after[:budget]), len(after) > budget
        gap = Gap(topic, cursor, self.horizon[topic], ZERO) if cursor < self.horizon[topic] else None
        return TopicRead(topic, cursor, gap, found, found[-1].position if truncated else CLOCK, truncated)


@st.composite
def logs(draw: st.DrawFn) -> _Log:
    """Up to five topics over one order of positions, some trimmed from below."""
    names = [f"t{number}" for number in range(draw(st.integers(1, 5)))]
    # A list of unknown size would nearly always be short: pages are cut only when there is much to read.
    count = draw(st.integers(0, 40))
    owners = draw(st.lists(st.sampled_from(names), min_size=count, max_size=count))
    topics: dict[str, list[int]] = {name: [] for name in names}
    for moment, owner in enumerate(owners, 1):
        topics[owner].append(2 * moment)
    return _Log(topics, {name: draw(st.integers(0, len(topics[name]))) for name in names})


@given(logs(), st.integers(0, 99), st.integers(1, 30), st.data())
def test_pages_bring_every_entry_once_in_rising_positions_and_every_gap_once(
    log: _Log, start: int, limit: int, data: st.DataObject
) -> None:
    """Whatever was cut short, whoever reads page after page has all that is held, and is told what is not."""
    cursor, entries, gaps = at(start), list[Entry](), list[Gap]()
    for _ in range(200):
        budgets = {topic: data.draw(st.integers(1, 4)) for topic in log.held}
        page = merge(log.read(cursor, budgets), limit)
        assert len(page.entries) <= limit
        assert all(e.position <= page.cursor for e in page.entries)
        assert page.cursor > cursor
        for gap in page.gaps:
            # Nothing of the topic was sent before its gap: the client can tell what it has missed.
            assert not [e for e in entries if e.topic == gap.topic]
        entries += page.entries
        gaps += page.gaps
        cursor = page.cursor
        if not page.more:
            break
    assert cursor == CLOCK
    held = [e for topic in log.held.values() for e in topic if e.position > at(start)]
    assert entries == sorted(held, key=lambda e: e.position)
    assert sorted(gap.topic for gap in gaps) == sorted(t for t, end in log.horizon.items() if at(start) < end)
