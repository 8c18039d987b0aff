"""Positions and cursors: one form of text, one order."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BadCursorError
from shared.position import ZERO, Position

LARGEST = 2**53 - 1
numbers = st.integers(0, LARGEST)
positions = st.builds(Position, numbers, numbers)


@given(positions)
def test_a_position_survives_being_written_and_read(position: Position) -> None:
    """What is printed is exactly what is parsed."""
    assert Position.parse(str(position)) == position


@given(positions, positions)
def test_positions_are_ordered_as_their_numbers_are(one: Position, other: Position) -> None:
    """Milliseconds first, then the sequence; never as text ("9-0" is below "10-0")."""
    assert (one < other) == ((one.ms, one.seq) < (other.ms, other.seq))


def test_zero_is_below_every_other_position() -> None:
    """As a cursor it lies below every horizon."""
    assert str(ZERO) == "0-0"
    assert ZERO < Position(0, 1) < Position(1, 0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "1",
        "1-",
        "-1",
        "1-1-1",
        "1--1",
        "-1-1",
        "+1-1",
        "01-1",
        "1-01",
        "00-0",
        "1.0-1",
        "1e3-1",
        " 1-1",
        "1-1 ",
        "1-1\n",
        "1-1\r\n",
        "1_0-1",
        "0x1-1",
        "١-١",  # noqa: RUF001 - digits, but not ASCII's
        "1‐1",  # noqa: RUF001 - a hyphen, but not ASCII's
        "$",
        "*",
        "now",
        "1-*",
        f"{2**53}-0",
        f"0-{2**53}",
        "9" * 17 + "-0",
        "1" * 100_000 + "-0",
    ],
)
def test_any_other_text_is_a_bad_cursor(text: str) -> None:
    """Signs, spaces, leading zeros, other digits and numbers that Lua could not hold exactly are refused."""
    with pytest.raises(BadCursorError):
        Position.parse(text)


@given(st.text(max_size=40))
def test_text_is_read_only_in_its_canonical_form(text: str) -> None:
    """Whatever parses prints the same again: one position has one text."""
    try:
        position = Position.parse(text)
    except BadCursorError:
        canonical = re.fullmatch(r"(0|[1-9]\d*)-(0|[1-9]\d*)", text, re.ASCII)
        assert canonical is None or max(int(canonical[1]), int(canonical[2])) > LARGEST
    else:
        assert str(position) == text


@given(st.from_regex(r"(0|[1-9][0-9]{0,17})-(0|[1-9][0-9]{0,17})", fullmatch=True))
def test_numbers_are_exact_up_to_two_to_the_53(text: str) -> None:
    """Beyond, a Lua number would round them, so they are refused rather than changed."""
    ms, seq = map(int, text.split("-"))
    if max(ms, seq) <= LARGEST:
        assert Position.parse(text) == (ms, seq)
    else:
        with pytest.raises(BadCursorError):
            Position.parse(text)
