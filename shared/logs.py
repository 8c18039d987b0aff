"""Logs: one JSON object a line, as Lambda's log group wants them."""

from __future__ import annotations

from aws_lambda_powertools import Logger

_NAME = "tidemark"


def configure_logs(function: str) -> None:
    """Send this process's logs to stdout as JSON. Call once, at cold start.

    Every module logs to a child of ``tidemark``; the level is ``POWERTOOLS_LOG_LEVEL``'s.
    """
    # Powertools names its logger after the service: it has to be the parent of every module's.
    Logger(service=_NAME, function=function)
