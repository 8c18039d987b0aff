"""The Lua scripts of the log, read from ``shared/lua`` once per process."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

# Not by importlib.resources, which takes longer to load than all scripts to read: Lambda unpacks what we pack.
_FOLDER = Path(__file__).with_name("lua")
_INCLUDE = re.compile(r"^--@include (\S+)$", re.MULTILINE)
_COMMENT_OR_BLANK = re.compile(r"^\s*(--.*)?\n", re.MULTILINE)


def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


@cache
def script(name: str) -> str:
    """Return the script ``<name>.lua`` with its includes, without comment lines (each call sends its text)."""
    included = _INCLUDE.sub(lambda match: _text(match[1]), _text(f"{name}.lua"))
    return _COMMENT_OR_BLANK.sub("", included)
