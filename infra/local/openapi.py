"""The HTTP interface in OpenAPI 3.1, built from what the code itself uses: limits, patterns and error classes.

It describes the contract's endpoints; what only the local page asks for is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from functions.replay.app import MAX_ACK_BYTES, MAX_PAGE
from functions.stream.pace import MAX_RATE, MIN_RATE
from functions.stream.window import MAX_WINDOW
from shared import errors
from shared.client_name import FORM as CLIENT_FORM
from shared.position import FORM as POSITION_FORM
from shared.push import MAX_PUSH_BYTES
from shared.topic import FORM as TOPIC_FORM
from shared.topic import MAX_TOPICS_PER_REQUEST

Json = dict[str, Any]
Errors = Iterable[type[errors.TidemarkError]]

_ANYWHERE: Errors = (errors.QueryTooLongError, errors.HeadersTooLargeError, errors.LogDefectError)
_TOKENS: Errors = (
    errors.TokenMissingError,
    errors.TokenError,
    errors.TokenExpiredError,
    errors.TokenRevokedError,
    errors.UnknownKeyError,
    errors.TopicForbiddenError,
    errors.RateLimitedError,
)
_TOPICS: Errors = (errors.BadTopicError, errors.TooManyTopicsError, errors.TopicRequiredError)
_CURSORS: Errors = (errors.BadCursorError, errors.BadClientError)
_AWAY: Errors = (errors.LogUnavailableError, errors.CircuitOpenError)
_STREAMS: Errors = (*_AWAY, errors.ProcessFullError, errors.OvertakenError, errors.TooManyStreamsError)
_PUSHES: Errors = (
    errors.TokenMissingError,
    errors.TokenError,
    errors.TokenExpiredError,
    errors.UnknownKeyError,
    errors.PushForbiddenError,
    errors.BodyTooLargeError,
    errors.RateLimitedError,
    *_AWAY,
    errors.QueueUnavailableError,
)


def describe() -> Json:
    """Return the description as a JSON object."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tidemark",
            "version": version("tidemark"),
            "summary": "Gmail's change notifications, streamed to browsers without a gap that is not told.",
        },
        "paths": {
            "/push": {"post": _push()},
            "/events": {"get": _events()},
            "/replay": {"get": _replay()},
            "/ack": {"post": _ack()},
            "/healthz": {"get": _healthz()},
        },
        "components": {
            "schemas": {
                "Topic": {"type": "string", "pattern": _whole(TOPIC_FORM.pattern)},
                "Position": {"type": "string", "pattern": _whole(POSITION_FORM.pattern)},
                "Client": {"type": "string", "pattern": _whole(CLIENT_FORM.pattern)},
                "Envelope": _envelope(),
                "Gap": _closed(topic="Topic", after="Position", resume="Position"),
            },
            "securitySchemes": {
                "pubsub": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "The OpenID Connect token that Google signs for the push subscription.",
                },
                "client": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "query": {
                    "type": "apiKey",
                    "in": "query",
                    "name": "token",
                    "description": "The same token, for a native EventSource, which sends no header fields.",
                },
            },
        },
    }


def _push() -> Json:
    message = {
        "type": "object",
        "properties": {
            "data": {"type": "string", "description": "Gmail's notification in base64 or base64url."},
            "messageId": {"type": "string"},
            "publishTime": {"type": "string"},
            "attributes": {"type": "object"},
        },
    }
    return {
        "operationId": "push",
        "summary": "Take a push of Google Pub/Sub.",
        "description": f"Wrapped, or unwrapped with its metadata in X-Goog-Pubsub-* fields; {MAX_PUSH_BYTES} bytes "
        "at most. Any answer of 2xx says that the push is kept.",
        "security": [{"pubsub": []}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": {"message": message, "subscription": {"type": "string"}},
                    }
                }
            },
        },
        "responses": {
            "200": _json(
                "The push is in the log, in the queue before it, or kept because it can never be read.",
                {
                    "oneOf": [
                        _closed(status={"enum": ["published", "duplicate"]}, id="Position"),
                        _closed(status={"const": "queued"}),
                        _closed(status={"const": "rejected"}, reason={"type": "string"}),
                    ]
                },
            ),
            **_problems(_ANYWHERE, _PUSHES),
        },
    }


