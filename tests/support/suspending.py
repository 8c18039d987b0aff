"""Processes that stop without a word: their connections stay open, and nothing answers."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

from infra.chaos.part import Part


@contextlib.contextmanager
def suspended(part: Part) -> Iterator[None]:
    """Suspend the process of a part (SIGSTOP); at the end it goes on, with all that it was sent meanwhile."""
    assert part._process is not None
    pid = part._process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
