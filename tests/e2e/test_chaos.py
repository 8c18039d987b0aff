"""The chaos harness, short: everything is broken for a while with a few seeds, and every promise is kept."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.support.dev_process import DevProcess, alive
from tests.support.gateway import ROOT, eventually

SEEDS = 3
SECONDS = 6
_PROCESSES = 7


def chaos(directory: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run the harness to its end."""
    return subprocess.run(
        [sys.executable, "-m", "infra.chaos", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(directory)},
        capture_output=True,
        text=True,
        check=False,
        timeout=160,
    )


def test_whatever_breaks_what_was_acknowledged_arrives_once_and_in_order(tmp_path: Path) -> None:
    """Every link and every process of the stack fails by a seeded schedule; `make chaos` does more of the same."""
    run = chaos(tmp_path, ["--seeds", f"1-{SEEDS}", "--seconds", str(SECONDS), "--jobs", "2"])
    assert run.returncode == 0, run.stdout + run.stderr
    lines = run.stdout.splitlines()
    assert sum(": ok " in line for line in lines) == SEEDS
    assert f"{SEEDS} seeds, 0 failed: 0 lost, 0 doubled, 0 disordered, 0 false gaps, 0 missing gaps, " in run.stdout
    hits = [int(found) for found in re.findall(r"faults hit (\d+) times", run.stdout)]
    assert min(hits) >= 10
    assert int(re.findall(r"SIGKILL (\d+)$", lines[-2])[0]) >= SEEDS
    assert list(tmp_path.iterdir()) == [], "the data of seeds that are well is not kept"


def test_a_deployment_is_broken_from_outside_only(tmp_path: Path) -> None:
    with DevProcess.running(tmp_path / "dev") as dev:
        data = str(dev.data_dir.path)
        run = chaos(tmp_path, ["--url", dev.url, "--data-dir", data, "--seeds", "4", "--seconds", "3"])
        assert run.returncode == 0, run.stdout + run.stderr
        assert "seed 4: ok " in run.stdout
        assert "are left out: those of webhook->keys" in run.stdout
        assert "SIGKILL" not in run.stdout.splitlines()[-2]
        before = set(dev.processes.values())
        assert all(psutil.pid_exists(pid) for pid in before), "nothing of it was killed"


def test_a_harness_that_is_killed_leaves_no_process_behind(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.chaos", "--seeds", "1-2", "--seconds", "60", "--jobs", "2"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
    )
    started: list[psutil.Process] = []
    try:

        def two_stacks_run() -> bool:
            started[:] = psutil.Process(process.pid).children(recursive=True)
            return len(started) >= 2 * _PROCESSES

        eventually(two_stacks_run, "two stacks run", timeout_s=60)
    finally:
        process.kill()
        process.wait()
    eventually(lambda: alive(started) == [], "all of it is gone", timeout_s=10)
