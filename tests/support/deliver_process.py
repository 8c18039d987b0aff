"""The deliver function as the local stack runs it: a process of its own that polls the queues. It blocks."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support.gateway import ROOT, end
from tests.support.lambda_events import process_environment


@contextlib.contextmanager
def delivering(settings: Mapping[str, str], directory: Path) -> Iterator[None]:
    """Run it with these settings; its log is a file in a directory."""
    with (directory / "deliver.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.local.event_source"],
            cwd=ROOT,
            env=process_environment(settings),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
    finally:
        end(process)
