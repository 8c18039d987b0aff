"""Lines of the log: ours are those of Powertools, which is loaded only for what it alone can write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.lambda_process import ROOT

_LOGGED = """
import json, logging, sys
from shared.logs import configure_logs
configure_logs("webhook")
logger = logging.getLogger("tidemark.some")
logger.debug("not by default")
logger.info("for %s", "ann@example.com", extra={"count": 3, "nothing": None, "who": ["ben@example.com"]})
logging.getLogger("uvicorn.error").warning("a word of the server")
print(json.dumps("aws_lambda_powertools" in sys.modules))
try:
    raise ValueError("cleo@example.com")
except ValueError:
    logger.exception("failed")
"""


def lines(**environ: str) -> list[Any]:
    """Return what a fresh process says, with these variables in its environment."""
    names = ("POWERTOOLS_", "AWS_", "LOG_LEVEL", "_X_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    done = subprocess.run(
        [sys.executable, "-c", _LOGGED], cwd=ROOT, env=clean | environ, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def stable(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name != "timestamp"}


def test_a_line_is_the_one_that_powertools_writes() -> None:
    """Told by its own settings, it writes all of them; the server's lines as well, and the invocation's trace."""
    trace = {"_X_AMZN_TRACE_ID": "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"}
    ours, theirs = lines(**trace), lines(**trace, POWERTOOLS_LOG_DEDUPLICATION_DISABLED="1")
    assert (ours[2], theirs[2]) == (False, True)
    assert [stable(line) for line in (*ours[:2], ours[3])] == [stable(line) for line in (*theirs[:2], theirs[3])]
    assert [list(line) for line in ours[:2]] == [list(line) for line in theirs[:2]]
    assert len(ours[0]["timestamp"]) == len(theirs[0]["timestamp"])
    assert stable(ours[0]) == {
        "level": "INFO",
        "location": "<module>:7",
        "message": "for ***@example.com",
        "service": "tidemark",
        "function": "webhook",
        "count": 3,
        "who": ["***@example.com"],
        "xray_trace_id": "1-5759e988-bd862e3fe1be46a994272793",
    }


def test_what_tells_of_an_exception_is_written_by_powertools() -> None:
    """With the stack as fields, and nothing in it that a line must not hold."""
    told = lines()[3]
    assert (told["exception_name"], told["stack_trace"]["type"]) == ("ValueError", "ValueError")
    assert "***@example.com" in told["exception"]
    assert "cleo" not in json.dumps(told)


@pytest.mark.parametrize(
    ("environ", "levels"),
    [
        ({"POWERTOOLS_LOG_LEVEL": "debug"}, ["DEBUG", "INFO", "WARNING", "ERROR"]),
        ({"LOG_LEVEL": "WARNING"}, ["WARNING", "ERROR"]),
        ({"AWS_LAMBDA_LOG_LEVEL": "FATAL", "POWERTOOLS_LOG_LEVEL": "CRITICAL"}, ["WARNING"]),
        ({"AWS_LAMBDA_LOG_LEVEL": "TRACE"}, ["DEBUG", "INFO", "WARNING", "ERROR"]),
    ],
)
def test_the_level_is_lambdas_or_powertools(environ: dict[str, str], levels: list[str]) -> None:
    """Each by its own words. The server's warnings are always told."""
    told = [line["level"] for line in lines(**environ) if isinstance(line, dict) and line["level"] != "ERROR"]
    assert told == [level for level in levels if level != "ERROR"]
