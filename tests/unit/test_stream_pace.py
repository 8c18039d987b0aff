"""How fast a stream may go: the rate of its client, what its socket drains, and the window that it acknowledges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.stream.pace import MIN_PAGE, Drain, Pace
from functions.stream.window import Window
from shared.position import Position


@pytest.mark.parametrize("rate", [0.5, 1, 10, 333.3, 10_000])
def test_over_any_time_there_go_as_many_as_the_rate_allows_and_no_more(rate: float) -> None:
    """Slept exactly until the next may go, as a stream does."""
    now, sent = 100.0, 0
    pace = Pace(rate, now)
    while sent < 3 * rate + 3:
        room = pace.room(now)
        pace.spend(room)
        sent += room
        assert sent <= rate * (now - 100.0) + max(1.0, rate / 10) + 1e-6
        if not room:
            assert pace.next_at() > now
            now = pace.next_at()
    assert sent >= rate * (now - 100.0)


@given(st.lists(st.floats(0, 5), max_size=50))
def test_waiting_saves_up_a_tenth_of_a_second_at_most(pauses: list[float]) -> None:
    now = 0.0
    pace = Pace(50, now)
    for pause in pauses:
        now += pause
        assert 0 <= pace.room(now) <= 5


def test_a_page_holds_what_the_socket_takes_in_two_seconds() -> None:
    drain = Drain()
    assert drain.page(500) == 500, "nothing is known yet"
    drain.took(50_000, 1.0)
    drain.wrote(60_000, 100)
    assert drain.page(500) == 166
    drain.took(0, 60.0)
    drain.took(0, 60.0)
    drain.took(0, 60.0)
    drain.took(0, 60.0)
    assert drain.page(500) == MIN_PAGE
    drain.took(1_000_000_000, 1.0)
    assert drain.page(500) == 500


def test_a_window_has_room_for_what_is_not_acknowledged() -> None:
    window = Window(3)
    assert window.room == 3
    for number in (5, 3, 8):
        window.sent(Position(number, 0))
    assert window.room == 0
    assert window.highest == Position(8, 0)
    window.ack(Position(5, 0))
    assert window.room == 2
    window.ack(Position(4, 0))
    assert window.room == 2, "an ack never moves back"
    window.ack(Position(9, 0))
    assert (window.room, window.highest) == (3, Position(9, 0))


def test_a_large_window_is_not_searched_with_every_event() -> None:
    """A stream asks with each of them; ten thousand that wait would hold up all others."""
    compared = 0

    class Counted(Position):
        def __gt__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return tuple.__gt__(self, other)  # type: ignore[operator]

    window = Window(1000)
    for number in range(1000):
        position = Counted(number + 1, 0)
        assert window.highest < position
        window.sent(position)
    assert window.highest == Position(1000, 0)
    assert compared < 10_000
