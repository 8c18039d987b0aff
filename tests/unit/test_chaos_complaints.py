"""Which lines of a process's log count as a defect in the chaos harness."""

from __future__ import annotations

import subprocess
import sys

from infra.chaos.stack import complaints_in
from tests.support.gateway import ROOT

_LOGGING = """
import logging
from shared.logs import configure_logs

configure_logs("test")
logging.getLogger("tidemark.test").info("the queue is there")
logging.getLogger("tidemark.test").warning("the queue is away")
logging.getLogger("tidemark.test").error("nobody foresaw this")
"""


def test_an_error_in_our_own_form_counts_and_a_warning_does_not() -> None:
    """What another part does is warned of; an error is a defect of ours."""
    run = subprocess.run([sys.executable, "-c", _LOGGING], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "the queue is away" in run.stdout
    [line] = complaints_in(run.stdout + run.stderr)
    assert "nobody foresaw this" in line


def test_a_traceback_counts() -> None:
    assert complaints_in("INFO: fine\nTraceback (most recent call last):\n  File …\n") == [
        "Traceback (most recent call last):"
    ]
