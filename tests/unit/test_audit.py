"""What the audit of dependencies says of what pip-audit has found."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.audit import Report, report

CLEAN = {"name": "a", "version": "1.0", "vulns": []}
SKIPPED = {"name": "b", "skip_reason": "Dependency not found"}
BAD = {"name": "c", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1", "3.0"]}]}


def printed(*dependencies: dict[str, Any]) -> str:
    return json.dumps({"dependencies": dependencies, "fixes": []})


@pytest.mark.parametrize(
    ("output", "errors", "found"),
    [
        (printed(CLEAN), "", Report(done=True, fine=True, text="1 packages, no known vulnerability")),
        (
            printed(CLEAN, SKIPPED),
            "",
            Report(done=True, fine=True, text="1 packages, no known vulnerability; not audited: b"),
        ),
        (printed(CLEAN, BAD, SKIPPED), "", Report(done=True, fine=False, text="c 2.0: PYSEC-1, fixed in 2.1, 3.0")),
        (printed(SKIPPED, SKIPPED), "", Report(done=False, fine=True, text="the database knows none of 2 packages")),
        (printed(), "", Report(done=False, fine=True, text="the database knows none of 0 packages")),
        (
            "",
            "requests.exceptions.ConnectionError: no route",
            Report(done=False, fine=True, text="the database cannot be reached"),
        ),
    ],
)
def test_what_was_not_audited_is_not_called_clean(output: str, errors: str, found: Report) -> None:
    """Only a known vulnerability fails the check; that nobody could look is told."""
    assert report(output, errors) == found


@pytest.mark.parametrize("output", ["", "[]", "{}", "no JSON"])
def test_an_audit_that_broke_is_an_error(output: str) -> None:
    """It is not the network's."""
    with pytest.raises(RuntimeError, match="pip-audit failed: "):
        report(output, "Traceback: KeyError")
