"""JSON objects of others: what is read, and how deep they may go."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.json_object import MAX_DEPTH, NotAnObjectError, parse_object

leaves = st.none() | st.booleans() | st.integers() | st.text()
objects = st.dictionaries(
    st.text(), st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=60)
)


def nested(depth: int, kind: str = "object") -> Any:
    """Give an object of so many levels."""
    value: Any = 1
    for _ in range(depth - 1):
        value = [value] if kind == "list" else {"a": value}
    return {"a": value}


def levels(value: Any) -> int:
    """Count the levels, one call a level: the plain way."""
    held = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if held is None else 1 + max((levels(inner) for inner in held), default=0)


@given(objects)
def test_an_object_is_read_as_json_says_unless_it_is_too_deep(value: dict[str, Any]) -> None:
    """Whatever its form, the bound is on levels and on nothing else."""
    text = json.dumps(value).encode()
    if levels(value) <= MAX_DEPTH:
        assert parse_object(text) == value
    else:
        with pytest.raises(NotAnObjectError, match=r"^is nested too deeply$"):
            parse_object(text)


@pytest.mark.parametrize("kind", ["object", "list"])
def test_the_bound_is_exact(kind: str) -> None:
    """As many levels as are allowed, and one more; also beside many others that are shallow."""
    wide: dict[str, Any] = {str(number): [] for number in range(2 * MAX_DEPTH)}
    for beside in ({}, wide):
        good = nested(MAX_DEPTH, kind) | beside
        assert parse_object(json.dumps(good).encode()) == good
        with pytest.raises(NotAnObjectError, match=r"^is nested too deeply$"):
            parse_object(json.dumps(nested(MAX_DEPTH + 1, kind) | beside).encode())


def test_brackets_in_text_are_no_levels() -> None:
    """They only make the levels be counted."""
    value = {"a": "[{" * 1000}
    assert parse_object(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "is not JSON"),
        (b"hello", "is not JSON"),
        (b'{"a":"\xff"}', "is not JSON"),
        (b'{"a":' + b"1" * 5000 + b"}", "is not JSON"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"a":' * 100_000, "is nested too deeply"),
        (b"[]", "is not a JSON object"),
        (b"null", "is not a JSON object"),
        (b"7", "is not a JSON object"),
        (b'"a"', "is not a JSON object"),
    ],
)
def test_anything_else_is_refused_with_the_reason(text: bytes, reason: str) -> None:
    with pytest.raises(NotAnObjectError) as raised:
        parse_object(text)
    assert str(raised.value) == reason
