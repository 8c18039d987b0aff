"""Laying out what a function needs, as Lambda finds it in ``/var/task``."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from infra.packaging.bytecode import add_bytecode
from infra.packaging.errors import PackagingError
from infra.packaging.locked import Locked
from infra.packaging.reach import reach
from infra.packaging.strip import strip
from infra.packaging.target import Target
from infra.packaging.uv import install
from shared.settings import Function

ROOT = Path(__file__).parents[2]
LOCK_FILE = "requirements.txt"
#: The functions that are deployed.
DEPLOYED: tuple[Function, ...] = tuple(function for function in Function if function is not Function.LOCAL)

# What the runtime has.
_IN_RUNTIME = frozenset({"boto3", "botocore"})
# What run.sh names, where no import shows it.
_NAMED = {Function.STREAM: {"uvicorn": Path("run.sh"), "uvloop": Path("run.sh")}}
# Where the name to import is not the distribution's.
_DISTRIBUTIONS = {"jwt": "pyjwt"}
# What others ask for, and nobody here loads: cffi reads C with it when something is built.
_UNUSED = ("pycparser",)
# Files that a module reads.
_READ_BY = {Path("shared/scripts.py"): Path("shared/lua")}


def build(function: Function, into: Path, target: Target, *, bytecode: str | None = None) -> None:
    """Lay out a function's artifact in a folder, which must be new or empty. Raises PackagingError.

    With ``bytecode``, a Python of the target's version, all of it is compiled.
    """
    if into.exists() and any(into.iterdir()):
        raise PackagingError(f"{into} is not empty")
    package = Path("functions", function.value)
    found = reach(ROOT, package)
    others = {**found.others, **_NAMED.get(function, {})}
    roots = {_DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in others if name not in _IN_RUNTIME}
    with tempfile.TemporaryDirectory(prefix="tidemark-packaging-") as scratch:
        requirements = Path(scratch, "requirements.txt")
        requirements.write_text(Locked.read(ROOT / LOCK_FILE).subset(roots, without=_UNUSED), encoding="utf-8")
        install(requirements, into, target)
    data = [path.relative_to(ROOT) for path in (ROOT / package).glob("*.sh")]
    for module, folder in _READ_BY.items():
        if module in found.own:
            data += [path.relative_to(ROOT) for path in (ROOT / folder).iterdir()]
    for path in (*found.own, *data):
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, into / path)
    strip(into)
    if bytecode is not None:
        add_bytecode(into, bytecode, target.python)
