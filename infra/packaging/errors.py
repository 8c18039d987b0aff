"""Why an artifact cannot be made."""

from __future__ import annotations


class PackagingError(Exception):
    """An artifact cannot be made; the message says why, and what to do."""
