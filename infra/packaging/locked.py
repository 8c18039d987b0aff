"""The lock file: every distribution with its version and hashes, and by whom it is needed.

``make lock`` has uv write it; its comments (``# via``) are the graph, so nothing is resolved a second time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from infra.packaging.errors import PackagingError

_FIRST = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[^]]*])?==")
_VIA = re.compile(r"^ +# +(via +)?(?P<name>[A-Za-z0-9._-]+)")


@dataclass(frozen=True, slots=True)
class Locked:
    """``blocks``: a distribution's lines as pip reads them; ``needs``: what each distribution needs directly."""

    blocks: dict[str, str]
    needs: dict[str, set[str]]

    @classmethod
    def read(cls, file: Path) -> Locked:
        """Read a lock file. Raises PackagingError."""
        blocks: dict[str, str] = {}
        needs: dict[str, set[str]] = {}
        name = ""
        for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
            if first := _FIRST.match(line):
                name = first["name"]
                blocks[name] = ""
            elif via := _VIA.match(line):
                needs.setdefault(via["name"], set()).add(name)
            if name and not line.lstrip().startswith("#"):
                blocks[name] += line
        if any("--hash=" not in block for block in blocks.values()) or not blocks:
            raise PackagingError(f"{file} does not hold a hash for everything: run make lock")
        return cls(blocks, needs)

    def subset(self, roots: Iterable[str], *, without: Iterable[str] = ()) -> str:
        """Return the lines of these distributions and of all that they need. Raises PackagingError."""
        waiting, chosen = sorted(roots), set(without)
        while waiting:
            name = waiting.pop()
            if name in chosen:
                continue
            if name not in self.blocks:
                raise PackagingError(f"{name} is not in the lock file: is it a dependency in pyproject.toml?")
            chosen.add(name)
            waiting += self.needs.get(name, ())
        return "".join(self.blocks[name] for name in sorted(chosen.difference(without)))
