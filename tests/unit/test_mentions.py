"""Whether a text of unknown form names a mailbox."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.mentions import Mentions

ADDRESS = "ann.b+c@example.com"
ANN = Mentions(ADDRESS)

NAMING = [
    ADDRESS,
    "ANN.B+C@EXAMPLE.COM",
    f"to <{ADDRESS}>, now",
    f"gmail:{ADDRESS}",
    f"it was {ADDRESS}.",
    f'{{"emailAddress":"{ADDRESS}"}}',
    '{"emailAddress":"ann.b+c\\u0040example.com"}',
    # Cut off, and so not JSON.
    '{"emailAddress":"ann.b+c\\u0040example.com","histo',
    json.dumps({"quoted": json.dumps({"emailAddress": ADDRESS})}),
]
OTHERS = [
    "",
    "joann.b+c@example.com",
    "x.ann.b+c@example.com",
    "ann.b+c@example.com.au",
    "ann.b+c@example.community",
    "ann.b+c@example.com-x",
    "annxb+c@example.com",
    "ann.bbc@example.com",
]


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("text", NAMING)
def test_the_address_is_found_in_any_case_and_with_jsons_escapes(text: str) -> None:
    """Also where base64 holds it, once and twice, as in a push and in a queue's message that holds a push."""
    padding = "some words before it: "
    assert ANN.in_text(text)
    for once in (base64_of(padding + text), base64_of(padding + text).rstrip("=")):
        assert ANN.in_text(once)
        assert ANN.in_text(json.dumps({"head": base64_of(json.dumps({"message": {"data": once}}))}))


@pytest.mark.parametrize("text", OTHERS)
def test_an_address_that_only_contains_it_is_another(text: str) -> None:
    """What belongs to others must not be erased."""
    assert not ANN.in_text(text)
    assert not ANN.in_text(base64_of(f"some words before it: {text}"))


def test_a_push_whose_end_is_missing_is_looked_through_as_far_as_it_goes() -> None:
    """Of an oversized push the first kilobyte is kept: base64 that ends anywhere."""
    data = json.dumps({"emailAddress": ADDRESS, "filler": "x" * 300})
    head = f'{{"message":{{"data":"{base64_of(data)}'
    for end in range(len(head) - 8, len(head)):
        assert ANN.in_bytes(head[:end].encode())


@given(st.binary(max_size=300))
def test_any_bytes_can_be_looked_through(data: bytes) -> None:
    """And with the address behind them they name it."""
    ANN.in_bytes(data)
    assert ANN.in_bytes(data + b" " + ADDRESS.encode())


@given(st.text(max_size=100))
def test_any_text_can_be_looked_through(text: str) -> None:
    """Half a surrogate pair included, which JSON can hold and UTF-8 cannot."""
    assert not ANN.in_text(text.replace("@", ""))
