"""What a test needs from the machine: absent, it is skipped, but never in a run that must be complete."""

from __future__ import annotations

import os

import pytest

REQUIRE_ALL_VARIABLE = "TIDEMARK_TEST_REQUIRE_ALL"


def require(condition: bool, what: str) -> None:  # noqa: FBT001 - reads as a sentence: require(node, "node")
    """Skip the running test unless `condition`; fail it when TIDEMARK_TEST_REQUIRE_ALL=1."""
    if condition:
        return
    reason = f"this machine lacks {what}"
    if os.environ.get(REQUIRE_ALL_VARIABLE) == "1":
        pytest.fail(f"{reason}, and {REQUIRE_ALL_VARIABLE}=1 allows no test to be skipped", pytrace=False)
    pytest.skip(reason)
