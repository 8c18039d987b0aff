"""What a function reaches: our own modules, and what else they import, also inside of functions.

Found by reading, not by importing: the machine that packs need have none of it installed.
"""

from __future__ import annotations

import ast
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.packaging.errors import PackagingError

OWN = ("functions", "shared")
# Python 3.11 counts the depth of a tree in one place for all threads, and fails when two of them parse.
_PARSING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Reach:
    """Our own modules, as paths below the root, and the top-level names of the others, the standard library's aside.

    Each of those comes with the file that imports it.
    """

    own: frozenset[Path]
    others: dict[str, Path]


def reach(root: Path, package: Path) -> Reach:
    """Follow the imports of every module in a package, a path below the root. Raises PackagingError."""
    waiting = [path.relative_to(root) for path in sorted((root / package).rglob("*.py"))]
    own: set[Path] = set()
    others: dict[str, Path] = {}
    while waiting:
        path = waiting.pop()
        if path in own:
            continue
        own.add(path)
        # A module brings the packages that it lies in.
        waiting += [folder / "__init__.py" for folder in path.parents if folder != Path()]
        for name in _imported(root / path):
            top = name.partition(".")[0]
            if top in OWN:
                waiting += [*_modules(root, name, path)]
            elif top not in sys.stdlib_module_names:
                others.setdefault(top, path)
    return Reach(frozenset(own), others)


def _imported(file: Path) -> Iterator[str]:
    """Give the dotted name of each thing that a file imports; the last part may be no module but what is in it."""
    with _PARSING:
        tree = ast.parse(file.read_text(encoding="utf-8"), file)
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level or node.module is None:
                raise PackagingError(f"{file}, line {node.lineno}: a relative import, which nothing here can follow")
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree, past what only a type checker sees."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from _statements(node)


def _modules(root: Path, name: str, importer: Path) -> Iterator[Path]:
    """Give the files of the module that a dotted name is, or is in. Raises PackagingError."""
    for dotted in (name, name.rpartition(".")[0]):
        path = Path(*dotted.split("."))
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if dotted and (root / file).is_file():
                yield file
                return
    raise PackagingError(f"{importer} imports {name}, which is no module of ours")
