"""What a tree of installed packages holds that no function reads, or that differs from machine to machine."""

from __future__ import annotations

import shutil
from pathlib import Path

from infra.packaging.elf import slim

# Scripts to start by hand, byte code of the machine that packs, tests.
_FOLDERS = frozenset({"bin", "__pycache__", "tests", "test", "sboms"})
# What installers tell each other: who has installed it, from where, and hashes of what is not there any more.
_RECORDS = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"})
# Sources of what was compiled, and notes for type checkers.
_SUFFIXES = frozenset({".pyc", ".pyi", ".pyx", ".pxd", ".pxi", ".c", ".h"})
_MARKS = frozenset({"py.typed", ".lock"})

_FILE, _PROGRAM = 0o644, 0o755


def strip(tree: Path) -> None:
    """Remove it, and give everything that is left the same modes on every machine."""
    for path in sorted(tree.rglob("*"), reverse=True):
        if path.is_dir():
            if path.name in _FOLDERS:
                shutil.rmtree(path)
            elif not any(path.iterdir()):
                path.rmdir()
            else:
                path.chmod(_PROGRAM)
        elif path.suffix in _SUFFIXES or path.name in _MARKS or _is_record(path):
            path.unlink()
        else:
            if path.suffix == ".so":
                slim(path)
            path.chmod(_PROGRAM if path.suffix == ".sh" else _FILE)
    tree.chmod(_PROGRAM)


def _is_record(path: Path) -> bool:
    return path.parent.suffix == ".dist-info" and path.name in _RECORDS
