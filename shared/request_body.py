"""Reading a request's body without holding more of it than its endpoint takes."""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request

from shared.errors import BadBodyError, BodyTooLargeError
from shared.json_object import NotAnObjectError, parse_object


def stated_size(request: Request) -> int:
    """Return how many bytes the body is said to have; 0 if that is not said."""
    stated = request.headers.get("content-length", "")
    return int(stated) if re.fullmatch(r"[0-9]{1,18}", stated, re.ASCII) else 0


async def json_object(request: Request, *, max_bytes: int) -> dict[str, Any]:
    """Return the request's body. Raises BodyTooLargeError, or BadBodyError if it is not a JSON object."""
    body, size = bytearray(), stated_size(request)
    if size <= max_bytes:
        async for chunk in request.stream():
            body += chunk
            size = len(body)
            if size > max_bytes:
                break
    if size > max_bytes:
        raise BodyTooLargeError(f"The body must be at most {max_bytes} bytes.")
    try:
        return parse_object(body)
    except NotAnObjectError as error:
        raise BadBodyError(f"The body must be a JSON object, but {error}.") from None
