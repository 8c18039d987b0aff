"""Settings: read once from the environment, checked whole, every fault reported at once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple
from urllib.parse import urlsplit

from shared.errors import SettingsError
from shared.retention import Retention
from shared.slot_limit import Policy, SlotLimit

_MIN_KEY_BYTES = 32
_TOKEN_KEYS_FORM = f"kid:secret[,kid:secret...], each secret {_MIN_KEY_BYTES} bytes or more"
_MIN_DEDUPE_S = 3600
_MIN_BYPASS_SECRET = 32
_MOST_A_MINUTE = 100_000_000
GOOGLE_JWKS_URL = "https://www.googleapis.com/oauth2/v3/certs"
#: AWS's limit for the delay of a message.
MOST_DELAY_S = 900
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Function(Enum):
    """Which function the settings are for: each needs its own."""

    WEBHOOK = "webhook"
    STREAM = "stream"
    REPLAY = "replay"
    DELIVER = "deliver"
    DRILL = "drill"
    LOCAL = "local"

    @property
    def _serves_clients(self) -> bool:
        return self in (Function.STREAM, Function.REPLAY, Function.LOCAL)

    @property
    def _takes_pushes(self) -> bool:
        return self in (Function.WEBHOOK, Function.LOCAL)

    @property
    def _uses_queues(self) -> bool:
        return self in (Function.WEBHOOK, Function.DELIVER, Function.DRILL, Function.LOCAL)


def environment() -> Mapping[str, str]:
    """Return the environment of this process, as it is now and will be: for what is read anew each time."""
    return os.environ


class AwsAccess(NamedTuple):
    """Whose requests to AWS are, and in which region. Lambda puts all of it into a function's environment."""

    region: str
    key_id: str
    secret: str
    session_token: str | None


class Queues(NamedTuple):
    """Where pushes wait while the log is away (``delivery``), and where those end that cannot be delivered.

    With ``confirm_s`` every push is appended a second time after so many seconds, by way of ``confirmation``.
    """

    access: AwsAccess
    delivery: str
    dead_letters: str
    confirmation: str | None
    confirm_s: int | None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Queues:
        """Read nothing but these. Raises SettingsError with one line that names every one at fault."""
        reader = _Reader(environ)
        queues = reader.queues(required=True)
        reader.finish()
        assert queues is not None  # noqa: S101 - they are required
        return queues


class PushAuth(NamedTuple):
    """What a genuine push token must say, and where the keys are that it is signed with."""

    audience: str
    service_account: str
    jwks_url: str


class Settings(NamedTuple):
    """What the environment says. Names and meanings are in the README's table of settings."""

    redis_url: str
    redis_token: str
    stage: str
    retention_s: int
    topic_max_events: int
    dedupe_s: int
    push_auth: PushAuth | None
    """None where pushes are taken without a token, and in functions that take none."""
    queues: Queues | None
    """None where there are none, which is refused inside Lambda, and in functions that use none."""
    breaker_s: int
    push_limit: int
    verified_limit: int
    client_limit: int
    bypass_secret: str | None
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...]
    token_keys: Mapping[str, str]
    token_jwks_url: str | None
    slot_limit: SlotLimit
    max_streams: int
    stream_max_s: int
    reconcile_s: int
    cors_origins: tuple[str, ...]
    sentry_dsn: str | None

    @property
    def retention(self) -> Retention:
        """How much the log keeps."""
        return Retention(self.retention_s, self.topic_max_events, self.dedupe_s)

    @classmethod
    def of(cls, environ: Mapping[str, str], function: Function) -> Settings:
        """Read the settings of a function. Raises SettingsError with one line that names every one at fault."""
        reader = _Reader(environ)
        retention_s = reader.number("TIDEMARK_RETENTION_S", 86_400, 1, 31_536_000)
        settings = cls(
            redis_url=reader.text("UPSTASH_REDIS_REST_URL", _http_url),
            redis_token=reader.text("UPSTASH_REDIS_REST_TOKEN", _printable),
            stage=reader.text("TIDEMARK_STAGE", _stage, "dev"),
            retention_s=retention_s,
            topic_max_events=reader.number("TIDEMARK_TOPIC_MAX_EVENTS", 1000, 1, 1_000_000),
            dedupe_s=reader.number("TIDEMARK_DEDUPE_S", max(retention_s, _MIN_DEDUPE_S), _MIN_DEDUPE_S, 31_536_000),
            push_auth=reader.push_auth() if function._takes_pushes else None,  # noqa: SLF001
            queues=reader.queues(required=function is Function.DELIVER) if function._uses_queues else None,  # noqa: SLF001
            # Where nobody waits for an answer, an earlier try costs nothing.
            breaker_s=reader.number("TIDEMARK_BREAKER_S", 5 if function is Function.DELIVER else 30, 1, 300),
            push_limit=reader.number("TIDEMARK_PUSH_LIMIT", 100, 1, _MOST_A_MINUTE),
            verified_limit=reader.number("TIDEMARK_VERIFIED_LIMIT", 60_000, 1, _MOST_A_MINUTE),
            client_limit=reader.number("TIDEMARK_CLIENT_LIMIT", 1200, 1, _MOST_A_MINUTE),
            bypass_secret=reader.optional("TIDEMARK_BYPASS_SECRET", _bypass_secret),
            trusted_proxies=reader.networks("TIDEMARK_TRUSTED_PROXIES"),
            token_keys=reader.keys("TIDEMARK_TOKEN_KEYS") if function._serves_clients else {},  # noqa: SLF001
            token_jwks_url=reader.optional("TIDEMARK_TOKEN_JWKS_URL", _key_url),
            slot_limit=reader.slot_limit(),
            max_streams=reader.number("TIDEMARK_MAX_STREAMS", 10_000, 1, 1_000_000),
            stream_max_s=reader.number("TIDEMARK_STREAM_MAX_S", 840, 1, 86_400),
            reconcile_s=reader.number("TIDEMARK_RECONCILE_S", 20, 1, 3600),
            cors_origins=reader.origins("TIDEMARK_CORS_ORIGINS"),
            sentry_dsn=reader.optional("SENTRY_DSN", _dsn),
        )
        reader.finish()
        return settings

    @classmethod
    def load(cls, function: Function) -> Settings:
        """Read the settings from this process's environment. The only place that looks at it."""
        return cls.of(os.environ, function)


