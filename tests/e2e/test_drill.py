"""`tidemark drill` as a user runs it: the primary Redis dies under traffic, with its replica a second behind."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.support.dev_process import TIDEMARK
from tests.support.gateway import ROOT

SMALL = ("--rate", "60", "--mailboxes", "4", "--streams", "6", "--seconds", "10", "--lag", "1")


def drill(*arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run a drill; return its exit code, its report and what it said."""
    done = subprocess.run(
        [TIDEMARK, "drill", *SMALL, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=160, check=False
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def test_with_confirmation_a_failover_loses_nothing_that_was_acknowledged() -> None:
    """Not even what the replica had not got yet; publishing goes on in under 30 s, and no stream is closed."""
    code, report, said = drill("--confirm-s", "8")
    assert code == 0, said
    assert report["lost"] == report["doubled"] == report["missed"] == report["refused"] == 0
    assert 0 < report["forgotten"] == report["restored"]
    assert 0 < report["first_success_s"] < 30
    assert report["queued"] > 0
    assert report["published"] + report["queued"] == report["pushes"] == 900
    # Whoever had seen a forgotten event gets it once more, with the same source and id, and was told of a gap.
    assert report["reconnects"] == 0
    assert report["gaps_told"] > 0


def test_without_confirmation_it_counts_what_the_failover_forgot_and_says_so() -> None:
    """That is what asynchronous replication costs: it is no surprise, and so no failure of the drill."""
    code, report, said = drill()
    assert code == 0, said
    assert 0 < report["forgotten"] == report["lost"]
    assert report["restored"] == report["doubled"] == report["missed"] == 0
    assert f"the failover forgot {report['lost']} pushes that had been acknowledged" in said
    assert report["gaps_told"] > 0
