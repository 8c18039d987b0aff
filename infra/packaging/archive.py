"""Zipping a tree so that the same files make the same bytes, whoever does it, where and when."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

# The earliest that a zip file can say; AWS Lambda shows it on the files.
_WHEN = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_LEVEL = 6


def pack(tree: Path, archive: Path) -> None:
    """Zip a tree. A file that was there is replaced, and only by a complete one."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    partial = archive.with_name(f".{archive.name}.partial")
    try:
        with zipfile.ZipFile(partial, "w") as out:
            for path in sorted(tree.rglob("*"), key=lambda path: path.relative_to(tree).as_posix()):
                if not path.is_dir():
                    _add(out, path, path.relative_to(tree).as_posix())
        partial.replace(archive)
    finally:
        partial.unlink(missing_ok=True)


def _add(out: zipfile.ZipFile, path: Path, name: str) -> None:
    entry = zipfile.ZipInfo(name, _WHEN)
    entry.create_system = _UNIX
    entry.external_attr = (stat.S_IFREG | stat.S_IMODE(path.stat().st_mode)) << 16
    out.writestr(entry, path.read_bytes(), compress_type=zipfile.ZIP_DEFLATED, compresslevel=_LEVEL)
