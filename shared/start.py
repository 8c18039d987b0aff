"""Cold start: from the environment to what every function is built from.

What only some are built from is in the modules ``start_…`` beside this one: no function loads what it does not need.
"""

from __future__ import annotations

from typing import NamedTuple

from shared.breaker import Breaker
from shared.counts import Counts
from shared.error_reports import ErrorReports
from shared.errors import LogUnavailableError, SettingsError
from shared.keys import Keys
from shared.log import Log
from shared.logs import configure_logs, report_errors
from shared.settings import Function, Settings
from shared.upstash import Upstash


class Basis(NamedTuple):
    """What every function is built from; one a process, or one for each of its event loops."""

    settings: Settings
    keys: Keys
    upstash: Upstash
    breaker: Breaker
    log: Log
    counts: Counts

    @classmethod
    def of(cls, settings: Settings, *, max_connections: int = 50, upstash: Upstash | None = None) -> Basis:
        """Build the warm client, unless one is given, and what stands on it."""
        keys, counts = Keys(settings.stage), Counts()
        if upstash is None:
            upstash = Upstash(settings.redis_url, settings.redis_token, max_connections=max_connections)
        breaker = Breaker("log", counts, counts_against=LogUnavailableError, open_s=settings.breaker_s)
        log = Log(upstash, keys, settings.retention, breaker=breaker)
        return cls(settings, keys, upstash, breaker, log, counts)


def start(function: Function, *, max_connections: int = 50) -> Basis:
    """Read the settings and build the warm client. A faulty setting ends the process with one line."""
    configure_logs(function.value)
    try:
        settings = Settings.load(function)
    except SettingsError as error:
        raise SystemExit(str(error)) from None
    if settings.sentry_dsn is not None:
        report_errors(ErrorReports(settings.sentry_dsn, environment=settings.stage, function=function.value))
    return Basis.of(settings, max_connections=max_connections)
