"""Unpacked artifacts of the functions, made for this machine, and releases made of them by changing a line."""

from __future__ import annotations

import shutil
import site
import sysconfig
from pathlib import Path

from shared.settings import Function

ROOT = Path(__file__).parents[2]


def build(function: Function, into: Path) -> Path:
    into.mkdir(parents=True)
    for name in ("functions", "shared"):
        shutil.copytree(ROOT / name, into / name, ignore=shutil.ignore_patterns("__pycache__"))
    site = Path(sysconfig.get_paths()["purelib"])
    for entry in site.iterdir():
        if not entry.name.startswith(("boto", "awslambdaric", "moto", "tidemark", "__", "functions", "shared", "tests", "_pytest", "pytest")) and not entry.name.endswith(".pth"):
            (into / entry.name).symlink_to(entry)
    return into
