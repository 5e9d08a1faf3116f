"""Canonical URLs and domains: equal text if, and only if, we call them the same.

Deliberately less than a browser does. Only what RFC 3986, sections 6.2.2.1 and 6.2.3,
calls equivalent for every server is made equal: letter case where it has no meaning,
the default port, the missing path. Dot segments, unreserved escapes and repeated
slashes stay, because servers tell them apart and a wrong merge would blame a page that
nobody reported.

Source: SPEC.md#signal-types.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

MAX_URL_CHARACTERS: Final = 2048
MAX_DOMAIN_CHARACTERS: Final = 253

_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_URL: Final = re.compile(
    r"(https?)://([^/?#]*)([^?#]*)(\?[^#]*)?(?:#.*)?", re.IGNORECASE | re.ASCII
)
_VISIBLE: Final = re.compile(r"[!-~]+")
_HOST_AND_PORT: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@]+)(?::([0-9]{0,5}))?")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_MAX_PORT: Final = 65_535
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_ESCAPE: Final = re.compile(r"%[0-9a-fA-F]{2}")


def canonical_domain(text: str) -> str | None:
    """Give the canonical form of a DNS name, or None if it is none.

    Lower case, no final dot, two labels or more, the last not a number (which would
    be an IPv4 address). Names in other scripts come as `xn--` labels.

    Source: RFC 1035, section 2.3.1; SPEC.md#signal-types.
    """
    # Asked first: the lower case of some other characters is an ASCII letter.
    if not text.isascii():
        return None
    name = text.lower().removesuffix(".")
    if len(name) > MAX_DOMAIN_CHARACTERS:
        return None
    labels = name.split(".")
    if len(labels) == 1 or labels[-1].isdigit():
        return None
    return name if all(map(_LABEL.fullmatch, labels)) else None


def canonical_url(text: str) -> str | None:
    """Give the canonical form of an absolute http or https URL, or None.

    Source: RFC 3986, sections 6.2.2.1 and 6.2.3; SPEC.md#signal-types.
    """
    if len(text) > MAX_URL_CHARACTERS or _VISIBLE.fullmatch(text) is None:
        return None
    parts = _URL.fullmatch(text)
    if parts is None:
        return None
    scheme = parts[1].lower()
    authority = _canonical_authority(parts[2], _DEFAULT_PORTS[scheme])
    if authority is None:
        return None
    rest = (parts[3] or "/") + (parts[4] or "")
    rest = _ESCAPE.sub(lambda escape: escape[0].upper(), rest)
    url = f"{scheme}://{authority}{rest}"
    return url if len(url) <= MAX_URL_CHARACTERS else None


def _canonical_authority(authority: str, default_port: str) -> str | None:
    parts = _HOST_AND_PORT.fullmatch(authority)
    if parts is None:
        return None
    host, port = _canonical_host(parts[1]), parts[2] or default_port
    if host is None or _PORT.fullmatch(port) is None or int(port) > _MAX_PORT:
        return None
    return host if port == default_port else f"{host}:{port}"


def _canonical_host(host: str) -> str | None:
    try:
        if not host.startswith("["):
            return canonical_domain(host) or str(IPv4Address(host))
        address = IPv6Address(host[1:-1])
    except AddressValueError:
        return None
    # Python 3.13 changed how it writes mapped addresses, and nobody serves from one.
    return None if address.ipv4_mapped else f"[{address}]"
