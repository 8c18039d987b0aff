"""What a process and its descendants use, as proc(5) tells it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PSS = re.compile(r"^Pss:\s+(\d+) kB$", re.MULTILINE)


def cpu_s(pid: int, *, alone: bool = False) -> float:
    """Return the CPU seconds that a process has used; ``alone`` without its descendants.

    The kernel counts in ns a thread; where it does not say so, in ticks a process (stat, fields 14 and 15).
    """
    used = 0.0
    for one in [pid] if alone else _tree(pid):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            threads = [file.read_text(encoding="ascii") for file in Path(f"/proc/{one}/task").glob("*/schedstat")]
            if threads:
                used += sum(int(thread.split()[0]) for thread in threads) / 1e9
            else:
                fields = Path(f"/proc/{one}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
                used += (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return used


def pss_kib(pid: int) -> int:
    """Return the proportional set size: memory of its own, and its share of what it shares with others."""
    total = 0
    for one in _tree(pid):
        with contextlib.suppress(OSError):
            found = _PSS.search(Path(f"/proc/{one}/smaps_rollup").read_text(encoding="ascii"))
            total += int(found[1]) if found else 0
    return total


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in children.read_text(encoding="ascii").split():
                yield from _tree(int(child))
