"""The address that a request counts as."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.source_ip import source_ip

PROXIES = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, 10.0.0.9"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1, 10.0.0.9"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.8, 10.0.0.9"], "10.0.0.8"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1:5123"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, [2001:db8:1:2::9]:5123"], "2001:db8:1:2::/64"),
        ("10.0.0.1", ["6.6.6.6, [2001:db8:1:2::9]"], "2001:db8:1:2::/64"),
        ("10.0.0.1", ["6.6.6.6, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6, "], "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6, 10.0.0.2, _hidden"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("fd00::1", ["198.51.100.1"], "198.51.100.1"),
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", [], "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", [], "203.0.113.7"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        (None, [], "unknown"),
        ("", ["198.51.100.1"], "unknown"),
        ("testclient", ["198.51.100.1"], "unknown"),
    ],
)
def test_a_hop_is_believed_only_if_one_of_our_proxies_reports_it(
    peer: str | None, forwarded: list[str], address: str
) -> None:
    """From right to left: what stands left of the first stranger anybody may have written."""
    assert source_ip(peer, forwarded, PROXIES) == address


@pytest.mark.parametrize("peer", ["10.0.0.1", "203.0.113.7"])
def test_without_proxies_nobody_is_believed(peer: str) -> None:
    """The default."""
    assert source_ip(peer, ["198.51.100.1"], []) == peer


@given(st.text() | st.none(), st.lists(st.text(), max_size=5))
def test_no_text_does_any_harm(peer: str | None, forwarded: list[str]) -> None:
    """An address comes out, or the word for none."""
    assert source_ip(peer, forwarded, PROXIES)
    assert source_ip("10.0.0.1", forwarded, PROXIES)
