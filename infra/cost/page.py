"""Bring what docs/scaling.md shows of `tidemark cost` up to date: `make pages`."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from infra.cli import main as tidemark

PAGE = Path("docs/scaling.md")
DRAWING = Path("docs/scaling.svg")
_SHOWN = re.compile(r"^```console\n\$ tidemark ([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shown(page: str) -> list[tuple[str, str]]:
    """Return what is typed in each block, and what is said to be printed then."""
    return _SHOWN.findall(page)


def renewed(page: str, printed: Callable[[str], str]) -> str:
    """Put into each block what is printed now."""
    return _SHOWN.sub(lambda block: f"```console\n$ tidemark {block[1]}\n{printed(block[1])}```", page)


def printed_now(typed: str) -> str:
    """Run the command in this process."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        tidemark(shlex.split(typed))
    return out.getvalue()


def main() -> int:
    """Rewrite the page and its drawing."""
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8"), printed_now), encoding="utf-8")
    printed_now(f"cost --plot {DRAWING}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