def _http_url(value: str) -> str | None:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return "must be an http(s) URL"
    # urlsplit drops line breaks, which the HTTP client then refuses with each request.
    plain = re.fullmatch(r"[!-~]+", value, re.ASCII)
    good = plain and parts.scheme in ("http", "https") and parts.hostname and port != 0 and not parts.query
    return None if good else "must be an http(s) URL"


def _key_url(value: str) -> str | None:
    parts = urlsplit(value) if _http_url(value.partition("?")[0]) is None else None
    # Whoever can answer in the key server's place can sign anything.
    good = parts is not None and (parts.scheme == "https" or parts.hostname in _LOOPBACK)
    return None if good else "must be an https URL (http only on this machine)"


def _dsn(value: str) -> str | None:
    parts = urlsplit(value) if _http_url(value) is None else None
    good = parts is not None and parts.username and re.search(r"/[0-9]+$", parts.path)
    return None if good else "must be the DSN of a Sentry project, or absent"


def _bypass_secret(value: str) -> str | None:
    good = re.fullmatch(rf"[!-~]{{{_MIN_BYPASS_SECRET},}}", value, re.ASCII)
    return None if good else f"must be {_MIN_BYPASS_SECRET} printable characters or more"


def _push_audience(value: str) -> str | None:
    good = re.fullmatch(r"[!-~]+", value, re.ASCII)
    return None if good else "must be the audience of the push subscription"


def _service_account(value: str) -> str | None:
    good = re.fullmatch(r"[^@\s]+@[^@\s]+", value)
    return None if good else "must be the e-mail address of the push subscription's service account"


def _queue_url(value: str) -> str | None:
    good = _http_url(value) is None and len(urlsplit(value).path) > 1
    return None if good else "must be the URL of an SQS queue"


def _fifo_queue_url(value: str) -> str | None:
    good = _queue_url(value) is None and value.endswith(".fifo")
    return None if good else "must be the URL of an SQS FIFO queue: its name ends in .fifo"


def _standard_queue_url(value: str) -> str | None:
    good = _queue_url(value) is None and not value.endswith(".fifo")
    return None if good else "must be the URL of an SQS standard queue, not a FIFO one"


def _aws_word(value: str) -> str | None:
    return None if re.fullmatch(r"[!-~]+", value, re.ASCII) else "must be set, as AWS gives it"


def _is_origin(value: str) -> bool:
    if _http_url(value) is not None:
        return False
    parts = urlsplit(value)
    return value == f"{parts.scheme}://{parts.netloc}"


def _printable(value: str) -> str | None:
    return None if re.fullmatch(r"[!-~]+", value, re.ASCII) else "must be the database's REST token"


def _stage(value: str) -> str | None:
    good = re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", value, re.ASCII)
    return None if good else "must be 1-32 characters of a-z 0-9 -"


def parse_token_keys(text: str) -> dict[str, str]:
    """Read ``kid:secret[,kid:secret...]``. Raises ValueError, with a text that says what it should hold."""
    keys: dict[str, str] = {}
    for pair in text.split(","):
        kid, colon, secret = pair.strip().partition(":")
        if not colon or not kid or kid in keys or len(secret.encode()) < _MIN_KEY_BYTES:
            raise ValueError(f"must be {_TOKEN_KEYS_FORM}, each kid once")
        keys[kid] = secret
    return keys


