"""Envelopes: CloudEvents on one ASCII line, with and without a position."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from shared.envelope import Notification, as_object, envelope_of, low_priority_key, with_position
from shared.position import Position

anything = st.text(max_size=50)
notes = st.builds(
    Notification,
    subscription=anything,
    message_id=anything,
    published_at=anything,
    email_address=anything,
    history_id=anything,
    topic=anything,
)
positions = st.builds(Position, st.integers(0, 2**53 - 1), st.integers(0, 2**53 - 1))

NOTE = Notification(
    subscription="projects/p/subscriptions/s",
    message_id="12345",
    published_at="2026-11-23T14:00:00.000Z",
    email_address="Ann@Example.com",
    history_id="18446744073709551615",
    topic="gmail:ann@example.com",
)


def test_an_envelope_is_the_cloudevent_of_the_contract() -> None:
    """Every member as documented: ``historyId`` is a string, ``subject`` the address in lower case."""
    assert as_object(envelope_of(NOTE), Position(1795426697001, 7)) == {
        "specversion": "1.0",
        "id": "12345",
        "source": "//pubsub.googleapis.com/projects/p/subscriptions/s",
        "type": "gmail.mailbox.changed",
        "subject": "ann@example.com",
        "time": "2026-11-23T14:00:00.000Z",
        "topic": "gmail:ann@example.com",
        "position": "1795426697001-7",
        "data": {"emailAddress": "Ann@Example.com", "historyId": "18446744073709551615"},
    }


@given(notes, positions)
def test_an_envelope_with_its_position_is_the_same_json_as_text_and_as_object(
    note: Notification, position: Position
) -> None:
    """The position is spliced into the text; that must be what decoding and adding it would give."""
    stored = envelope_of(note)
    assert json.loads(with_position(stored, position)) == as_object(stored, position)
    assert json.loads(stored) | {"position": str(position)} == as_object(stored, position)


@given(notes, positions)
def test_an_envelope_is_one_line_of_ascii_whatever_it_holds(note: Notification, position: Position) -> None:
    """No value can end an SSE line: not CR or LF, not U+2028, not NUL."""
    for text in (envelope_of(note), with_position(envelope_of(note), position)):
        assert text.isascii()
        assert text.isprintable()


def test_priority_and_key_are_extension_attributes_that_only_a_notification_of_low_priority_has() -> None:
    note = Notification("s", "1", "2026-11-23T13:59:59Z", "a@b.c", "7", "gmail:a@b.c", low_key='un"read')
    envelope = envelope_of(note)
    assert (json.loads(envelope)["priority"], json.loads(envelope)["key"]) == ("low", 'un"read')
    assert low_priority_key(envelope) == 'un"read'
    usual = envelope_of(note._replace(low_key=None))
    assert not {"priority", "key"} & json.loads(usual).keys()
    assert low_priority_key(usual) is None
