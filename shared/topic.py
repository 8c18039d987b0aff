"""Topics: what a client follows."""

from __future__ import annotations

import re
from collections.abc import Iterable

from shared.errors import BadTopicError, TooManyTopicsError

MAX_TOPICS_PER_REQUEST = 50

# No comma, space or control character: a topic stands in Redis channel names, SSE lines and log lines.
FORM = re.compile(r"[A-Za-z0-9:@._+\-/']{1,320}", re.ASCII)


def check_topic(topic: str) -> str:
    """Return the topic unchanged, or raise BadTopicError."""
    if FORM.fullmatch(topic) is None:
        raise BadTopicError("A topic is 1-320 characters of A-Z a-z 0-9 : @ . _ + - / '.")
    return topic


def check_topics(topics: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct topics in the order given, or raise BadTopicError or TooManyTopicsError."""
    distinct = tuple(dict.fromkeys(check_topic(topic) for topic in topics))
    if len(distinct) > MAX_TOPICS_PER_REQUEST:
        raise TooManyTopicsError(f"At most {MAX_TOPICS_PER_REQUEST} topics may be followed at once.")
    return distinct


def gmail_topic(address: str) -> str:
    """Return the topic of a Gmail mailbox. Raises BadTopicError if the address cannot be one."""
    # Checked first: lower() would make an ASCII letter of the Kelvin sign, and so one mailbox of two.
    return check_topic(f"gmail:{address}").lower()