class _Reader:
    """Reads values and gathers what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._faults: list[str] = []

    def _fault(self, name: str, what: str) -> None:
        # The value itself is never shown: it may be a secret in the wrong place.
        self._faults.append(f"{name} {what}")

    def text(self, name: str, check: Callable[[str], str | None], default: str | None = None) -> str:
        value = self._environ.get(name) or default
        if value is None:
            self._fault(name, f"is missing: {check('') or 'must be set'}")
            return ""
        fault = check(value)
        if fault is not None:
            self._fault(name, fault)
        return value

    def optional(self, name: str, check: Callable[[str], str | None]) -> str | None:
        return self.text(name, check) if self._environ.get(name) else None

    def number(self, name: str, default: int, least: int, most: int) -> int:
        text = self._environ.get(name)
        if not text:
            return default
        value = int(text) if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) else None
        if value is None or not least <= value <= most:
            self._fault(name, f"must be a whole number from {least} to {most}")
            return default
        return value

    def keys(self, name: str) -> dict[str, str]:
        text = self._environ.get(name)
        if not text:
            self._fault(name, f"is missing: must be {_TOKEN_KEYS_FORM}")
            return {}
        try:
            return parse_token_keys(text)
        except ValueError as error:
            self._fault(name, str(error))
            return {}

    def origins(self, name: str) -> tuple[str, ...]:
        origins = tuple(part.strip() for part in self._environ.get(name, "").split(",") if part.strip())
        if not all(_is_origin(origin) for origin in origins):
            self._fault(name, "must be a comma list of origins such as https://app.example.com")
            return ()
        return origins

    def networks(self, name: str) -> tuple[IPv4Network | IPv6Network, ...]:
        parts = [part.strip() for part in self._environ.get(name, "").split(",") if part.strip()]
        try:
            return tuple(ip_network(part) for part in parts)
        except ValueError:
            self._fault(name, "must be a comma list of addresses or networks such as 10.0.0.0/8")
            return ()

    def slot_limit(self) -> SlotLimit:
        default = SlotLimit()
        most = self.number("TIDEMARK_MAX_STREAMS_PER_USER", default.most, 1, 1000)
        name = "TIDEMARK_STREAM_POLICY"
        try:
            return SlotLimit(most, Policy(self._environ.get(name) or default.policy))
        except ValueError:
            self._fault(name, f"must be {' or '.join(Policy)}")
            return default

    def push_auth(self) -> PushAuth | None:
        name = "TIDEMARK_PUSH_AUTH"
        value = self._environ.get(name) or "on"
        if value not in ("on", "off"):
            self._fault(name, "must be on or off")
        elif value == "off" and "AWS_LAMBDA_FUNCTION_NAME" in self._environ:
            self._fault(name, "must not be off inside Lambda")
        if value != "on":
            return None
        return PushAuth(
            audience=self.text("TIDEMARK_PUSH_AUDIENCE", _push_audience),
            service_account=self.text("TIDEMARK_PUSH_SERVICE_ACCOUNT", _service_account),
            jwks_url=self.text("TIDEMARK_PUSH_JWKS_URL", _key_url, GOOGLE_JWKS_URL),
        )

    def queues(self, *, required: bool) -> Queues | None:
        names = ("TIDEMARK_QUEUE_URL", "TIDEMARK_DEAD_LETTER_URL")
        confirm_s = self.number("TIDEMARK_CONFIRM_S", 0, 1, MOST_DELAY_S) or None
        required = required or "AWS_LAMBDA_FUNCTION_NAME" in self._environ or confirm_s is not None
        if not required and not any(self._environ.get(name) for name in names):
            return None
        return Queues(
            access=AwsAccess(
                region=self.text("AWS_REGION", _aws_word),
                key_id=self.text("AWS_ACCESS_KEY_ID", _aws_word),
                secret=self.text("AWS_SECRET_ACCESS_KEY", _aws_word),
                session_token=self.optional("AWS_SESSION_TOKEN", _aws_word),
            ),
            delivery=self.text(names[0], _fifo_queue_url),
            dead_letters=self.text(names[1], _standard_queue_url),
            confirmation=self.text("TIDEMARK_CONFIRM_QUEUE_URL", _standard_queue_url)
            if confirm_s is not None
            else self.optional("TIDEMARK_CONFIRM_QUEUE_URL", _standard_queue_url),
            confirm_s=confirm_s,
        )

    def finish(self) -> None:
        if self._faults:
            raise SettingsError("settings: " + "; ".join(self._faults))
