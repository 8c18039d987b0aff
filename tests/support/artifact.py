"""Unpacked artifacts of the functions, made for this machine, and releases made of them by changing lines."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from infra.packaging import Target, build
from shared.settings import Function

_OURS = ("functions", "shared")


class Artifacts:
    """Builds each when it is first asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def of(self, function: Function) -> Path:
        """Give the directory of a function's artifact: what /var/task is."""
        path = self._directory / function.value
        if not path.exists():
            build(function, path, Target.HOST)
        return path

    def release(self, function: Function, name: str, changes: Mapping[str, Mapping[str, str]]) -> Path:
        """Make another release of it: by file, lines that are there exactly once, and what stands in their place."""
        path = self._directory / f"{function.value}-{name}"
        if path.exists():
            return path
        path.mkdir()
        for entry in self.of(function).iterdir():
            if entry.name in _OURS:
                shutil.copytree(entry, path / entry.name)
            else:
                (path / entry.name).symlink_to(entry)
        for file, lines in changes.items():
            text = (path / file).read_text(encoding="utf-8")
            for old, new in lines.items():
                assert text.splitlines().count(old) == 1, f"{file} has no such line any more: {old}"
                text = text.replace(f"{old}\n", f"{new}\n")
            (path / file).write_text(text, encoding="utf-8")
        return path
