"""Audit of what is installed for known vulnerabilities: ``python -m tests.support.audit``.

pip-audit asks a database for each package. From some networks that cannot be reached, or what stands in its place
knows no package; pip-audit calls the latter "no known vulnerabilities found". Here both are told as what they are.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

_SERVICES = ("pypi", "osv")
_TIMEOUT_S = 5
#: For one database: a request may take its time-out, and there are many.
_PATIENCE_S = 120
_NOT_REACHED = ("ConnectionError", "ConnectTimeout", "ReadTimeout", "NameResolutionError", "ServiceError")


class Report(NamedTuple):
    """What an audit has shown: whether the database knew anything, whether that is fine, and both in words."""

    done: bool
    fine: bool
    text: str


def report(output: str, errors: str) -> Report:
    """Judge what pip-audit has printed. Raises RuntimeError if it broke, but not for want of a database."""
    try:
        dependencies: list[Mapping[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, LookupError, TypeError):
        if any(sign in errors for sign in _NOT_REACHED):
            return Report(done=False, fine=True, text="the database cannot be reached")
        raise RuntimeError(f"pip-audit failed: {errors or output}") from None
    audited = [found for found in dependencies if "vulns" in found]
    skipped = [found["name"] for found in dependencies if "vulns" not in found]
    if not audited:
        return Report(done=False, fine=True, text=f"the database knows none of {len(skipped)} packages")
    bad = [
        f"{found['name']} {found['version']}: {known['id']}, fixed in {', '.join(known['fix_versions']) or 'none'}"
        for found in audited
        for known in found["vulns"]
    ]
    if bad:
        return Report(done=True, fine=False, text="\n".join(bad))
    besides = f"; not audited: {', '.join(skipped)}" if skipped else ""
    return Report(done=True, fine=True, text=f"{len(audited)} packages, no known vulnerability{besides}")


def main() -> int:
    """Audit this environment; return 1 if something in it is known to be vulnerable."""
    why = []
    for service in _SERVICES:
        command = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--progress-spinner", "off"]
        options = ["--format", "json", "--timeout", str(_TIMEOUT_S), "--vulnerability-service", service]
        try:
            ran = subprocess.run(
                [*command, *options], capture_output=True, text=True, check=False, timeout=_PATIENCE_S
            )
        except subprocess.TimeoutExpired:
            why.append(f"{service}: the database takes longer than {_PATIENCE_S:g} s")
            continue
        found = report(ran.stdout, ran.stderr)
        if found.done:
            print(f"audit: {found.text}")  # noqa: T201
            return 0 if found.fine else 1
        why.append(f"{service}: {found.text}")
    print(f"audit: NOT DONE, no vulnerability database is at hand ({'; '.join(why)})")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
