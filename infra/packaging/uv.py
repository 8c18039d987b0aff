"""Installing distributions for another machine, by uv."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from infra.packaging.errors import PackagingError
from infra.packaging.target import Target

# Fetching takes as long as the network does; one that stands still is given up.
_WITHIN_S = 600.0
_MOST_WORDS = 2000


def install(requirements: Path, into: Path, target: Target) -> None:
    """Install what a file of requirements lists, each checked against its hash. Raises PackagingError."""
    argv = [
        _uv(), "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:",
        # Files of our own: the modes of linked ones would change in uv's cache as well.
        "--link-mode", "copy", "--target", str(into), *target.options(), "--requirement", str(requirements),
    ]  # fmt: skip
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_WITHIN_S, check=False)
    except subprocess.TimeoutExpired:
        raise PackagingError(f"uv has not fetched everything within {_WITHIN_S:.0f} s") from None
    if done.returncode:
        raise PackagingError(
            f"uv cannot install what {target.value} needs (is there a network, and a wheel for that platform?):\n"
            f"{done.stderr.strip()[-_MOST_WORDS:]}"
        )


def _uv() -> str:
    """Return where uv is: beside the Python that runs, else on the PATH."""
    beside = Path(sys.executable).with_name("uv")
    found = shutil.which(str(beside)) or shutil.which("uv", path=os.environ.get("PATH"))
    if found is None:
        raise PackagingError("uv is missing, which fetches what the functions need: `make artifacts` brings it")
    return found
