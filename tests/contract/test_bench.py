"""The report of the benchmarks, with few streams and short: it measures what is there, and says what is not."""

from __future__ import annotations

import subprocess
import sys

from bench.peers import PEERS
from tests.support.gateway import ROOT

TIMEOUT_S = 180
#: Those that have most of the code; each costs a few seconds.
PARTS = ("latency", "storm", "cost", "slow")


def test_the_report_measures_ours_beside_the_floor_and_every_peer_that_is_there() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "all", "--quick", "--parts", *PARTS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    report = done.stdout.rpartition("# Tidemark beside")[2]
    rows = [line.split(" | ") for line in report.splitlines() if line.startswith("| ") and "---" not in line]
    measured = {
        name: {row[0].strip("| ") for row in rows[1:] if row[column] != "-"} for column, name in enumerate(rows[0])
    }
    assert "own mailboxes, 20 streams: p50, ms" in measured["floor"] & measured["ours"]
    assert "storm, 30 streams: all greeted, ms" in measured["bare Starlette"] & measured["ours"]
    for what in ("a push", "a stream-hour", "10 users x 3 streams", "a client that reads none"):
        assert any(line.startswith(what) for line in measured["ours"]), what
    for peer in PEERS:
        lack = peer.missing()
        assert bool(measured[peer.name]) == (lack is None), peer.name
        assert lack is None or f"{peer.name} is not measured: this machine lacks {lack}." in report
