"""Dead letters, as people and scripts are shown them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.letters import Letter
from shared.delivery import DeadLetter, Delivery
from shared.sqs import Message
from tests.support.queue_set import CAME_AT, SUBSCRIPTION, event, letter, raw_push, wrapped

GMAIL = {"emailAddress": "ann@example.com", "historyId": 7}
UNWRAPPED = {
    "x-goog-pubsub-subscription-name": SUBSCRIPTION,
    "x-goog-pubsub-message-id": "m-1",
}


def read(body: DeadLetter | str) -> Letter:
    text = body if isinstance(body, str) else body.to_json()
    return Letter.of(Message("id-1", text, "receipt", sent_ms=1_700_000_000_000, receives=1, group=None))


def test_an_event_is_listed_with_why_and_since_when() -> None:
    """And shown with its envelope, as JSON."""
    dead = letter(event(1, returns=2), reason="WRONGTYPE")
    found = read(dead)
    assert found.summary() == {
        "id": "id-1",
        "death": "unknown",
        "reason": "WRONGTYPE",
        "first_seen": CAME_AT,
        "died_at": "2026-11-23T14:05:00.000Z",
        "attempts": 3,
        "returns": 2,
        "mailbox": "ann@example.com",
        "bytes": len(dead.to_json()),
    }
    whole = found.whole()
    assert whole["event"]["envelope"]["id"] == "1"
    assert (whole["event"]["message_id"], whole["event"]["topic"]) == ("m-1", "gmail:ann@example.com")
    assert found.refusal() is None


@pytest.mark.parametrize(
    ("delivery", "data"),
    [
        (raw_push(wrapped({**GMAIL, "historyId": "x"})), {**GMAIL, "historyId": "x"}),
        (raw_push(b'{"emailAddress":"ann@example.com"}', UNWRAPPED), {"emailAddress": "ann@example.com"}),
    ],
    ids=["wrapped", "unwrapped"],
)
def test_an_unreadable_push_is_shown_decoded(delivery: Delivery, data: dict[str, Any]) -> None:
    """Whose it is, if it says so; and that this version cannot read it either."""
    found = read(letter(delivery))
    assert found.mailbox == "ann@example.com"
    assert found.whole()["push"]["data"] == data
    assert (found.refusal() or "").startswith("this version cannot read the push either: no historyId")


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"plain words", "plain words"),
        (b"\xff\xfe", {"base64": "//4="}),
        (b"[1,2]", "[1,2]"),
        (b'{"message":{"data":"!"}}', {"message": {"data": "!"}}),
        (b'{"message":7}', {"message": 7}),
    ],
)
def test_the_body_of_a_push_is_shown_whatever_it_is(body: bytes, shown: object) -> None:
    """As JSON, as text, or as base64; it is nobody's."""
    found = read(letter(raw_push(body)))
    assert found.whole()["push"]["body"] == shown
    assert found.whole()["push"]["data"] is None
    assert found.mailbox is None
    assert found.refusal() is not None


def test_a_push_that_this_version_reads_may_be_put_back() -> None:
    """An earlier one could not."""
    found = read(letter(raw_push(wrapped(GMAIL))))
    assert (found.refusal(), found.mailbox) == (None, "ann@example.com")


def test_a_push_of_which_only_the_head_was_kept_may_not() -> None:
    """What is missing cannot be had again."""
    found = read(letter(raw_push(wrapped(GMAIL)[:20], size=300_000)))
    assert found.refusal() == "only the head of the push was kept, 20 of its 300000 bytes"
    assert found.whole()["push"]["whole"] is False


@pytest.mark.parametrize("body", ["words", "[]", "{}", json.dumps({"format": "9"}), "{" * 5000])
def test_what_is_no_letter_of_ours_is_shown_as_it_is(body: str) -> None:
    """Somebody has put it there; it is listed all the same."""
    found = read(body)
    assert found.summary()["died_at"] == "2023-11-14T22:13:20.000Z"
    assert [found.summary()[name] for name in ("death", "first_seen", "attempts", "returns", "mailbox")] == [None] * 5
    assert found.reason.startswith("it cannot be read: ")
    assert found.whole()["message"] == body
    assert found.refusal() == found.reason


def test_a_letter_whose_message_is_poison_keeps_its_own_reason() -> None:
    """The reason is deliver's; that it cannot be put back is another matter."""
    found = read(letter("poison", reason="is not JSON"))
    assert (found.reason, found.whole()["message"]) == ("is not JSON", "poison")
    assert found.refusal() == "its message cannot be read: is not JSON"