def _events() -> Json:
    return {
        "operationId": "events",
        "summary": "Follow topics as server-sent events.",
        "description": "Starts after Last-Event-ID, else after last_event_id, else where `from` says. Each `id:` is "
        "a cursor that is safe to resume from.",
        "security": [{"client": []}, {"query": []}],
        "parameters": [
            _topics(),
            _query("client", _ref("Client"), "The name of this tab or device."),
            _query("last_event_id", _ref("Position"), "The cursor to resume from."),
            _query("from", {"enum": ["now", "earliest", "acked"]}, "Where to start without a cursor."),
            _query("max_rate", _between("number", MIN_RATE, MAX_RATE), "At most so many events a second."),
            _query("window", _between("integer", 1, MAX_WINDOW), "At most so many beyond the last ack of `client`."),
            {"name": "Last-Event-ID", "in": "header", "schema": _ref("Position")},
        ],
        "responses": {
            "200": {
                "description": "The stream, or a `bye` that says when to come back.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
            **_problems(_ANYWHERE, _TOKENS, _TOPICS, _CURSORS, (errors.BadNumberError, *_STREAMS)),
        },
    }


def _replay() -> Json:
    after = {"anyOf": [_ref("Position"), {"enum": ["earliest", "acked"]}]}
    page = {
        "type": "object",
        "properties": {
            "events": {"type": "array", "items": _ref("Envelope")},
            "cursor": {**_ref("Position"), "description": "The next `after`."},
            "more": {"type": "boolean"},
            "gaps": {"type": "array", "items": _ref("Gap")},
        },
        "required": ["events", "cursor", "more", "gaps"],
        "additionalProperties": False,
    }
    return {
        "operationId": "replay",
        "summary": "Read a page of missed events.",
        "security": [{"client": []}, {"query": []}],
        "parameters": [
            _topics(),
            {**_query("after", after, "Where the page begins."), "required": True},
            _query("client", _ref("Client"), "Whose acknowledged cursor `after=acked` means."),
            _query(
                "limit", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 100}, "Events at most."
            ),
        ],
        "responses": {
            "200": _json("The page, in rising positions.", page),
            **_problems(_ANYWHERE, _TOKENS, _TOPICS, _CURSORS, (errors.BadNumberError, *_AWAY)),
        },
    }


def _ack() -> Json:
    body = {
        "type": "object",
        "properties": {"cursor": _ref("Position"), "client": _ref("Client")},
        "required": ["cursor", "client"],
    }
    return {
        "operationId": "ack",
        "summary": "Say that a client has everything up to a cursor.",
        "description": f"The kept cursor never moves backwards. {MAX_ACK_BYTES} bytes at most.",
        "security": [{"client": []}, {"query": []}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "204": {"description": "The cursor is kept, or a later one was."},
            **_problems(
                _ANYWHERE,
                _TOKENS,
                _CURSORS,
                (errors.BadBodyError, errors.BodyTooLargeError, errors.CursorAheadError, *_AWAY),
            ),
        },
    }


def _healthz() -> Json:
    def health(status: str) -> Json:
        described = _closed(
            status={"const": status}, checks={"type": "object", "additionalProperties": {"type": "string"}}
        )
        # Of the stream function only.
        described["properties"]["streams"] = {"type": "object", "additionalProperties": {"type": "integer"}}
        return described

    return {
        "operationId": "healthz",
        "summary": "Whether what the function depends on answers.",
        "security": [],
        "responses": {
            "200": _json("It does.", health("ok")),
            "503": _json("Something does not; `checks` says what.", health("unavailable")),
            **_problems((errors.QueryTooLongError, errors.HeadersTooLargeError)),
        },
    }


def _problems(*groups: Errors) -> Json:
    """Describe errors (RFC 9457) by their status, each with the codes that it may have."""
    codes: dict[int, set[str]] = {HTTPStatus.INTERNAL_SERVER_ERROR: {errors.TidemarkError.code}}
    for group in groups:
        for error in group:
            codes.setdefault(error.status, set()).add(error.code)
    return {str(int(status)): _problem(status, sorted(known)) for status, known in sorted(codes.items())}


def _problem(status: int, codes: list[str]) -> Json:
    schema = _closed(
        type={"const": "about:blank"},
        title={"type": "string"},
        status={"const": int(status)},
        code={"enum": codes},
        detail={"type": "string"},
    )
    answer: Json = {
        "description": HTTPStatus(status).phrase,
        "content": {"application/problem+json": {"schema": schema}},
    }
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        answer["headers"] = {"Retry-After": {"required": True, "schema": {"type": "string", "pattern": "^[0-9]+$"}}}
    return answer


def _topics() -> Json:
    schema = {"type": "array", "items": _ref("Topic"), "minItems": 1, "maxItems": MAX_TOPICS_PER_REQUEST}
    return _query("topic", schema, "Default: every topic of the token, unless it has a prefix.")


def _query(name: str, schema: Mapping[str, Any], description: str) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": dict(schema)}


def _between(kind: str, least: float, most: float) -> Json:
    return {"type": kind, "minimum": least, "maximum": most}


def _json(description: str, schema: Mapping[str, Any]) -> Json:
    return {"description": description, "content": {"application/json": {"schema": dict(schema)}}}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _closed(**properties: str | Mapping[str, Any]) -> Json:
    """Describe an object with these members, no less and no more; a text names a schema."""
    described = {name: _ref(of) if isinstance(of, str) else dict(of) for name, of in properties.items()}
    return {"type": "object", "properties": described, "required": list(described), "additionalProperties": False}


def _whole(pattern: str) -> str:
    """Return a pattern that must match the whole text: JSON Schema's need not."""
    return f"^(?:{pattern})$"


def _envelope() -> Json:
    text = {"type": "string"}
    return {
        "type": "object",
        "description": "A CloudEvents 1.0 envelope.",
        "properties": {
            "specversion": {"const": "1.0"},
            "id": text,
            "source": text,
            "type": {"const": "gmail.mailbox.changed"},
            "subject": text,
            "time": text,
            "topic": _ref("Topic"),
            "position": _ref("Position"),
            "data": _closed(emailAddress=text, historyId={"type": "string", "pattern": "^[0-9]{1,20}$"}),
        },
        "required": ["specversion", "id", "source", "type", "subject", "time", "topic", "position", "data"],
        "additionalProperties": False,
    }
