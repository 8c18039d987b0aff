"""Cold start: from the environment to what every function is built from."""

from __future__ import annotations

from dataclasses import dataclass

from shared.bypass import Bypass
from shared.counts import Counts
from shared.error_reports import ErrorReports
from shared.errors import SettingsError
from shared.jwks import KeySet
from shared.keys import Keys
from shared.limiter import Limiter
from shared.log import Log
from shared.logs import configure_logs, report_errors
from shared.push_auth import ALGORITHM, PushVerifier
from shared.quota import Quota
from shared.settings import Function, Settings
from shared.tokens import PROVIDER_ALGORITHMS, TokenVerifier
from shared.upstash import Upstash

_MINUTE_S = 60


@dataclass(frozen=True, slots=True)
class Basis:
    """What every function is built from; one a process."""

    settings: Settings
    keys: Keys
    upstash: Upstash
    log: Log
    counts: Counts

    def push_verifier(self) -> PushVerifier | None:
        """Build what verifies pushes, unless they are taken without a token."""
        auth = self.settings.push_auth
        if auth is None:
            return None
        keys = KeySet(auth.jwks_url, name="push_keys", algorithms=[ALGORITHM], counts=self.counts)
        return PushVerifier(keys, audience=auth.audience, service_account=auth.service_account)

    def limiter(self, name: str, limit: int, what: str, *, sliding: bool = False) -> Limiter:
        """Build a limiter of so many requests a minute."""
        quota = Quota(name, limit, _MINUTE_S, what)
        return Limiter(quota, self.upstash, self.keys, self.counts, sliding=sliding)

    def client_limiter(self, name: str, what: str) -> Limiter:
        """Build a limiter of what one user may do in a minute."""
        return self.limiter(name, self.settings.client_limit, f"{what} of one user")

    def bypass(self) -> Bypass:
        """Build what lets load tests pass the limiters."""
        return Bypass(self.settings.bypass_secret, self.counts)

    def token_verifier(self) -> TokenVerifier:
        """Build what verifies the tokens of clients."""
        url = self.settings.token_jwks_url
        keys = url and KeySet(url, name="token_keys", algorithms=PROVIDER_ALGORITHMS, counts=self.counts)
        return TokenVerifier(self.settings.token_keys, key_set=keys or None)


def start(function: Function, *, max_connections: int = 50) -> Basis:
    """Read the settings and build the warm client. A faulty setting ends the process with one line."""
    configure_logs(function.value)
    try:
        settings = Settings.load(function)
    except SettingsError as error:
        raise SystemExit(str(error)) from None
    if settings.sentry_dsn is not None:
        report_errors(ErrorReports(settings.sentry_dsn, environment=settings.stage, function=function.value))
    keys = Keys(settings.stage)
    upstash = Upstash(settings.redis_url, settings.redis_token, max_connections=max_connections)
    return Basis(settings, keys, upstash, Log(upstash, keys, settings.retention), Counts())
