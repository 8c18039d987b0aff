"""The machine and the versions behind a measurement."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench.peers import versions
from infra.local.redis_server import find_binary

_LIBRARIES = ("httpx", "httptools", "starlette", "upstash-redis", "uvicorn", "uvloop")


def describe() -> dict[str, str]:
    """Return what a reader needs to judge the numbers."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": str(os.cpu_count()),
        "cpu": _cpu_model(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "redis": _redis_version(),
        "libraries": ", ".join(f"{name} {version(name)}" for name in _LIBRARIES),
        **versions(),
        "load average before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def _cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else platform.machine()


def _redis_version() -> str:
    told = subprocess.run([find_binary(), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=(\S+)", told)
    return f"{found[1] if found else told.strip()}, appendfsync always"
