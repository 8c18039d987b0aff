"""Signals on live channels: what is read, and what is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.entry import FORMAT, READABLE_FORMATS
from shared.errors import BadCursorError
from shared.position import Position
from shared.signal import Ack, End, is_signal, parse
from shared.wire import parse_live


@pytest.mark.parametrize(
    ("message", "meant"),
    [
        ("!end c_1 superseded", End("c_1", "superseded")),
        ("!end c_1 evicted", End("c_1", "evicted")),
        ("!end c_1 evicted and a word of a later version", End("c_1", "evicted")),
        ("!end c_1 of-a-later-version", End("c_1", "of-a-later-version")),
        ("!ack 0f tab 5-7", Ack("0f", "tab", Position(5, 7))),
        ("!ack 0f tab 5-7 more", Ack("0f", "tab", Position(5, 7))),
    ],
)
def test_a_signal_is_read(message: str, meant: End | Ack) -> None:
    """Words that a later version has added are no reason to miss what is understood."""
    assert parse(message) == meant


@pytest.mark.parametrize(
    "message",
    ["!", "!!", "! end c_1 evicted", "!end", "!end c_1", "!ack", "!ack 0f tab", "!ack 0f tab x", "!ack 0f tab 5",
     "!ack 0f tab 5-07", "!pause everything", "!END c_1 evicted", "!ack 0f tab 99999999999999999999-0"],
)  # fmt: skip
def test_what_is_unknown_or_torn_is_no_signal_to_act_on(message: str) -> None:
    """A later version has others; nothing is raised."""
    assert is_signal(message)
    assert parse(message) is None


@given(st.text())
def test_any_text_is_read_or_not_but_never_raises(text: str) -> None:
    """Whoever can publish can write anything."""
    assert parse(f"!{text}") is None or is_signal(f"!{text}")
    End.of(text)


@given(st.sampled_from(["!end c_1 superseded", "!ack 0f tab 5-7", "!later word", "!"]))
def test_a_version_without_signals_takes_one_for_an_event_that_it_cannot_read(message: str) -> None:
    """To it `parse_live` was all there was: such a message is logged, and the log is read."""
    with pytest.raises((ValueError, BadCursorError)):
        parse_live("t", message)


def test_no_event_looks_like_a_signal() -> None:
    """Its message begins with its format, which is a number."""
    assert not any(is_signal(f"{format_} 0-0 0-1 {{}}") for format_ in (FORMAT, *READABLE_FORMATS))
