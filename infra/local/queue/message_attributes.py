"""Attributes that a sender gives a message: their rules, their size, their MD5, and which of them a receiver wants.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Final

from infra.local.queue import errors, limits
from infra.local.queue.fields import Fields

Attributes = Mapping[str, Mapping[str, str]]
"""By name: DataType, and StringValue or BinaryValue (in base64), as they stand on the wire."""

_NAME: Final = re.compile(
    r"(?!(?:aws|amazon)\.|\.)(?:(?!\.\.)[A-Za-z0-9_.-]){1,256}(?<!\.)", re.IGNORECASE | re.ASCII
)
_TYPE: Final = re.compile(r"(?P<kind>String|Number|Binary)(?:\.[^\s\x00-\x1f\ud800-\udfff]+)?")
_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_TYPE_LENGTH: Final = 256
_ALL: Final = frozenset({"All", "*", ".*"})
_STRING, _BINARY = b"\x01", b"\x02"


def read_attributes(given: Mapping[str, object]) -> Attributes:
    """Check what a sender gives. Raises QueueError."""
    if len(given) > limits.MESSAGE_ATTRIBUTES:
        raise errors.invalid_value(
            f"Number of message attributes [{len(given)}] exceeds the allowed maximum [{limits.MESSAGE_ATTRIBUTES}]."
        )
    return {name: _read_one(name, Fields(value)) for name, value in given.items()}


def _read_one(name: str, given: Fields) -> Mapping[str, str]:
    if not _NAME.fullmatch(name):
        raise errors.invalid_value(
            f"The message attribute name '{name}' is invalid. An attribute name can contain A-Z, a-z, 0-9, "
            "underscore (_), hyphen (-), and period (.) characters, 256 at most; it cannot start with 'AWS.' or "
            "'Amazon.', start or end with a period, or have periods in succession."
        )
    data_type = given.text("DataType")
    if not data_type:
        raise errors.invalid_value(f"The message attribute '{name}' must contain a non-empty message attribute type.")
    matched = _TYPE.fullmatch(data_type)
    if matched is None or len(data_type) > _TYPE_LENGTH:
        raise errors.invalid_value(
            f"The message attribute '{name}' has an invalid message attribute type, the set of supported type "
            "prefixes is Binary, Number, and String."
        )
    kind = matched["kind"]
    wanted, other = ("BinaryValue", "StringValue") if kind == "Binary" else ("StringValue", "BinaryValue")
    value = given.text(wanted)
    if not value or given.text(other) is not None:
        raise errors.invalid_value(
            f"Message (user) attribute '{name}' must contain a non-empty value of type '{kind}'."
        )
    if kind == "Binary":
        _decode(value)
    else:
        _check_string(name, kind, value)
    return {"DataType": data_type, wanted: value}


def _check_string(name: str, kind: str, value: str) -> None:
    forbidden = limits.forbidden_character(value)
    if forbidden is not None:
        raise errors.invalid_value(forbidden)
    if kind == "Number" and not _NUMBER.fullmatch(value):
        raise errors.invalid_value(f"Can't cast the value of message (user) attribute '{name}' to a number.")


def _decode(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise errors.serialization("A BinaryValue is not base64") from None


def _value(attribute: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Give the mark of its transport type, and the value's bytes."""
    if "BinaryValue" in attribute:
        return _BINARY, _decode(attribute["BinaryValue"])
    return _STRING, attribute["StringValue"].encode()


def size_of(attributes: Attributes) -> int:
    """Count the bytes that count against the limit of a message: names, types and values."""
    return sum(
        len(name.encode()) + len(attribute["DataType"].encode()) + len(_value(attribute)[1])
        for name, attribute in attributes.items()
    )


def md5_of(attributes: Attributes) -> str:
    """Give the digest that SDKs compare ("Calculating the MD5 message digest for message attributes")."""
    digest = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes):
        attribute = attributes[name]
        mark, value = _value(attribute)
        for part in (name.encode(), attribute["DataType"].encode()):
            digest.update(len(part).to_bytes(4, "big") + part)
        digest.update(mark + len(value).to_bytes(4, "big") + value)
    return digest.hexdigest()


def selected(attributes: Attributes, wanted: Sequence[str]) -> Attributes:
    """Give those that a receiver asks for: by name, by `prefix.*`, or all of them by `All`, `*` or `.*`."""
    if not _ALL.isdisjoint(wanted):
        return attributes
    prefixes = tuple(name[:-2] for name in wanted if name.endswith(".*"))
    return {
        name: value
        for name, value in attributes.items()
        if name in wanted or (prefixes and name.startswith(prefixes))
    }
