"""Every error of the project: one root, and each class says in one line when it is raised."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar


class TidemarkError(Exception):
    """Root of all errors of this project.

    The first line of a class's docstring is what a client is told when the status is 5xx.

    ``code`` is the stable word in an error body, ``status`` the HTTP status, ``temporary`` whether the same
    call may succeed later, ``retry_after_s`` what a client is told to wait.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    temporary: ClassVar[bool] = False
    retry_after_s: ClassVar[int | None] = None

    def headers(self) -> Mapping[str, str]:
        """Return what the answer carries besides its body."""
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}


class SettingsError(TidemarkError):
    """A setting is missing or malformed; the message names every one at fault."""

    code = "settings"


class RequestError(TidemarkError):
    """The caller's request cannot be served as it is; subclasses say why."""

    code = "bad_request"
    status = 400


class BadTopicError(RequestError):
    """A topic is not 1-320 characters of the allowed set, or is not named at all where it must be."""

    code = "bad_topic"


class TopicRequiredError(RequestError):
    """The token allows a prefix of topics, so the request must name the ones it wants."""

    code = "topic_required"


class TooManyTopicsError(RequestError):
    """A request names more topics than one stream may follow."""

    code = "too_many_topics"


class BadCursorError(RequestError):
    """A cursor is not a position, nor a word that is allowed there."""

    code = "bad_cursor"


class BadClientError(RequestError):
    """A client name is not 1-64 characters of ``A-Za-z0-9_-``, or is missing where it must be given."""

    code = "bad_client"


class BadNumberError(RequestError):
    """A number in the query is not one, or lies outside its range."""

    code = "bad_number"


class BadBodyError(RequestError):
    """A request body is not the JSON object that the endpoint takes."""

    code = "bad_body"


class BodyTooLargeError(RequestError):
    """A request body is larger than the endpoint reads."""

    code = "body_too_large"
    status = 413


class QueryTooLongError(RequestError):
    """A request's path and query are longer than any that is served."""

    code = "query_too_long"
    status = 414


class HeadersTooLargeError(RequestError):
    """A request's header fields are larger than any that is served."""

    code = "headers_too_large"
    status = 431


class CorsRefusedError(RequestError):
    """A page asks whether it may send a request that its origin, method or headers do not allow."""

    code = "cors_refused"


class CursorAheadError(RequestError):
    """An acknowledged cursor lies beyond the log's clock."""

    code = "cursor_ahead"
    status = 409


class TokenError(RequestError):
    """A token is not valid: signature, key, issuer, audience, claims or life time."""

    code = "token_invalid"
    status = 401

    def headers(self) -> Mapping[str, str]:
        """Say what kind of token is wanted (RFC 6750, section 3)."""
        return {"WWW-Authenticate": "Bearer"}


class TokenMissingError(TokenError):
    """A request carries no token."""

    code = "token_missing"


class TokenExpiredError(TokenError):
    """A token was valid and has expired."""

    code = "token_expired"


class TokenRevokedError(TokenError):
    """A token was issued before all tokens of its user were revoked."""

    code = "token_revoked"


class UnknownKeyError(TokenError):
    """A token names a key that its issuer's key set does not hold, as far as it could be fetched."""

    code = "token_key_unknown"


class PushForbiddenError(RequestError):
    """A push carries a token of Google's that was not made for this endpoint, or not by our service account."""

    code = "push_forbidden"
    status = 403


class RateLimitedError(RequestError):
    """Somebody has sent more requests than a limit allows; ``headers`` say when to come back."""

    code = "rate_limited"
    status = 429

    def __init__(self, detail: str, headers: Mapping[str, str]) -> None:
        super().__init__(detail)
        self._headers = dict(headers)

    def headers(self) -> Mapping[str, str]:
        """Say when to come back, and what the limit is."""
        return self._headers


class TooManyStreamsError(RequestError):
    """A user has as many streams open as it may; ``headers`` say when the first of them ends by itself."""

    code = "too_many_streams"
    status = 429

    def __init__(self, detail: str, wait_s: int) -> None:
        super().__init__(detail)
        self._wait_s = wait_s

    def headers(self) -> Mapping[str, str]:
        """Say when there is room again at the latest."""
        return {"Retry-After": str(self._wait_s)}


class TopicForbiddenError(RequestError):
    """The token does not allow a topic that the request names."""

    code = "topic_forbidden"
    status = 403


class UnavailableError(TidemarkError):
    """A part that the request needs cannot serve it now; the same request may succeed later."""

    code = "unavailable"
    status = 503
    temporary = True
    retry_after_s = 2


class Trouble(StrEnum):
    """What keeps the log from serving, as far as its words tell: each calls for another remedy."""

    QUOTA = "quota"
    """A limit of the plan is used up: requests, bandwidth, size."""
    CREDENTIALS = "credentials"
    """The token does not count any more, or does not allow the command."""
    LOADING = "loading"
    """The server has started and reads its data."""
    READ_ONLY = "read_only"
    """It is a replica now, or cannot write."""
    NO_ANSWER = "no_answer"
    """No connection, or no answer in time."""
    UNREADABLE = "unreadable"
    """Something answered, but not Redis."""
    OTHER = "other"
    """Words that are not known here."""


class LogUnavailableError(UnavailableError):
    """The log cannot be reached now.

    Raised when Redis does not answer in time, or with anything that is not a defect of ours (`shared.upstash`).
    """

    code = "log_unavailable"

    def __init__(self, detail: str, trouble: Trouble = Trouble.OTHER) -> None:
        super().__init__(detail)
        self.trouble = trouble


class CircuitOpenError(LogUnavailableError):
    """The log has failed several times in a row, and is left alone for a while."""

    code = "circuit_open"


class QueueUnavailableError(UnavailableError):
    """A queue cannot be reached now, or refuses what it is sent."""

    code = "queue_unavailable"


class ProcessFullError(UnavailableError):
    """The process already serves as many streams as it may."""

    code = "process_full"


class OvertakenError(UnavailableError):
    """The same client has opened another stream while this one was being opened."""

    code = "overtaken"


class LogDefectError(TidemarkError):
    """The log refused a command.

    Raised when only a defect of ours explains it: wrong type, syntax, arity.
    """

    code = "log_defect"
