"""Typed reading of a request's JSON: whatever a client sends, each value is what its reader expects, or refused."""

from __future__ import annotations

import json
from typing import Any, Final

from infra.local.queue import errors, limits

_NAMES: Final = {str: "STRING_VALUE", bool: "BOOLEAN_VALUE", int: "NUMBER_VALUE", float: "DECIMAL_VALUE"}


def read_object(body: bytes) -> dict[str, Any]:
    """Read a request's body. Raises QueueError for what is not a JSON object."""
    try:
        read = json.loads(body) if body else {}
    except (ValueError, RecursionError):
        # ValueError: no JSON, no UTF-8, or a number of thousands of digits.
        raise errors.serialization("The request body is not valid JSON") from None
    if not isinstance(read, dict):
        raise errors.serialization("Start of structure or map expected")
    return read


def wrong_type(value: object, wanted: str) -> errors.QueueError:
    """Say that a value has another type than is wanted."""
    found = _NAMES.get(type(value), "Collection or null")
    return errors.serialization(f"{found} can not be converted to {wanted}")


class Fields:
    """The members of one JSON object. A member that is null counts as absent."""

    def __init__(self, members: Any) -> None:
        if not isinstance(members, dict):
            raise wrong_type(members, "a structure")
        self._members = members

    def text(self, name: str) -> str | None:
        """Give a string, or None when it is absent."""
        value = self._members.get(name)
        if value is None or isinstance(value, str):
            return value
        raise wrong_type(value, "a String")

    def required(self, name: str) -> str:
        """Give a string that must be there and not be empty."""
        value = self.text(name)
        if not value:
            raise errors.missing(name)
        return value

    def integer(self, name: str) -> int | None:
        """Give a whole number, or None when it is absent."""
        value = self._members.get(name)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise wrong_type(value, "an Integer")

    def bounded(self, name: str, lowest: int, highest: int, reason: str) -> int | None:
        """Give a whole number within bounds, or None when it is absent."""
        value = self.integer(name)
        if value is not None and not lowest <= value <= highest:
            raise errors.invalid_parameter(value, name, reason)
        return value

    def texts(self, name: str) -> list[str]:
        """Give a list of strings, empty when it is absent."""
        value = self._members.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise wrong_type(value, "a list")
        for item in value:
            if not isinstance(item, str):
                raise wrong_type(item, "a String")
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        """Give a map, empty when it is absent."""
        value = self._members.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise wrong_type(value, "a map")
        return value

    def entries(self, kind: str) -> list[tuple[str, Fields]]:
        """Give the entries of a batch with their ids. Raises QueueError where they are against AWS's rules."""
        given = self._members.get("Entries")
        if given is not None and not isinstance(given, list):
            raise wrong_type(given, "a list")
        if not given:
            raise errors.empty_batch(kind)
        if len(given) > limits.BATCH_ENTRIES:
            raise errors.too_many_entries(len(given))
        entries: list[tuple[str, Fields]] = []
        seen = set[str]()
        for members in given:
            entry = Fields(members)
            entry_id = entry.text("Id")
            if entry_id is None:
                raise errors.missing(f"{kind}.Id")
            limits.check_entry_id(entry_id)
            if entry_id in seen:
                raise errors.repeated_entry_id(entry_id)
            seen.add(entry_id)
            entries.append((entry_id, entry))
        return entries
