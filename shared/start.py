"""Cold start: from the environment to what every function is built from."""

from __future__ import annotations

from dataclasses import dataclass

from shared.breaker import Breaker
from shared.bypass import Bypass
from shared.counts import Counts
from shared.dead_letters import DeadLetters
from shared.delivery_queue import Confirmation, DeliveryQueue
from shared.error_reports import ErrorReports
from shared.errors import LogUnavailableError, SettingsError
from shared.jwks import KeySet
from shared.keys import Keys
from shared.limiter import Limiter
from shared.log import Log
from shared.logs import configure_logs, report_errors
from shared.parking import Parking
from shared.push_auth import ALGORITHM, PushVerifier
from shared.quota import Quota
from shared.settings import Function, Settings
from shared.slots import Slots
from shared.sqs import Sqs
from shared.tokens import PROVIDER_ALGORITHMS, TokenVerifier
from shared.upstash import Upstash

_MINUTE_S = 60


@dataclass(frozen=True, slots=True)
class Basis:
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

    def delivery_queue(self) -> DeliveryQueue | None:
        """Build what keeps pushes while the log is away, where there is a queue."""
        queues = self.settings.queues
        return None if queues is None else DeliveryQueue(Sqs(queues.delivery, queues.access))

    def confirmation(self) -> Confirmation | None:
        """Build what has pushes appended a second time, if that is wanted."""
        queues = self.settings.queues
        if queues is None or queues.confirmation is None or queues.confirm_s is None:
            return None
        return Confirmation(Sqs(queues.confirmation, queues.access), queues.confirm_s)

    def unreadable(self) -> DeadLetters | Parking:
        """Build what keeps pushes that can never be read."""
        queues = self.settings.queues
        if queues is None:
            return Parking(self.upstash, self.keys)
        return DeadLetters(Sqs(queues.dead_letters, queues.access))

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
        return Limiter(quota, self.upstash, self.keys, self.counts, sliding=sliding, breaker=self.breaker)

    def client_limiter(self, name: str, what: str) -> Limiter:
        """Build a limiter of what one user may do in a minute."""
        return self.limiter(name, self.settings.client_limit, f"{what} of one user")

    def bypass(self) -> Bypass:
        """Build what lets load tests pass the limiters."""
        return Bypass(self.settings.bypass_secret, self.counts)

    def slots(self) -> Slots:
        """Build what counts the streams of each user."""
        return Slots(self.upstash, self.keys, self.settings.slot_limit, breaker=self.breaker)

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
    return Basis.of(settings, max_connections=max_connections)
