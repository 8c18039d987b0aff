"""Logs: one JSON object a line, as Lambda's log group wants them, without addresses and tokens."""

from __future__ import annotations

import json
import logging
from typing import Any

from aws_lambda_powertools import Logger

from shared.masking import mask, mask_all

_NAME = "tidemark"
# Where uvicorn writes what an application has raised; its access log, which would show tokens, is off.
_SERVER = "uvicorn.error"


def configure_logs(function: str) -> None:
    """Send this process's logs to stdout as JSON. Call once, at cold start.

    Every module logs to a child of ``tidemark``; the level is ``POWERTOOLS_LOG_LEVEL``'s.
    """
    # Powertools names its logger after the service: it has to be the parent of every module's.
    logger = Logger(service=_NAME, function=function, json_serializer=_serialize)
    server = logging.getLogger(_SERVER)
    server.handlers = list(logger.handlers)
    server.propagate = False
    server.setLevel(logging.WARNING)


def report_errors(reports: logging.Handler) -> None:
    """Have errors reported beside being logged."""
    for name in (_NAME, _SERVER):
        logging.getLogger(name).addHandler(reports)


def _serialize(record: dict[str, Any]) -> str:
    # Masked before it is JSON: there a line break and the address after it would look like one word.
    return json.dumps(mask_all(record), default=lambda value: mask(str(value)))
