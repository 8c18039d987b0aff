"""Dockerfiles, read as far as can be without an engine: their instructions, and what the context leaves for them."""

from __future__ import annotations

import fnmatch
import json
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: ``COPY``, and what follows it."""

    word: str
    rest: str

    def argv(self) -> list[str]:
        """Return the command of an instruction in exec form. Raises ValueError for one in shell form."""
        argv: list[str] = json.loads(self.rest[self.rest.index("[") :])
        return argv


def stages(file: Path) -> list[list[Instruction]]:
    """Read a Dockerfile: the instructions of each stage, from its FROM on."""
    text = re.sub(r"^\s*#.*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    found: list[list[Instruction]] = []
    for line in filter(None, text.splitlines()):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append(Instruction(word, rest.strip()))
    return found


def of(stage: list[Instruction], word: str) -> list[Instruction]:
    """Return the instructions of a stage that begin with a word."""
    return [instruction for instruction in stage if instruction.word == word]


def let_through(ignore: Path, path: str) -> bool:
    """Whether a ``.dockerignore`` leaves a file in: the last line that matches it, or its folder, decides."""
    names = [path, *(str(folder) for folder in Path(path).parents)]
    kept = True
    for line in ignore.read_text(encoding="utf-8").splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            wanted = pattern.removeprefix("!").removeprefix("**/")
            anywhere = "**/" in pattern
            if any(fnmatch.fnmatch(Path(name).name if anywhere else name, wanted) for name in names if name != "."):
                kept = pattern.startswith("!")
    return kept
