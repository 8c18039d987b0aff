"""Which alarms a log line rings, as CloudWatch would find it: the patterns are those that are deployed.

    assert "LogAway" in rung(caplog.records)

The lines are what the functions' own formatter makes of the records. A pattern is evaluated as CloudWatch Logs does
("Filter pattern syntax for metric filters"), as far as ours go: comparisons of text, ``&&`` before ``||``.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from shared.logs import configure_logs

ALARMS = Path(__file__).parents[2] / "infra/deployment/alarms.yml"
_PATTERN = re.compile(r"\{ (.+) \}")
_COMPARISON = re.compile(r'\$\.(\w+) (=|!=) "([^"*]*)"')


def rung(lines: Iterable[logging.LogRecord | Mapping[str, Any]]) -> set[str]:
    """Return the names of the alarms that any of the records, or of the lines already parsed, rings."""
    parsed = [line_of(line) if isinstance(line, logging.LogRecord) else line for line in lines]
    return {name for name, pattern in patterns().items() if any(matches(pattern, line) for line in parsed)}


@cache
def patterns() -> Mapping[str, str]:
    """Return the pattern of each alarm that log lines ring."""
    table = yaml.safe_load(ALARMS.read_text())
    return {row["name"]: row["pattern"] for row in table["lines"]}


def matches(pattern: str, line: Mapping[str, Any]) -> bool:
    """Return whether a pattern finds a line."""
    inside = _PATTERN.fullmatch(pattern)
    assert inside is not None, pattern
    return any(
        all(_holds(comparison, line) for comparison in alternative.split(" && "))
        for alternative in inside[1].split(" || ")
    )


def _holds(comparison: str, line: Mapping[str, Any]) -> bool:
    parts = _COMPARISON.fullmatch(comparison)
    assert parts is not None, comparison
    name, operator, text = parts.groups()
    return name in line and (line[name] == text) is (operator == "=")


def line_of(record: logging.LogRecord) -> Any:
    """Return the JSON object that a function would write for a record."""
    return json.loads(_formatter().format(record))


@cache
def _formatter() -> logging.Formatter:
    """Return what formats the functions' lines, and leave the loggers of this process as they were."""
    loggers = [logging.getLogger(name) for name in ("tidemark", "uvicorn.error")]
    before = [(one, one.handlers[:], one.level, one.propagate, one.filters[:]) for one in loggers]
    try:
        configure_logs("test")
        formatter = loggers[0].handlers[-1].formatter
        assert formatter is not None
        return formatter
    finally:
        for one, handlers, level, propagate, filters in before:
            one.handlers[:], one.propagate, one.filters[:] = handlers, propagate, filters
            one.setLevel(level)
