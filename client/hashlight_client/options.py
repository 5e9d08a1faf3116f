"""How a client goes about its work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypedDict

if TYPE_CHECKING:
    import ssl

    from .retrying import Retries

DEFAULT_BASE: Final = "http://127.0.0.1:8441"
"""Where a node's local listener is unless its operator moved it."""


class Options(TypedDict, total=False):
    """How a client goes about its work; everything has a default.

    Attributes:
        timeout_seconds: Bound on one attempt of a request, 30 by default; of answers
            that stream, on each silence.
        retries: When requests are repeated.
        batch_seconds: If given, `lookup` calls that come within this time of each
            other are sent together; 0.001 suits most services.
        connections: Most requests at the same time, 20 by default.
        tls: For an `https` base with a private certificate authority.
    """

    timeout_seconds: float
    retries: Retries
    batch_seconds: float
    connections: int
    tls: ssl.SSLContext
