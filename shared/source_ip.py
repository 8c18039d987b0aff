"""Whose address a request comes from, for limits by address."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

#: What a request without an address counts as.
UNKNOWN = "unknown"
_IPV6_PREFIX = 64

Network = IPv4Network | IPv6Network


def source_ip(peer: str | None, forwarded: Sequence[str], proxies: Sequence[Network]) -> str:
    """Return the address that a request counts as.

    ``peer`` is who has connected to us, or what Lambda says of it. ``forwarded`` are the values of
    ``X-Forwarded-For``, which anybody can write: from right to left, each is believed only if the hop that has
    reported it is one of our ``proxies``. An IPv6 address counts as its /64 network: that is what one customer has.
    """
    address = _address(peer or "")
    hops = [part.strip() for value in forwarded for part in value.split(",")]
    while address is not None and hops and any(address in proxy for proxy in proxies):
        reported = _address(hops.pop())
        if reported is None:
            break  # who wrote what stands left of it is not known
        address = reported
    if address is None:
        return UNKNOWN
    return str(ip_network((address, _IPV6_PREFIX), strict=False)) if address.version == 6 else str(address)  # noqa: PLR2004


def _address(text: str) -> IPv4Address | IPv6Address | None:
    # Some proxies write a port as well.
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # A socket that takes both kinds shows an IPv4 client so.
    return getattr(address, "ipv4_mapped", None) or address
