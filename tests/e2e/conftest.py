"""Fixtures of the tests over processes."""

from __future__ import annotations

import pytest

from tests.support.artifact import Artifacts


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """Give the functions' unpacked artifacts."""
    return Artifacts(tmp_path_factory.mktemp("artifacts"))
