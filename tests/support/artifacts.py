"""Functions as they are deployed: started from nothing but their unpacked artifact."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.lambda_events import process_environment

_START = """
import importlib, json, sys
tree, handlers, events, spare = json.loads(sys.argv[1])
sys.path.insert(0, tree)
before = set(sys.modules)
loaded = {name: importlib.import_module(name) for name in handlers}
started = set(sys.modules) - before
answers = [loaded[handlers[0]].handler(event, None) for event in events]
served = set(sys.modules) - before - started
for name in spare:
    importlib.import_module(name)
files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
print("TOLD " + json.dumps([sorted(started), sorted(served), answers, files]))
"""


@dataclass(frozen=True, slots=True)
class Started:
    """What came of a start: the modules that it loaded, those that events did, answers, and all modules' files."""

    modules: frozenset[str]
    modules_of_events: frozenset[str]
    answers: list[dict[str, Any]]
    files: Mapping[str, str | None]

    @property
    def others(self) -> set[str]:
        """The top-level names that are neither the standard library's nor ours, nor of no file."""
        tops = {name.partition(".")[0] for name in self.modules if self.files.get(name)}
        return tops - sys.stdlib_module_names - {"functions", "shared"}

    def from_elsewhere(self, tree: Path) -> dict[str, str]:
        """Return the modules whose files are neither in the artifact nor Python's own."""
        homes = (str(tree), str(Path(json.__file__).parents[1]))
        return {name: file for name, file in self.files.items() if file is not None and not file.startswith(homes)}


def start(
    tree: Path,
    *handlers: str,
    settings: Mapping[str, str],
    events: list[dict[str, Any]] | None = None,
    spare: tuple[str, ...] = (),
) -> Started:
    """Import modules of an artifact in a process that sees nothing else, and give the first one's handler events.

    ``spare`` is what is loaded only now and then, tried at the end.
    """
    done = subprocess.run(
        # No site-packages, no variables that change Python, and no byte code written into the artifact.
        [sys.executable, "-I", "-S", "-B", "-c", _START, json.dumps([str(tree), handlers, events or [], spare])],
        env=process_environment(settings),
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = next(line for line in done.stdout.splitlines() if line.startswith("TOLD "))
    modules, of_events, answers, files = json.loads(told.removeprefix("TOLD "))
    return Started(frozenset(modules), frozenset(of_events), answers, files)
