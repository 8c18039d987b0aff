"""Client names."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.client_name import check_client
from shared.errors import BadClientError

ALLOWED = string.ascii_letters + string.digits + "_-"


@given(st.text(ALLOWED, min_size=1, max_size=64))
def test_a_name_of_the_allowed_characters_passes_unchanged(name: str) -> None:
    """1-64 of A-Z a-z 0-9 _ -."""
    assert check_client(name) == name


@pytest.mark.parametrize("name", ["", "a" * 65, "a b", "a\n", "a.b", "a:b", "ä", "a\0", "../a", "*"])
def test_any_other_name_is_refused(name: str) -> None:
    """A client's name is part of a key: nothing that could reach another key passes."""
    with pytest.raises(BadClientError):
        check_client(name)
