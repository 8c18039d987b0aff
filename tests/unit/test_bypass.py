"""The header that skips rate limits."""

from __future__ import annotations

import pytest

from shared.bypass import Bypass
from shared.counts import Counts

SECRET = "s" * 32


def test_the_secret_skips_and_each_use_is_counted() -> None:
    """So that nobody uses it unnoticed."""
    counts = Counts()
    bypass = Bypass(SECRET, counts)
    assert bypass.allows(SECRET)
    assert bypass.allows(SECRET)
    assert counts.snapshot() == {"bypass_used": 2}


@pytest.mark.parametrize("given", ["", "s", SECRET[:-1], SECRET + "s", SECRET.upper(), "\xff" * 32, "☃" * 32])
def test_anything_else_does_not(given: str) -> None:
    """Headers come as Latin-1: no text may break the comparison."""
    counts = Counts()
    assert not Bypass(SECRET, counts).allows(given)
    assert counts.snapshot() == {"bypass_refused": 1}


@pytest.mark.parametrize("given", [None, "", SECRET])
def test_without_a_secret_the_header_means_nothing(given: str | None) -> None:
    """The default."""
    counts = Counts()
    assert not Bypass(None, counts).allows(given)
    assert counts.snapshot() == {}


def test_a_request_without_the_header_is_not_counted() -> None:
    """That is every request."""
    counts = Counts()
    assert not Bypass(SECRET, counts).allows(None)
    assert counts.snapshot() == {}
