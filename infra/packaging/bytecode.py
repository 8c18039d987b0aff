"""Byte code, made ahead: Lambda's ``/var/task`` cannot be written, so without it every cold start compiles anew.

It takes the Python that it is for. Made for no time and no place, it is the same on every machine with that Python.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from infra.packaging.errors import PackagingError

_VERSION = "import sys; print(f'{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}')"
_TASK = "/var/task"
_WITHIN_S = 300.0


def add_bytecode(tree: Path, python: str, version: str) -> None:
    """Compile every module of a tree by this Python, which must be of this version. Raises PackagingError."""
    try:
        made_by = _run([python, "-I", "-c", _VERSION]).strip()
        if made_by != f"cpython {version}":
            raise PackagingError(f"{python} is {made_by}; the functions run on CPython {version}")
        # Unchecked: no file is looked at to see whether it has changed. In one process, in the order of the names.
        compiling = ["-m", "compileall", "-q", "-j", "1", "--invalidation-mode", "unchecked-hash"]
        _run([python, "-I", *compiling, "-s", str(tree), "-p", _TASK, str(tree)])
    except (OSError, subprocess.SubprocessError) as error:
        raise PackagingError(f"{python} cannot compile: {error}") from None


def _run(argv: list[str]) -> str:
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=_WITHIN_S, check=True).stdout
