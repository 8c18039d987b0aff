"""What a stream holds for a slow client: bounded, in order, and of what may give way only the newest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.stream import buffer
from functions.stream.buffer import MOST_BYTES, MOST_EVENTS, Buffer
from shared.counts import Counts
from shared.entry import Entry
from shared.follower import Event, Proven
from shared.position import Position


def event(number: int, low: str | None = None, *, topic: str = "t", size: int = 10) -> Event:
    data = b"x" * size
    return Event(topic, Position(number, 0), data, data, low)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer, "MAX_EVENTS", 4)
    monkeypatch.setattr(buffer, "MAX_BYTES", 100)


def positions(held: Buffer) -> list[int]:
    taken = [held.pop() for _ in range(len(held))]
    return [item.position.ms for item in taken if isinstance(item, Event | Proven)]


def test_it_is_full_by_events_and_by_bytes() -> None:
    """What does not fit is refused."""
    counts = Counts()
    held = Buffer(counts)
    assert all(held.push(event(n)) for n in range(4))
    assert not held.push(event(4))
    held.clear()
    assert len(held) == 0
    assert held.push(event(5, size=95))
    assert not held.push(event(6, size=6))
    assert held.push(event(7, size=5))
    assert (counts[MOST_EVENTS], counts[MOST_BYTES]) == (4, 100)


def test_when_full_it_keeps_the_newest_event_of_low_priority_of_each_key_and_topic() -> None:
    held = Buffer(Counts())
    for item in (event(0, "a"), event(1), event(2, "a", topic="other"), event(3, "b")):
        assert held.push(item)
    assert held.push(event(4, "a")), "the first gives way to the one that comes"
    assert held.coalesced == 1
    assert held.push(event(5, "b"))
    assert held.coalesced == 2
    assert not held.push(event(6)), "there is nothing more to drop"
    assert positions(held) == [1, 2, 4, 5]
    held.clear()
    assert held.coalesced == 0


def test_with_room_nothing_gives_way() -> None:
    held = Buffer(Counts())
    assert held.push(event(0, "a"))
    assert held.push(event(1, "a"))
    assert positions(held) == [0, 1]
    assert held.coalesced == 0


@given(st.lists(st.one_of(st.tuples(st.sampled_from([None, "a", "b"]), st.integers(1, 60)), st.just("pop"))))
def test_it_never_holds_more_and_loses_only_what_a_newer_one_replaces(
    steps: list[tuple[str | None, int] | str],
) -> None:
    counts = Counts()
    held = Buffer(counts)
    pushed: list[Event] = []
    out: list[Event] = []
    for number, step in enumerate(steps):
        if isinstance(step, tuple):
            one = event(number, step[0], size=step[1])
            if held.push(one):
                pushed.append(one)
            else:
                pushed = [one for one in pushed if one in out]
                held.clear()
        elif held:
            item = held.pop()
            assert isinstance(item, Event)
            out.append(item)
        assert len(held) <= 4
    gave_way = held.coalesced
    out += [item for item in (held.pop() for _ in range(len(held))) if isinstance(item, Event)]
    assert counts[MOST_EVENTS] <= 4
    assert counts[MOST_BYTES] <= 100
    assert [item.position for item in out] == sorted(item.position for item in out)
    lost = [one for one in pushed if one not in out]
    assert len(lost) >= gave_way
    for one in lost:
        assert any(other.low == one.low and other.position > one.position for other in out)


def test_an_event_knows_its_key_only_if_it_is_of_low_priority() -> None:
    def low(envelope: str) -> str | None:
        return Event.of(Entry("t", Position(1, 0), Position(0, 0), envelope)).low

    assert low('{"id":"1","priority":"low","key":"unread"}') == "unread"
    assert low('{"id":"1","priority":"high","key":"unread"}') is None
    assert low('{"id":"1","priority":"low"}') is None
    assert low('{"id":"1","data":{"priority":"low","key":"unread"}}') is None
