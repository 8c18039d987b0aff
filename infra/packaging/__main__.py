"""``python -m infra.packaging [--out DIR] [--target lambda|host] [--bytecode PYTHON] [--unpacked] [FUNCTION…]``."""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from infra.packaging import DEPLOYED, PackagingError, Target, build, pack
from infra.packaging.build import ROOT
from shared.settings import Function

_MEGABYTE = 1_000_000
_SHOWN = 16


def main(argv: Sequence[str] | None = None) -> int:
    """Make artifacts and print a line for each."""
    names = [function.value for function in DEPLOYED]
    parser = argparse.ArgumentParser(prog="python -m infra.packaging", description="Make the artifacts of functions.")
    parser.add_argument("functions", nargs="*", metavar="FUNCTION", help=f"{', '.join(names)}; all of them if none")
    parser.add_argument("--out", type=Path, default=ROOT / ".build", metavar="DIR", help="where to (.build)")
    parser.add_argument("--target", choices=[target.value for target in Target], default=Target.LAMBDA.value)
    parser.add_argument("--bytecode", metavar="PYTHON", help="a Python of the runtime's version, to compile with")
    parser.add_argument("--unpacked", action="store_true", help="as folders, DIR/FUNCTION, instead of zip files")
    args = parser.parse_args(argv)
    unknown = sorted(set(args.functions).difference(names))
    if unknown:
        parser.error(f"there is no function {', '.join(unknown)}: {', '.join(names)}")
    try:
        for name in args.functions or names:
            if args.unpacked:
                build(Function(name), args.out / name, Target(args.target), bytecode=args.bytecode)
                print(f"{args.out / name}: {_size(args.out / name)} unpacked")
            else:
                _make(Function(name), args.out / f"{name}.zip", Target(args.target), args.bytecode)
    except (PackagingError, OSError) as error:
        print(f"packaging: {error}", file=sys.stderr)
        return 1
    return 0


def _make(function: Function, archive: Path, target: Target, bytecode: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix="tidemark-artifact-") as scratch:
        tree = Path(scratch)
        build(function, tree, target, bytecode=bytecode)
        pack(tree, archive)
        unpacked = _size(tree)
    packed = archive.read_bytes()
    print(
        f"{archive}: {len(packed) / _MEGABYTE:.1f} MB, {unpacked} unpacked, "
        f"sha256 {hashlib.sha256(packed).hexdigest()[:_SHOWN]}"
    )


def _size(tree: Path) -> str:
    return f"{sum(path.stat().st_size for path in tree.rglob('*') if path.is_file()) / _MEGABYTE:.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
