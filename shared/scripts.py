"""The Lua scripts of the log, read from ``shared/lua`` once per process."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_INCLUDE = re.compile(r"^--@include (\S+)$", re.MULTILINE)
_COMMENT_OR_BLANK = re.compile(r"^\s*(--.*)?\n", re.MULTILINE)


def _text(name: str) -> str:
    return (resources.files("shared") / "lua" / name).read_text(encoding="utf-8")


@cache
def script(name: str) -> str:
    """Return the script ``<name>.lua`` with its includes, without comment lines (each call sends its text)."""
    included = _INCLUDE.sub(lambda match: _text(match[1]), _text(f"{name}.lua"))
    return _COMMENT_OR_BLANK.sub("", included)
