"""Clients: one tab or device of a user, named by itself."""

from __future__ import annotations

import re

from shared.errors import BadClientError

FORM = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


def check_client(name: str) -> str:
    """Return the client name unchanged, or raise BadClientError."""
    if FORM.fullmatch(name) is None:
        raise BadClientError("A client name is 1-64 characters of A-Z a-z 0-9 _ -.")
    return name
