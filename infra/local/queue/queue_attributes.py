"""Attributes of a queue: defaults, the values that AWS allows, and when two creations of a queue agree.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from infra.local.queue import errors, limits
from infra.local.queue.fields import wrong_type

_RANGES: Final = {
    "VisibilityTimeout": (0, limits.VISIBILITY_S),
    "DelaySeconds": (0, limits.DELAY_S),
    "MaximumMessageSize": (1_024, limits.BATCH_BYTES),
    "MessageRetentionPeriod": (60, 1_209_600),
    "ReceiveMessageWaitTimeSeconds": (0, limits.WAIT_S),
}
_DEFAULTS: Final = {
    "VisibilityTimeout": "30",
    "DelaySeconds": "0",
    "MaximumMessageSize": str(limits.BATCH_BYTES),
    "MessageRetentionPeriod": "345600",
    "ReceiveMessageWaitTimeSeconds": "0",
}
_FIFO_CHOICES: Final = {
    "ContentBasedDeduplication": ("true", "false"),
    "DeduplicationScope": ("queue", "messageGroup"),
    "FifoThroughputLimit": ("perQueue", "perMessageGroupId"),
}
_FIFO_DEFAULTS: Final = {
    "FifoQueue": "true",
    "ContentBasedDeduplication": "false",
    "DeduplicationScope": "queue",
    "FifoThroughputLimit": "perQueue",
}
_NOT_HERE: Final = frozenset(
    {"Policy", "RedriveAllowPolicy", "KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds", "SqsManagedSseEnabled"}
)
READ_ONLY: Final = frozenset(
    {
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesDelayed",
        "CreatedTimestamp",
        "LastModifiedTimestamp",
        "QueueArn",
    }
)
KNOWN: Final = frozenset({"All", "RedrivePolicy"}) | READ_ONLY | _NOT_HERE | _DEFAULTS.keys() | _FIFO_DEFAULTS.keys()

_DIGITS: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
_RECEIVE_COUNTS: Final = range(1, 1_001)


@dataclass(frozen=True, slots=True)
class Redrive:
    """Where messages go that were received too often."""

    target: str
    """The dead letter queue's ARN."""
    max_receives: int


def defaults(*, fifo: bool) -> dict[str, str]:
    """Give the attributes of a queue for which none are given."""
    return {**_DEFAULTS, **(_FIFO_DEFAULTS if fifo else {})}


def read_attributes(given: Mapping[str, Any], *, fifo: bool, is_queue: Callable[[str], bool]) -> dict[str, str]:
    """Check what is given for a queue. `is_queue` tells whether an ARN is that of a queue. Raises QueueError."""
    checked: dict[str, str] = {}
    for name, value in given.items():
        if not isinstance(value, str):
            raise wrong_type(value, "a String")
        if name in _NOT_HERE:
            raise errors.unsupported(f"The queue attribute {name}")
        checked[name] = _read_one(name, value, fifo=fifo, is_queue=is_queue)
    return checked


def _read_one(name: str, value: str, *, fifo: bool, is_queue: Callable[[str], bool]) -> str:
    if name in _RANGES:
        lowest, highest = _RANGES[name]
        if not _DIGITS.fullmatch(value) or not lowest <= int(value) <= highest:
            raise errors.invalid_attribute(name)
        return str(int(value))
    if name == "RedrivePolicy":
        return _read_redrive(value, fifo=fifo, is_queue=is_queue)
    if name == "FifoQueue" and fifo:
        if value != "true":
            raise errors.invalid_attribute(name, "Modifying queue type is not supported.")
        return value
    if name in _FIFO_CHOICES:
        if not fifo:
            if name == "ContentBasedDeduplication":
                raise errors.unknown_attribute(name)
            raise errors.invalid_attribute_name(f"You can specify the {name} only when FifoQueue is set to true.")
        if value not in _FIFO_CHOICES[name]:
            raise errors.invalid_attribute(name)
        return value
    raise errors.unknown_attribute(name)


def check_together(attributes: Mapping[str, str]) -> None:
    """Raise QueueError for values that AWS does not allow beside each other."""
    per_group = attributes.get("FifoThroughputLimit") == "perMessageGroupId"
    if per_group and attributes.get("DeduplicationScope") != "messageGroup":
        reason = "perMessageGroupId is allowed only when DeduplicationScope is messageGroup."
        raise errors.invalid_attribute("FifoThroughputLimit", reason)


def _read_redrive(text: str, *, fifo: bool, is_queue: Callable[[str], bool]) -> str:
    """Give the policy in one form, or an empty text, which takes it away."""
    if not text:
        return ""
    try:
        policy = json.loads(text)
        target, given = policy["deadLetterTargetArn"], str(policy["maxReceiveCount"])
    except (ValueError, TypeError, KeyError, RecursionError):
        reason = "Redrive policy is not a JSON object with a deadLetterTargetArn and a maxReceiveCount."
        raise errors.invalid_parameter(text, "RedrivePolicy", reason) from None
    count = int(given) if _DIGITS.fullmatch(given) else 0
    if count not in _RECEIVE_COUNTS:
        reason = f"Invalid value for maxReceiveCount: {given}, valid values are from 1 to 1000 both inclusive."
        raise errors.invalid_parameter(text, "RedrivePolicy", reason)
    if not isinstance(target, str) or not is_queue(target):
        raise errors.invalid_parameter(text, "RedrivePolicy", "Dead letter target does not exist.")
    if limits.is_fifo_name(target) != fifo:
        reason = "Dead-letter queue must be same type of queue as the source."
        raise errors.invalid_parameter(text, "RedrivePolicy", reason)
    return json.dumps({"deadLetterTargetArn": target, "maxReceiveCount": count})


def redrive_of(attributes: Mapping[str, str]) -> Redrive | None:
    """Give a queue's redrive policy, if it has one."""
    text = attributes.get("RedrivePolicy")
    if not text:
        return None
    policy = json.loads(text)
    return Redrive(policy["deadLetterTargetArn"], policy["maxReceiveCount"])


def check_same(given: Mapping[str, str], existing: Mapping[str, str]) -> None:
    """Raise QueueError unless a queue that exists has the values that a second creation gives."""
    for name, value in given.items():
        if existing.get(name, "") != value:
            raise errors.queue_exists(name)
