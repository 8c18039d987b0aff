"""AWS's limits and the forms of names and ids.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
"""

from __future__ import annotations

import re
from typing import Final

from infra.local.queue import errors

ACCOUNT: Final = "000000000000"

BATCH_ENTRIES: Final = 10
RECEIVE_MESSAGES: Final = 10
BATCH_BYTES: Final = 1_048_576
"""Of all messages of a batch together, whatever the queue allows for one: 1 MiB since August 2025, before 256 KiB."""
IN_FLIGHT: Final = 120_000
VISIBILITY_S: Final = 43_200
WAIT_S: Final = 20
DELAY_S: Final = 900
DEDUPLICATION_S: Final = 300
PURGE_PAUSE_S: Final = 60
DELETE_PAUSE_S: Final = 60
MESSAGE_ATTRIBUTES: Final = 10
LISTED_QUEUES: Final = 1_000

REQUEST_BYTES: Final = 16 * 1_048_576
"""Ours: a batch of 1 MiB in which JSON writes each character as six, with room for the rest."""

_FIFO_SUFFIX: Final = ".fifo"
_QUEUE_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
_FIFO_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,75}\.fifo")
_ENTRY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
# MessageGroupId and MessageDeduplicationId: letters, digits and ASCII's punctuation; no space.
_FIFO_ID: Final = re.compile(r"[!-~]{1,128}")
# https://www.w3.org/TR/REC-xml/#charsets
_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def is_fifo_name(name: str) -> bool:
    """Tell whether a queue of this name is a FIFO queue."""
    return name.endswith(_FIFO_SUFFIX)


def check_queue_name(name: str, *, fifo: bool) -> None:
    """Raise QueueError unless a queue may be created under this name."""
    if fifo:
        if not _FIFO_NAME.fullmatch(name):
            raise errors.invalid_value(
                "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, "
                "must end with .fifo suffix and be 1 to 80 in length."
            )
    elif not _QUEUE_NAME.fullmatch(name):
        raise errors.invalid_value(
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
        )


def check_fifo_id(value: str, name: str) -> None:
    """Raise QueueError unless this may be the id of a group or of a message's content."""
    if not _FIFO_ID.fullmatch(value):
        reason = f"{name} can only include alphanumeric and punctuation characters. 1 to 128 in length."
        raise errors.invalid_parameter(value, name, reason)


def check_entry_id(value: str) -> None:
    """Raise QueueError unless this may be the id of a batch's entry."""
    if not _ENTRY_ID.fullmatch(value):
        raise errors.invalid_entry_id()


def forbidden_character(text: str) -> str | None:
    """Say which character of the text no message may have, or None."""
    found = _FORBIDDEN.search(text)
    if found is None:
        return None
    return (
        f"Invalid binary character '#x{ord(found.group()):x}' was found in the message body, the set of allowed "
        "characters is #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF"
    )
