"""What REST requests and answers say: commands out of JSON, replies of Redis into JSON, pushes into events."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from typing import Any, Final, NoReturn

import hiredis

from infra.local.resp import OK, Argument, Reply
from infra.local.rest_refusal import MAX_REQUEST_BYTES, RefusedError, not_available, too_large

# Redis 7 quotes the name 'so', 6.2 `so`.
_UNKNOWN_COMMAND: Final = re.compile(r"ERR unknown command ['`]([^'`]*)['`]", re.IGNORECASE)


# -- requests


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


# A number becomes the text that the client wrote: 1.10 stays 1.10.
_DECODER: Final = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_refuse_constant)


def read_command(body: bytes) -> list[Argument]:
    """Read a body that is one command. Raises RefusedError with Upstash's texts."""
    return _arguments(_array(body))


def read_commands(body: bytes) -> list[list[Argument]]:
    """Read a body that is an array of commands. Raises RefusedError with Upstash's texts."""
    rows = _array(body)
    if not rows:
        raise RefusedError(400, "ERR empty command")
    return [_arguments(row) for row in rows]


def _array(body: bytes) -> list[Any]:
    text = body.decode("utf-8", "replace")
    if not text.strip():
        raise RefusedError(400, "EOF")
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError):
        raise RefusedError(400, "ERR invalid JSON") from None
    if not isinstance(value, list):
        raise RefusedError(400, "expected JSON array")
    return value


def _arguments(value: Any) -> list[Argument]:
    if not isinstance(value, list):
        raise RefusedError(400, "expected JSON array")
    if not value:
        raise RefusedError(400, "ERR empty command")
    return [item if type(item) is str and item.isascii() else _argument(item) for item in value]


def _argument(item: Any) -> Argument:
    if isinstance(item, bool):
        return "true" if item else "false"
    if item is None:
        raise RefusedError(400, "ERR null args are not supported")
    if not isinstance(item, str):
        raise RefusedError(400, f'ERR unsupported arg type: "{"[" if isinstance(item, list) else "{"}": json.Delim')
    # Half a surrogate pair (JSON can say it, UTF-8 cannot) becomes U+FFFD, as in Go's decoder.
    return item.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# -- answers


def to_json(value: Any) -> bytes:
    """Give the body of an answer."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def outcome(reply: Reply, instead: Reply = None, *, base64: bool) -> dict[str, Any]:
    """Give `{"result": …}` or `{"error": …}`; a result is replaced with `instead` if that is not None.

    Upstash's size limit holds for a reply as well.
    """
    if isinstance(reply, hiredis.ReplyError):
        return {"error": error_text(reply)}
    size = _size(reply)
    if size > MAX_REQUEST_BYTES:
        return {"error": too_large(size)}
    result = reply if instead is None else instead
    return {"result": _in_base64(result) if base64 else _as_text(result)}


def error_text(error: hiredis.ReplyError) -> str:
    """Give an error of Redis in Upstash's words, which differ for a command that Redis does not know."""
    text = str(error)
    unknown = _UNKNOWN_COMMAND.match(text)
    return not_available(unknown[1].upper()) if unknown else text


def event(push: list[Any]) -> bytes:
    """Frame one push: its parts with commas between them, unescaped, as Upstash does."""
    parts = [part if isinstance(part, bytes) else str(part).encode() for part in push]
    return b"data: " + b",".join(parts) + b"\n\n"


def _size(reply: Reply) -> int:
    if isinstance(reply, bytes):
        return len(reply)
    return sum(map(_size, reply)) if isinstance(reply, list) else 0


def _as_text(reply: Reply) -> Any:
    """Bytes that are not UTF-8 become U+FFFD; an error inside an array becomes its text."""
    if isinstance(reply, bytes):
        return reply.decode("utf-8", "replace")
    if isinstance(reply, list):
        return [_as_text(item) for item in reply]
    return str(reply) if isinstance(reply, hiredis.ReplyError) else reply


def _in_base64(reply: Reply) -> Any:
    """Every string in base64, but for the status OK."""
    if reply is OK:
        return "OK"
    if isinstance(reply, bytes):
        return b64encode(reply).decode()
    if isinstance(reply, list):
        return [_in_base64(item) for item in reply]
    return b64encode(str(reply).encode()).decode() if isinstance(reply, hiredis.ReplyError) else reply
