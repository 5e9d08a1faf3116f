"""Which IP addresses this node calls, whatever way they are written.

Some IPv6 addresses stand for an IPv4 address, and a gateway or the kernel sends what
goes there to that one. They are judged as the address that is reached in the end.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

_LOW_32: Final = 0xFFFFFFFF

_EMBEDDING: Final = (
    # Network, and how far the IPv4 address stands from the right.
    (IPv6Network("::ffff:0:0/96"), 0),  # mapped; RFC 4291, section 2.5.5.2
    (IPv6Network("::/96"), 0),  # compatible; RFC 4291, section 2.5.5.1
    (IPv6Network("::ffff:0:0:0/96"), 0),  # translated; RFC 2765, section 2.1
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64; RFC 6052, section 2.1
    (IPv6Network("2002::/16"), 80),  # 6to4; RFC 3056, section 2
)

_NEVER_GLOBAL: Final = (
    IPv6Network("64:ff9b:1::/48"),  # NAT64 for local use; RFC 8215
    IPv6Network("2001::/32"),  # Teredo; RFC 4380: what it leads to is hidden in it
    IPv6Network("fec0::/10"),  # site-local; RFC 3879
)
"""What Python's tables have called global, depending on its version."""


def is_allowed(text: str, *, allow_loopback: bool, allow_private: bool) -> bool:
    """Tell whether an address may be called.

    Args:
        text: As a resolver gave it, perhaps with a zone.
        allow_loopback: Whether this machine may be called.
        allow_private: Whether addresses that are not globally routable may be.

    Source: SPEC.md#transport.
    """
    address = _reached(ip_address(text.partition("%")[0]))
    if address.is_loopback:
        return allow_loopback
    if address.is_multicast or address.is_unspecified:
        return False
    return allow_private or _is_global(address)


def _is_global(address: IPv4Address | IPv6Address) -> bool:
    is_misnamed = isinstance(address, IPv6Address) and any(
        address in network for network in _NEVER_GLOBAL
    )
    return address.is_global and not is_misnamed


def _reached(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    # ::1 and :: are addresses of their own in the network of the compatible ones.
    if isinstance(address, IPv4Address) or address.is_loopback or int(address) == 0:
        return address
    for network, shift in _EMBEDDING:
        if address in network:
            return IPv4Address(int(address) >> shift & _LOW_32)
    return address
