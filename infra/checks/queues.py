"""Whether the queues can be used, keep what they are given long enough, and what is in them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Final

from infra.backends import QUEUE_URLS, open_queue
from infra.checks.finding import Finding
from infra.sweep import number_of
from shared.errors import QueueUnavailableError
from shared.settings import Settings

#: The most that SQS keeps: what waits for the log, or for a person, waits so long.
_KEPT_S: Final = 14 * 86_400
_DAY_S: Final = 86_400
#: A batch may take the deliver function a minute; a message that shows again meanwhile is delivered twice.
_HIDDEN_S: Final = 60
_HIGH_THROUGHPUT: Final = {"DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}
#: What to do about an error, by words of SQS's in it.
_ADVICE: Final = (
    (
        ("AccessDenied", "NotAuthorized"),
        "the role needs SendMessage, ReceiveMessage, DeleteMessage, ChangeMessageVisibility and GetQueueAttributes",
    ),
    (
        (
            "ClientToken",
            "UnrecognizedClient",
            "Signature",
            "InvalidSecurity",
            "ExpiredToken",
            "MissingAuthenticationToken",
        ),
        "AWS does not take the credentials: were they rotated, are they of this region, is the clock right?",
    ),
    (("QueueDoesNotExist", "NonExistentQueue"), "there is no such queue: create it, or set {variable} right"),
)
_NO_ANSWER: Final = "check {variable}, AWS_REGION and the network from here"


async def examine_queues(settings: Settings) -> AsyncIterator[Finding]:
    """Ask each queue for its attributes."""
    queues = settings.queues
    if queues is None:
        what = "queues: none, so pushes are refused while the log is away"
        yield Finding("warn", what, f"set {' and '.join(QUEUE_URLS)}")
        return
    asked = [
        ("delivery queue", QUEUE_URLS[0], queues.delivery, _delivery),
        ("dead letters", QUEUE_URLS[1], queues.dead_letters, _dead_letters),
    ]
    if queues.confirmation is not None:
        asked.append(("confirmation queue", "TIDEMARK_CONFIRM_QUEUE_URL", queues.confirmation, _confirmation))
    for name, variable, url, look in asked:
        async with open_queue(url, queues.access) as sqs:
            try:
                attributes = await sqs.attributes()
                findings = list(look(name, attributes))
            except QueueUnavailableError as error:
                findings = [Finding("FAIL", f"{name}: {error}", _advice(str(error)).format(variable=variable))]
        for finding in findings:
            yield finding


def _advice(text: str) -> str:
    return next((advice for words, advice in _ADVICE if any(word in text for word in words)), _NO_ANSWER)


def _delivery(name: str, attributes: Mapping[str, str]) -> Iterator[Finding]:
    waiting = number_of(attributes, "ApproximateNumberOfMessages")
    in_flight = number_of(attributes, "ApproximateNumberOfMessagesNotVisible")
    yield from _keeping(name, attributes)
    yield from _untouched(name, attributes)
    if any(attributes.get(attribute) != value for attribute, value in _HIGH_THROUGHPUT.items()):
        fix = "set " + " and ".join(f"{attribute}={value}" for attribute, value in _HIGH_THROUGHPUT.items())
        yield Finding("warn", f"{name}: takes 300 calls a second, for it is not in high-throughput mode", fix)
    yield Finding("ok", f"{name}: {waiting} wait, {in_flight} are in flight")


def _dead_letters(name: str, attributes: Mapping[str, str]) -> Iterator[Finding]:
    dead = number_of(attributes, "ApproximateNumberOfMessages")
    yield from _keeping(name, attributes)
    if dead:
        fix = "tidemark dlq list says why; what can be delivered by now, tidemark dlq redrive puts back"
        yield Finding("warn", f"{name}: {dead}", fix)
    else:
        yield Finding("ok", f"{name}: none")


def _confirmation(name: str, attributes: Mapping[str, str]) -> Iterator[Finding]:
    delayed = number_of(attributes, "ApproximateNumberOfMessagesDelayed")
    waiting = number_of(attributes, "ApproximateNumberOfMessages")
    yield from _untouched(name, attributes)
    yield Finding("ok", f"{name}: {delayed} are delayed, {waiting} wait")


def _keeping(name: str, attributes: Mapping[str, str]) -> Iterator[Finding]:
    kept_s = number_of(attributes, "MessageRetentionPeriod")
    if kept_s < _KEPT_S:
        what = f"{name}: drops what is older than {kept_s / _DAY_S:.2g} days, without a word"
        yield Finding("FAIL", what, f"set MessageRetentionPeriod={_KEPT_S}")


def _untouched(name: str, attributes: Mapping[str, str]) -> Iterator[Finding]:
    """See that deliver alone decides what becomes of a message."""
    if attributes.get("RedrivePolicy"):
        what = f"{name}: SQS moves messages away itself, however briefly the log is away"
        yield Finding("FAIL", what, "take its RedrivePolicy away: deliver moves dead letters, and says why they died")
    hidden_s = number_of(attributes, "VisibilityTimeout")
    if hidden_s < _HIDDEN_S:
        what = f"{name}: a message shows again after {hidden_s} s, while it may still be in hand"
        yield Finding("warn", what, f"set VisibilityTimeout to {_HIDDEN_S} or more: at least the time-out of deliver")
