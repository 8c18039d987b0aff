"""Answers that a fault gives in a server's place, each in the words of whoever is on that link."""

from __future__ import annotations

import json
import random
from typing import Any

from infra.chaos.http_messages import answer
from infra.chaos.poster import INJECTED
from infra.chaos.topology import Dialect, Kind

#: What a demoted primary says through Upstash.
READONLY = {"error": "READONLY You can't write against a read only replica."}
_QUOTA = {"error": "ERR max requests limit exceeded. Limit: 500000, Usage: 500000."}
_GARBAGE = (
    b'{"result":',
    b"<html><body><h1>502 Bad Gateway</h1></body></html>",
    b"",
    b"\x00\xff\xfe",
    b"{}",
    b"[]",
    b'"result"',
)
#: JSON of the right form, which says nothing that any command of ours is answered with.
_REDIS_GARBAGE = (*_GARBAGE, b'{"result":"garbage"}', b'{"result":[]}', b'{"result":{"a":1}}', b'[{"result":1}]')
_KEYS_GARBAGE = (*_GARBAGE, b'{"keys":[]}', b'{"keys":[{"kid":1}]}', b'{"keys":"none"}')


def refusal(kind: Kind, dialect: Dialect, rng: random.Random) -> bytes:
    """Write the answer for ERROR_500, TOO_MANY or READONLY."""
    if kind is Kind.READONLY:
        return _answer(400, READONLY)
    if kind is Kind.ERROR_500:
        if dialect is Dialect.SQS:
            return _sqs(rng.choice((500, 503)), rng.choice(("InternalFailure", "ServiceUnavailable")))
        return _answer(rng.choice((500, 502, 503)), {"error": "internal error"})
    if dialect is Dialect.SQS:
        return _sqs(*rng.choice(((400, "RequestThrottled"), (403, "ThrottlingException"), (429, "Throttling"))))
    if dialect is Dialect.REDIS:
        return _answer(*rng.choice(((429, {"error": "too many requests"}), (400, _QUOTA))))
    return _answer(429, {"error": "too many requests"})


def garbage(dialect: Dialect, rng: random.Random, *, status: int = 200) -> bytes:
    """Write an answer that nobody can make sense of."""
    bodies = {Dialect.REDIS: _REDIS_GARBAGE, Dialect.KEYS: _KEYS_GARBAGE}.get(dialect, _GARBAGE)
    return answer(status, rng.choice(bodies), **{INJECTED: "garbage"})


def _answer(status: int, said: Any) -> bytes:
    return answer(status, json.dumps(said).encode(), **{INJECTED: str(status)})


def _sqs(status: int, code: str) -> bytes:
    return _answer(status, {"__type": f"com.amazonaws.sqs#{code}", "message": code})
