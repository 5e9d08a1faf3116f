"""Which addresses this node calls, and how: the outbound half of its firewall.

A peer's base URL comes from outside, and the DNS answers for it may change at any
moment. So addresses are judged where a socket is made: what is connected to is exactly
what was judged, for names and for literal addresses alike.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from aiohttp import ClientSession, DummyCookieJar, TCPConnector

from hashlight_protocol import MalformedError, is_base

from .reachable import is_allowed

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_CONNECTIONS: Final = 256
_MAX_CONNECTIONS_PER_HOST: Final = 24
_DNS_SECONDS: Final = 60


class AddressRefusedError(OSError):
    """A name leads to an address that this node does not call."""

    def __init__(self) -> None:
        super().__init__("its address is not one that this node may call")
        # What aiohttp shows of an error that it wraps.
        self.strerror = "its address is not one that this node may call"


@dataclass(frozen=True, slots=True)
class Base:
    """A peer's base URL.

    Attributes:
        url: Scheme, host, port unless it is the default, and path, without a slash at
            its end; plain http only on loopback.
        authority: Host, and port unless it is the default; what requests are signed
            over.
        path: What every path of the node begins with; mostly empty.
    """

    url: str
    authority: str
    path: str


def parse_base(url: str) -> Base:
    """Check a base URL.

    Raises:
        MalformedError: It is not a URL without a query in canonical form, or it is
            plain http to a host that is not this machine.

    Source: SPEC.md#transport.
    """
    if not is_base(url):
        raise MalformedError("base", "it is not a plain URL, https or on loopback")
    parts = urlsplit(url)
    return Base(url, parts.netloc, parts.path)


def open_session(
    *,
    allow_loopback: bool,
    allow_private: bool,
    tls: ssl.SSLContext | None = None,
) -> ClientSession:
    """Make the session that `PeerClient` uses; to be closed by the caller.

    No cookies, no proxy from the environment, no decoding behind our back, TLS 1.3.

    Args:
        allow_loopback: Whether this machine may be called: if we live on it ourselves.
        allow_private: Whether addresses that are not globally routable may be.
        tls: Trusts other certificates than the system's.
    """
    context = ssl.create_default_context() if tls is None else tls
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    connector = TCPConnector(
        ssl=context,
        limit=_MAX_CONNECTIONS,
        limit_per_host=_MAX_CONNECTIONS_PER_HOST,
        ttl_dns_cache=_DNS_SECONDS,
        socket_factory=_build_factory(
            allow_loopback=allow_loopback, allow_private=allow_private
        ),
    )
    return ClientSession(
        connector=connector,
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        headers={"User-Agent": "hashlight"},
    )


def _build_factory(
    *, allow_loopback: bool, allow_private: bool
) -> Callable[[Any], socket.socket]:
    # aiohttp's type for what it passes is private: (family, type, proto, name, address)
    def factory(info: Any) -> socket.socket:  # noqa: ANN401
        family, kind, protocol, _, target = info
        if not is_allowed(
            str(target[0]), allow_loopback=allow_loopback, allow_private=allow_private
        ):
            raise AddressRefusedError
        return socket.socket(family, kind, protocol)

    return factory
