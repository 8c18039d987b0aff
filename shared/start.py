"""Cold start: from the environment to what every function is built from."""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import SettingsError
from shared.keys import Keys
from shared.log import Log
from shared.logs import configure_logs
from shared.settings import Function, Settings
from shared.upstash import Upstash


@dataclass(frozen=True, slots=True)
class Basis:
    """What every function is built from; one a process."""

    settings: Settings
    keys: Keys
    upstash: Upstash
    log: Log


def start(function: Function, *, max_connections: int = 50) -> Basis:
    """Read the settings and build the warm client. A faulty setting ends the process with one line."""
    configure_logs(function.value)
    try:
        settings = Settings.load(function)
    except SettingsError as error:
        raise SystemExit(str(error)) from None
    keys = Keys(settings.stage)
    upstash = Upstash(settings.redis_url, settings.redis_token, max_connections=max_connections)
    return Basis(settings, keys, upstash, Log(upstash, keys, settings.retention))
