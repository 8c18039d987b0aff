"""Pub/Sub pushes: what is read of them, and which can never be read."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.envelope import Notification
from shared.push import UnreadablePushError, parse_push, rfc3339

NOW = datetime(2026, 11, 23, 14, 0, 0, 123456, tzinfo=UTC)
GMAIL = {"emailAddress": "ann@example.com", "historyId": 9876543210}
SUBSCRIPTION = "projects/p/subscriptions/s"


def encoded(data: Any, *, url: bool = False, padded: bool = True) -> str:
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    made = (base64.urlsafe_b64encode if url else base64.b64encode)(text).decode()
    return made if padded else made.rstrip("=")


def wrapped(gmail: Any = GMAIL, /, *, subscription: Any = SUBSCRIPTION, **message: Any) -> bytes:
    """Build a wrapped push; ``...`` for a member leaves it out."""
    members = {"data": encoded(gmail), "messageId": "m-1", "publishTime": "2026-11-23T13:59:59.5Z", **message}
    body = {"message": members, "subscription": subscription}
    body["message"] = {name: value for name, value in members.items() if value is not ...}
    return json.dumps({name: value for name, value in body.items() if value is not ...}).encode()


def unwrapped_headers(**changed: str) -> dict[str, str]:
    headers = {
        "x-goog-pubsub-subscription-name": SUBSCRIPTION,
        "x-goog-pubsub-message-id": "m-1",
        "x-goog-pubsub-publish-time": "2026-11-23T13:59:59.5Z",
    }
    return headers | {f"x-goog-pubsub-{name.replace('_', '-')}": value for name, value in changed.items()}


def read(body: bytes, headers: Mapping[str, str] | None = None) -> Notification:
    return parse_push(body, headers or {}, received_at=NOW)


def reason(body: bytes, headers: Mapping[str, str] | None = None) -> str:
    with pytest.raises(UnreadablePushError) as caught:
        read(body, headers)
    return str(caught.value)


NOTE = Notification(
    SUBSCRIPTION, "m-1", "2026-11-23T13:59:59.5Z", "ann@example.com", "9876543210", "gmail:ann@example.com"
)


def test_a_wrapped_push_is_read() -> None:
    """The form that Pub/Sub sends by default."""
    assert read(wrapped()) == NOTE


def test_an_unwrapped_push_is_read_to_the_same() -> None:
    """Payload unwrapping moves the metadata into headers; the event is the same one, dedupe included."""
    assert read(json.dumps(GMAIL).encode(), unwrapped_headers()) == NOTE


def test_unknown_members_are_ignored() -> None:
    """Google may add some at any time."""
    body = json.loads(wrapped({**GMAIL, "new": [1]}, attributes={"a": "b"}, orderingKey="k"))
    assert read(json.dumps({**body, "deliveryAttempt": 5, "other": None}).encode()) == NOTE


def test_the_snake_case_names_are_read_too() -> None:
    """Pub/Sub writes both spellings; either is enough."""
    body = wrapped(messageId=..., publishTime=..., message_id="m-1", publish_time="2026-11-23T13:59:59.5Z")
    assert read(body) == NOTE


@given(st.binary(max_size=40), st.booleans(), st.booleans())
def test_every_base64_variant_decodes_to_the_same_bytes(junk: bytes, url: bool, padded: bool) -> None:  # noqa: FBT001
    """Standard and URL-safe, padded or not: Gmail's guide and its practice differ."""
    data = json.dumps({**GMAIL, "junk": junk.hex()}) + " " * (len(junk) % 3)
    # Characters above U+007F bring the two alphabets' own digits about.
    data = data.replace("junk", "j\u00ffn\u00fek")
    assert read(wrapped(data=encoded(data.encode(), url=url, padded=padded))) == NOTE


@pytest.mark.parametrize("padding", ["=", "==", "===", ""])
def test_any_padding_is_taken(padding: str) -> None:
    """Too much of it as well: it holds no information."""
    assert read(wrapped(data=encoded(GMAIL).rstrip("=") + padding)) == NOTE


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (9876543210, "9876543210"),
        ("9876543210", "9876543210"),
        (0, "0"),
        (2**53 + 1, "9007199254740993"),
        (2**63, "9223372036854775808"),
        (2**64 - 1, "18446744073709551615"),
        ("18446744073709551615", "18446744073709551615"),
        ("007", "7"),
    ],
)
def test_a_history_id_is_exact_text_up_to_64_bits(value: int | str, text: str) -> None:
    """A number in practice, a string in the guide; JavaScript would round it, so it goes out as a string."""
    assert read(wrapped({**GMAIL, "historyId": value})).history_id == text


