"""What can be broken: the links between the parts with the faults that each can have, and the processes, as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """A kind of fault."""

    LATENCY = "latency"
    """What passes is delayed."""
    HANG = "hang"
    """Nothing is answered; half of the requests are carried out all the same."""
    RESET_BEFORE = "reset before"
    """The connection breaks, and the request was not passed on."""
    RESET_AFTER = "reset after"
    """The connection breaks after the request was carried out."""
    HALF = "half-written"
    """The answer breaks off in its middle."""
    ERROR_500 = "500"
    """Half of the requests that are answered so are carried out all the same."""
    TOO_MANY = "429"
    READONLY = "readonly"
    """What a demoted primary says, worded as Upstash does."""
    GARBAGE = "garbage"
    """An answer that is no JSON, or JSON that says nothing of what was asked."""
    FEED_CUT = "feed dropped"
    FEED_SILENT = "feed silent"
    """The feed stays open and swallows every message, also when the episode is over."""
    FEED_LOSES = "feed loses"
    """Single messages are swallowed."""
    FEED_DOUBLES = "feed doubles"
    CUT = "stream cut"
    STALL = "stream stalled"
    """A client's stream brings nothing for a while, and then all of it."""
    KILL = "SIGKILL"


class Dialect(Enum):
    """Whose answers are on a link: it decides how errors are worded, and what is garbage."""

    REDIS = "redis"
    SQS = "sqs"
    KEYS = "keys"
    FUNCTION = "function"
    RESP = "resp"


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """One link. ``source`` and ``target`` name parts; ``source`` "client" is everybody outside."""

    source: str
    target: str
    dialect: Dialect
    kinds: tuple[Kind, ...]

    @property
    def name(self) -> str:
        """Its name in schedules and reports."""
        return f"{self.source}->{self.target}"

    @property
    def from_client(self) -> bool:
        """Whether it can be broken from outside, where the parts cannot be reached."""
        return self.source == CLIENT


CLIENT = "client"
KEYS = "keys"

_REQUEST = (
    Kind.LATENCY,
    Kind.HANG,
    Kind.RESET_BEFORE,
    Kind.RESET_AFTER,
    Kind.HALF,
    Kind.ERROR_500,
    Kind.TOO_MANY,
    Kind.GARBAGE,
)
_COMMAND = (*_REQUEST, Kind.READONLY)
_FEED = (Kind.FEED_CUT, Kind.FEED_SILENT, Kind.FEED_LOSES, Kind.FEED_DOUBLES)
_STREAM = (
    Kind.LATENCY,
    Kind.HANG,
    Kind.RESET_BEFORE,
    Kind.RESET_AFTER,
    Kind.ERROR_500,
    Kind.TOO_MANY,
    Kind.CUT,
    Kind.STALL,
)
_RESP = (Kind.LATENCY, Kind.HANG, Kind.RESET_BEFORE, Kind.RESET_AFTER, Kind.HALF)
_KEY_SET = (Kind.HANG, Kind.RESET_BEFORE, Kind.HALF, Kind.ERROR_500, Kind.GARBAGE)

LINKS = (
    LinkSpec(CLIENT, "webhook", Dialect.FUNCTION, _REQUEST),
    LinkSpec(CLIENT, "stream", Dialect.FUNCTION, _STREAM),
    LinkSpec(CLIENT, "replay", Dialect.FUNCTION, _REQUEST),
    LinkSpec("webhook", KEYS, Dialect.KEYS, _KEY_SET),
    LinkSpec("webhook", "gateway", Dialect.REDIS, _COMMAND),
    LinkSpec("webhook", "queue", Dialect.SQS, _REQUEST),
    LinkSpec("deliver", "gateway", Dialect.REDIS, _COMMAND),
    LinkSpec("deliver", "queue", Dialect.SQS, _REQUEST),
    LinkSpec("stream", "gateway", Dialect.REDIS, (*_COMMAND, *_FEED)),
    LinkSpec("replay", "gateway", Dialect.REDIS, _COMMAND),
    LinkSpec("gateway", "redis", Dialect.RESP, _RESP),
)

#: The processes that are killed.
PROCESSES = ("redis", "gateway", "queue", "webhook", "deliver", "stream", "replay")
