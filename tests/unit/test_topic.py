"""Topics: what may be followed, and how a mailbox becomes one."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BadTopicError, TooManyTopicsError
from shared.topic import MAX_TOPICS_PER_REQUEST, check_topic, check_topics, gmail_topic

ALLOWED = string.ascii_letters + string.digits + ":@._+-/'"
topics = st.text(ALLOWED, min_size=1, max_size=320)


@given(topics)
def test_every_text_of_the_allowed_characters_is_a_topic(topic: str) -> None:
    """1-320 of A-Z a-z 0-9 : @ . _ + - / ' pass unchanged, case included."""
    assert check_topic(topic) == topic


@given(topics, st.characters().filter(lambda character: character not in ALLOWED), st.integers(0, 320))
def test_one_other_character_anywhere_spoils_a_topic(topic: str, other: str, place: int) -> None:
    """Topics stand in channel names, SSE lines and log lines: no comma, space, control character or Unicode."""
    with pytest.raises(BadTopicError):
        check_topic((topic[:place] + other + topic[place:])[:320] if place < 320 else other)


@pytest.mark.parametrize("topic", ["", "a" * 321, "gmail:a@b.c\n", "gmail:a,b", "gmail:*", "a\0", "a b", "ä"])
def test_an_empty_long_or_dirty_topic_is_refused(topic: str) -> None:
    """A trailing line end counts as dirty too."""
    with pytest.raises(BadTopicError):
        check_topic(topic)


def test_the_longest_topic_has_320_characters() -> None:
    """320 is allowed, and no length is cut."""
    assert check_topic("a" * 320) == "a" * 320


@given(st.lists(topics, max_size=MAX_TOPICS_PER_REQUEST))
def test_topics_of_a_request_are_distinct_and_keep_their_order(asked: list[str]) -> None:
    """A topic that is named twice is followed once, where it was first named."""
    found = check_topics(asked)
    assert len(set(found)) == len(found)
    assert set(found) == set(asked)
    assert list(found) == sorted(found, key=asked.index)


def test_fifty_topics_are_the_most() -> None:
    """Distinct ones are counted: the same topic sixty times is one."""
    many = [f"t{number}" for number in range(MAX_TOPICS_PER_REQUEST)]
    assert len(check_topics(many)) == 50
    assert check_topics(["t"] * 60) == ("t",)
    with pytest.raises(TooManyTopicsError):
        check_topics([*many, "one-more"])


@pytest.mark.parametrize(
    ("address", "topic"),
    [
        ("ann@example.com", "gmail:ann@example.com"),
        ("Ann.O'Neill+Tag@EXAMPLE.Com", "gmail:ann.o'neill+tag@example.com"),
        ("a_b-c@d.e", "gmail:a_b-c@d.e"),
    ],
)
def test_a_mailbox_is_followed_under_its_lower_case_address(address: str, topic: str) -> None:
    """Gmail's own case differs between watch and push; a topic has one."""
    assert gmail_topic(address) == topic


@pytest.mark.parametrize("address", ["a,b@c.d", "a b@c.d", "a@b.c\n", "ä@b.c", '"a"@b.c', "a" * 315, "a*@b.c"])
def test_an_address_that_cannot_be_a_topic_is_refused(address: str) -> None:
    """Better parked than stored under a name that nobody can ask for."""
    with pytest.raises(BadTopicError):
        gmail_topic(address)


@pytest.mark.parametrize("address", ["\u212aate@b.c", "\u0130@b.c"])
def test_letters_that_only_become_ascii_in_lower_case_are_refused(address: str) -> None:
    """The Kelvin sign's lower case is "k": taken, it would put one person's mail into another's topic."""
    with pytest.raises(BadTopicError):
        gmail_topic(address)
