"""Logs: one JSON object a line, as Lambda's log group wants them, without addresses and tokens.

The lines are those of Powertools. It takes as long to load as all of our own modules, so it is not loaded for a line
that anybody can write: it writes what tells of an exception, and everything where its own settings ask for more.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

from shared.masking import mask, mask_all
from shared.settings import environment

_NAME = "tidemark"
# Where uvicorn writes what an application has raised; its access log, which would show tokens, is off.
_SERVER = "uvicorn.error"
# Who says which level counts, the first that does: Lambda's own setting, Powertools', and its former name.
_LEVELS = ("AWS_LAMBDA_LOG_LEVEL", "POWERTOOLS_LOG_LEVEL", "LOG_LEVEL")
_LAMBDAS_WORDS = {"TRACE": "DEBUG", "FATAL": "CRITICAL"}
_TRACE = "_X_AMZN_TRACE_ID"
# What every record has; the rest of one is what the call has added.
_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"asctime", "message"}


def configure_logs(function: str) -> None:
    """Send this process's logs to stdout as JSON. Call once, at cold start.

    Every module logs to a child of ``tidemark``; the level is ``POWERTOOLS_LOG_LEVEL``'s.
    """
    environ = environment()
    if any(name.startswith("POWERTOOLS_") and name not in _LEVELS for name in environ):
        handlers = _as_powertools_is_told(function)
    else:
        handlers = [logging.StreamHandler(sys.stdout)]
        handlers[0].setFormatter(_Lines(function, environ))
        ours = logging.getLogger(_NAME)
        ours.handlers, ours.propagate = list(handlers), False
        level = next((environ[name].upper() for name in _LEVELS if environ.get(name)), "INFO")
        ours.setLevel(_LAMBDAS_WORDS.get(level, level))
    server = logging.getLogger(_SERVER)
    server.handlers, server.propagate = list(handlers), False
    server.setLevel(logging.WARNING)


def report_errors(reports: logging.Handler) -> None:
    """Have errors reported beside being logged."""
    for name in (_NAME, _SERVER):
        logging.getLogger(name).addHandler(reports)


class _Lines(logging.Formatter):
    """A record as Powertools would write it by default."""

    def __init__(self, function: str, environ: Mapping[str, str]) -> None:
        super().__init__()
        self._function = function
        self._environ = environ
        self._powertools: logging.Formatter | None = None

    def format(self, record: logging.LogRecord) -> str:
        """Write a record; Powertools does it once there was an exception."""
        if self._powertools is None and record.exc_info:
            self._powertools = _formatter(self._function)
        if self._powertools is not None:
            return self._powertools.format(record)
        when = time.localtime(record.created)
        line = {
            "level": record.levelname,
            "location": f"{record.funcName}:{record.lineno}",
            "message": record.getMessage(),
            "timestamp": time.strftime(f"%Y-%m-%d %H:%M:%S,{record.msecs:03.0f}%z", when),
            "service": _NAME,
            "function": self._function,
            **{name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD},
        }
        trace = self._environ.get(_TRACE)
        if trace:
            line["xray_trace_id"] = trace.partition(";")[0].removeprefix("Root=")
        return _serialize({name: value for name, value in line.items() if value is not None})


def _formatter(function: str) -> logging.Formatter:
    from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter  # noqa: PLC0415 - see above

    return LambdaPowertoolsFormatter(json_serializer=_serialize, service=_NAME, function=function)


def _as_powertools_is_told(function: str) -> list[logging.Handler]:
    from aws_lambda_powertools import Logger  # noqa: PLC0415 - see above

    # It names its logger after the service: it has to be the parent of every module's.
    return list(Logger(service=_NAME, function=function, json_serializer=_serialize).handlers)


def _serialize(record: Any) -> str:
    # Masked before it is JSON: there a line break and the address after it would look like one word.
    return json.dumps(mask_all(record), default=lambda value: mask(str(value)))