@given(st.integers(0, 2**64 - 1), st.booleans())
def test_number_and_string_of_a_history_id_are_the_same(number: int, as_text: bool) -> None:  # noqa: FBT001
    """No digit is lost in either form."""
    assert read(wrapped({**GMAIL, "historyId": str(number) if as_text else number})).history_id == str(number)


@pytest.mark.parametrize(
    "value",
    [
        -1,
        "-1",
        1.5,
        1.0,
        "1.0",
        True,
        None,
        "",
        " 1",
        "1 ",
        "+1",
        "1e3",
        "0x1",
        "१",
        [1],
        {},
        2**64,
        str(2**64),
        10**30,
    ],
)
def test_any_other_history_id_is_none(value: Any) -> None:
    """Not guessed at: a wrong history id would make a client skip changes."""
    assert reason(wrapped({**GMAIL, "historyId": value})) == "no historyId"


@pytest.mark.parametrize("number", [b"1e400", b"NaN", b"Infinity", b"-0.0", b"1" + b"0" * 5000])
def test_numbers_that_python_alone_would_read_are_no_history_id(number: bytes) -> None:
    """`NaN` and `Infinity` are no JSON; a number of 5,000 digits is not even an integer to Python."""
    assert reason(wrapped(b'{"emailAddress":"a@b.c","historyId":%s}' % number)) in (
        "no historyId",
        "data is not JSON",
    )


@pytest.mark.parametrize(
    ("address", "topic"),
    [
        ("Ann@EXAMPLE.com", "gmail:ann@example.com"),
        ("o'neill+tag@example.com", "gmail:o'neill+tag@example.com"),
        ("a" * 302 + "@example.com", "gmail:" + "a" * 302 + "@example.com"),
    ],
)
def test_an_address_keeps_its_form_and_its_topic_is_lower_case(address: str, topic: str) -> None:
    """Capitals and apostrophes are legal in a mailbox's name."""
    note = read(wrapped({**GMAIL, "emailAddress": address}))
    assert (note.email_address, note.topic) == (address, topic)


@pytest.mark.parametrize(
    "address",
    ["a,b@c.d", "a@b.c\n", "a@b.c\r\nid: 1", "a" * 400, "ä@b.c", "\u212a@b.c", "a b@c.d", "\ud800@b.c", "\0"],
)
def test_an_address_that_cannot_be_a_topic_is_refused(address: str) -> None:
    """Nobody could follow it, and it may be an attempt to break a frame."""
    assert reason(wrapped({**GMAIL, "emailAddress": address})) == "emailAddress cannot be a topic"


@pytest.mark.parametrize("address", [..., "", None, 7, ["a@b.c"]])
def test_a_push_without_an_address_is_refused(address: Any) -> None:
    """There is nobody to tell."""
    data = {"historyId": 1} if address is ... else {"historyId": 1, "emailAddress": address}
    assert reason(wrapped(data)) == "no emailAddress"


@pytest.mark.parametrize(
    "moment",
    [
        ...,
        None,
        "",
        1795426696,
        "now",
        "2026-11-23",
        "2026-11-23T13:59:59",
        "2026-11-23T13:59:59Z\r\nid: 1",
        "\u2028",
    ],
)
def test_a_publish_time_that_is_none_is_replaced_by_the_time_of_receipt(moment: Any) -> None:
    """It is no reason to lose an event, and what is not RFC 3339 must not reach a client."""
    assert read(wrapped(publishTime=moment)).published_at == "2026-11-23T14:00:00.123Z"


@pytest.mark.parametrize(
    "moment", ["2026-11-23T13:59:59Z", "2026-11-23T13:59:59.123456789Z", "2026-11-23T13:59:59+05:30"]
)
def test_a_publish_time_is_passed_on_as_it_came(moment: str) -> None:
    """RFC 3339 in any of its forms."""
    assert read(wrapped(publishTime=moment)).published_at == moment


@pytest.mark.parametrize("value", [..., None, "", 7, "a\r\nb", "a\u2028b", "a\0b", "ä", "m" * 257, ["m"]])
def test_a_message_without_a_usable_id_is_refused(value: Any) -> None:
    """Without one a redelivery could not be recognised; 256 printable ASCII characters are the most."""
    assert reason(wrapped(messageId=value)) == "no messageId"


@pytest.mark.parametrize("value", [..., None, "", 7, "s\n", "s" * 257])
def test_a_push_without_a_subscription_is_refused(value: Any) -> None:
    """It is half of what makes a message known again."""
    assert reason(wrapped(subscription=value)) == "no subscription"


