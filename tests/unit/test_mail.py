"""Simulated pushes: as Google sends them."""

from __future__ import annotations

import base64
import itertools
import json
from datetime import UTC, datetime

import pytest

from infra.local.mail import SUBSCRIPTION, fresh_message_id, history_ids, push_body
from shared.push import parse_push


def test_a_simulated_push_is_what_the_webhook_reads() -> None:
    """Both spellings of the ids, as on the wire; standard base64 with padding."""
    body = push_body("Ann@Example.com", 77, "m-1")
    message = body["message"]
    assert json.loads(base64.b64decode(message["data"], validate=True)) == {
        "emailAddress": "Ann@Example.com",
        "historyId": 77,
    }
    assert message["messageId"] == message["message_id"] == "m-1"
    assert message["publishTime"] == message["publish_time"]
    note = parse_push(json.dumps(body).encode(), {}, received_at=datetime(2000, 1, 1, tzinfo=UTC))
    assert (note.subscription, note.message_id, note.history_id) == (SUBSCRIPTION, "m-1", "77")
    assert note.topic == "gmail:ann@example.com"


def test_a_simulated_push_was_published_now() -> None:
    """Latencies are measured from it."""
    before = datetime.now(UTC)
    published = datetime.fromisoformat(push_body("a@b.c", 1, "m")["message"]["publishTime"])
    # Milliseconds are written, and the rest is cut off.
    assert -0.001 <= (published - before).total_seconds() < 60


def test_another_subscription_can_be_named() -> None:
    """It is half of the dedupe key."""
    assert push_body("a@b.c", 1, "m", subscription="projects/x/subscriptions/y")["subscription"].endswith("/y")


def test_message_ids_are_fresh_digits() -> None:
    """As Google's are; a thousand in a row do not collide."""
    ids = {fresh_message_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(identity.isdecimal() for identity in ids)


@pytest.mark.parametrize("first", [1, 2**63, 0])
def test_history_ids_count_up_from_the_first(first: int) -> None:
    """Zero as well: it is a number like any other."""
    assert list(itertools.islice(history_ids(first), 3)) == [first, first + 1, first + 2]


def test_history_ids_without_a_first_rise_from_one_start_to_the_next() -> None:
    """They begin at the time, so that a restarted stack does not go back."""
    earlier = next(history_ids())
    ids = history_ids()
    assert earlier <= next(ids) < next(ids) < 2**63
