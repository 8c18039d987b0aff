"""What Lambda says of an invocation, as the adapter tells it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.stream.invocation import arrived_at, deadline


def test_the_deadline_stands_in_the_context_in_milliseconds() -> None:
    """Beside much else."""
    context = {"request_id": "1", "deadline": 1_795_000_123_456, "invoked_function_arn": "arn", "env_config": {}}
    assert deadline(json.dumps(context)) == 1_795_000_123.456


def test_the_moment_at_which_a_request_came_stands_in_its_context_as_well() -> None:
    """In the form of a function URL's events."""
    context = {"accountId": "anonymous", "time": "23/Nov/2026:14:00:00 +0000", "timeEpoch": 1_795_442_400_123}
    assert arrived_at(json.dumps(context)) == 1_795_442_400.123


@pytest.mark.parametrize(
    "context",
    [None, "", "x", "null", "[]", "7", '"deadline"', "{}", '{"deadline": null}', '{"deadline": "1795000123456"}',
     '{"deadline": true}', '{"deadline": []}', '{"deadline": NaN}', '{"deadline": Infinity}', '{"deadline": 1e400}',
     '{"deadline": {"ms": 1}}', '{"deadline": 1' + "0" * 400 + "}", "[" * 100_000],
)  # fmt: skip
def test_a_context_that_tells_none_is_ignored(context: str | None) -> None:
    """Outside of Lambda anybody can write one."""
    assert deadline(context) is None
    assert arrived_at(context and context.replace("deadline", "timeEpoch")) is None


@given(st.text() | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_whatever_stands_there_nothing_is_raised(context: str) -> None:
    """It comes with a request."""
    assert deadline(context) is None