@pytest.mark.parametrize("missing", ["subscription_name", "message_id"])
def test_an_unwrapped_push_with_an_empty_header_is_refused(missing: str) -> None:
    """The same rules hold for the headers."""
    body = json.dumps(GMAIL).encode()
    expected = "no subscription" if missing == "subscription_name" else "no messageId"
    assert reason(body, unwrapped_headers(**{missing: ""})) == expected


def test_an_unwrapped_push_is_not_decoded_as_base64() -> None:
    """Its body is the data itself."""
    assert reason(encoded(GMAIL).encode(), unwrapped_headers()) == "data is not JSON"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "body is not JSON"),
        (b"   ", "body is not JSON"),
        (b"hello", "body is not JSON"),
        (b'{"message":', "body is not JSON"),
        (b"\xff\xfe\xfd", "body is not JSON"),
        (b'{"message":"\xff"}', "body is not JSON"),
        (b"[" * 100_000, "body is nested too deeply"),
        (b'{"a":' * 50_000, "body is nested too deeply"),
        (b"1" * 5000, "body is not JSON"),
        (b"[]", "body is not a JSON object"),
        (b'["message"]', "body is not a JSON object"),
        (b"null", "body is not a JSON object"),
        (b'"text"', "body is not a JSON object"),
        (b"7", "body is not a JSON object"),
        (b"{}", "no message"),
        (b'{"message":null}', "no message"),
        (b'{"message":[]}', "no message"),
        (b'{"message":"text"}', "no message"),
    ],
)
def test_a_body_that_is_no_push_is_refused_with_its_reason(body: bytes, text: str) -> None:
    """Each reason is stable text without anything of the body in it."""
    assert reason(body) == text


@pytest.mark.parametrize("value", [..., None, "", 7, {}])
def test_a_message_without_data_is_refused(value: Any) -> None:
    """An attributes-only message is legal Pub/Sub, but not from Gmail."""
    assert reason(wrapped(data=value)) == "no data"


@pytest.mark.parametrize("value", ["?", "e30\n", "e 30", "e30=e30=", "a", "abcde", "éé", "e30%3D", "\ud800"])
def test_data_that_is_no_base64_is_refused(value: str) -> None:
    """Strictly: a decoder that skips what it does not know would read something else than was sent."""
    assert reason(wrapped(data=value)) == "bad base64"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "no data"),
        (b"\xff\xfe", "data is not JSON"),
        (b"hello", "data is not JSON"),
        (b"[" * 100_000, "data is nested too deeply"),
        (b"[]", "data is not a JSON object"),
        (b"7", "data is not a JSON object"),
    ],
)
def test_data_that_is_no_json_object_is_refused(data: bytes, text: str) -> None:
    """Broken inside is as broken as broken outside."""
    assert reason(wrapped(data)) == text


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_parse_or_be_refused(body: bytes) -> None:
    """Whatever stands in a body: no other error leaves this module."""
    for headers in ({}, unwrapped_headers()):
        with pytest.raises(UnreadablePushError):
            read(body, headers)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_no_value_in_any_place_does_anything_but_parse_or_be_refused(value: Any) -> None:
    """Any JSON in the place of any member."""
    places = [wrapped({**GMAIL, name: value}) for name in GMAIL]
    places += [wrapped(**{name: value}) for name in ("data", "messageId", "publishTime", "subscription")]
    for body in [*places, json.dumps(value).encode(), json.dumps({"message": value}).encode()]:
        try:
            note = read(body)
        except UnreadablePushError:
            continue
        assert note.topic.startswith("gmail:")
        assert note.history_id.isdecimal()


def test_moments_are_written_in_utc_with_milliseconds() -> None:
    """Whatever zone they were in."""
    assert rfc3339(NOW) == "2026-11-23T14:00:00.123Z"
    assert rfc3339(NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))) == "2026-11-23T14:00:00.123Z"


@pytest.mark.parametrize(
    ("attributes", "key"),
    [
        ({"ce-priority": "low", "ce-key": "unread"}, "unread"),
        ({"ce-priority": "low"}, None),
        ({"ce-priority": "low", "ce-key": ""}, None),
        ({"ce-priority": "low", "ce-key": "a\nb"}, None),
        ({"ce-priority": "LOW", "ce-key": "unread"}, None),
        ({"ce-key": "unread"}, None),
        ("no object", None),
    ],
)
def test_a_message_of_low_priority_names_the_key_whose_newest_state_counts(attributes: Any, key: str | None) -> None:
    """Marked in any other way it is a message like all others: none may be lost for a word nobody understands."""
    assert read(wrapped(attributes=attributes)).low_key == key
    if isinstance(attributes, dict):
        headers = unwrapped_headers() | attributes
        assert read(json.dumps(GMAIL).encode(), headers).low_key == key
