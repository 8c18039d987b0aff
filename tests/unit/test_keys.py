"""Names of keys and channels in Redis."""

from __future__ import annotations

from fnmatch import fnmatchcase

from hypothesis import given
from hypothesis import strategies as st

from shared.keys import Keys

PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=60)


def all_names(keys: Keys, topic: str = "gmail:a@b.c") -> set[str]:
    return {
        keys.clock,
        keys.born,
        keys.parked,
        keys.probe,
        keys.log(topic),
        keys.last(topic),
        keys.seen("projects/p/subscriptions/s", "1"),
        keys.ack("user", "client"),
        keys.slots("user"),
        keys.taken_away,
        keys.live(topic),
    }


def test_everything_of_a_stage_stands_under_its_prefix() -> None:
    """Stages may share a database, so no name of one is a name of another."""
    names = all_names(Keys("dev"))
    assert len(names) == 11
    assert all(name.startswith("tidemark:dev:") for name in names)
    assert names.isdisjoint(all_names(Keys("dev2")))


def test_a_stage_that_begins_like_another_does_not_hear_its_channels() -> None:
    """The live pattern is the prefix and a star: ``dev`` must not match ``dev2`` or ``dev-x``."""
    assert not Keys("dev2").live("t").startswith(Keys("dev").live_prefix)
    assert not Keys("dev-x").live("t").startswith(Keys("dev").live_prefix)
    assert Keys("dev").live("t") == Keys("dev").live_prefix + "t"


@given(PRINTABLE, st.data())
def test_dedupe_keys_differ_when_subscription_or_message_differ(text: str, data: st.DataObject) -> None:
    """Two messages never share a key, however their parts are cut: ("a", "bc") is not ("ab", "c")."""
    one, other = (data.draw(st.integers(0, len(text))) for _ in range(2))
    keys = Keys("dev")
    same = keys.seen(text[:one], text[one:]) == keys.seen(text[:other], text[other:])
    assert same == (one == other)


def test_ids_of_people_stand_in_keys_as_hashes_only() -> None:
    """A user's id may be an address, keys appear in consoles and logs, and some outlive what they are about."""
    assert "ann@example.com" not in Keys("dev").ack("ann@example.com", "tab")
    assert "ann@example.com" not in Keys("dev").last("gmail:ann@example.com")
    assert "message-77" not in Keys("dev").seen("projects/p", "message-77")


def test_acks_of_two_users_with_one_client_name_are_apart() -> None:
    """A client is known by its user and its name."""
    keys = Keys("dev")
    assert len({keys.ack("u", "a"), keys.ack("u", "b"), keys.ack("v", "a")}) == 3


def test_the_pattern_of_a_users_acks_finds_all_of_them_and_no_others() -> None:
    """As Redis matches it: a star, and nothing else that means something, whatever the user is called."""
    keys = Keys("dev")
    pattern = keys.acks("u*[a]?")
    assert pattern.count("*") == 1
    assert not set(pattern) & set("?[]\\")
    assert fnmatchcase(keys.ack("u*[a]?", "tab"), pattern)
    assert not fnmatchcase(keys.ack("ux", "tab"), pattern)


@given(st.text(max_size=40).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text)))
def test_no_user_id_can_reach_outside_its_key(user: str) -> None:
    """Whatever an identity provider puts into ``sub`` becomes forty hexadecimal digits."""
    digest = Keys("dev").ack(user, "tab").removeprefix("tidemark:dev:ack:").removesuffix(":tab")
    assert len(digest) == 40
    assert set(digest) <= set("0123456789abcdef")
