"""What can go wrong when a peer is called, sorted by whose fault it is.

PeerError
├── PeerUnavailableError   no answer now; trying again later may help
│   └── PeerClockSkewError its clock and ours differ too much
├── PeerRefusedError       the answer is no; trying again alone changes nothing
└── PeerMisbehavedError    an answer that SPEC.md forbids; the bytes are kept
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hashlight_protocol import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator


class PeerError(Exception):
    """A call to a peer did not give what it should; only subclasses are raised.

    Attributes:
        peer: Name of the peer, or its address while the name is not known.
    """

    def __init__(self, peer: str, message: str) -> None:
        super().__init__(message)
        self.peer = peer


class PeerUnavailableError(PeerError):
    """The peer could not be reached, was too slow, or is busy.

    Attributes:
        reason: What happened, without anything the peer wrote.
        retry_after_seconds: How long the peer asked us to wait, if it did.
    """

    def __init__(
        self, peer: str, reason: str, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(peer, f"peer {peer} is unavailable: {reason}")
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


class PeerClockSkewError(PeerUnavailableError):
    """The peer takes no signature of ours, because its clock shows another time.

    Attributes:
        offset_seconds: How far its clock is ahead of ours, as it says; negative if it
            is behind.
    """

    def __init__(self, peer: str, offset_seconds: int) -> None:
        where = "ahead of" if offset_seconds >= 0 else "behind"
        reason = f"its clock is {abs(offset_seconds)} s {where} ours"
        super().__init__(peer, reason)
        self.offset_seconds = offset_seconds


class PeerRefusedError(PeerError):
    """The peer understood the request and will not grant it.

    Attributes:
        status: HTTP status.
        code: Name of its problem type without `hsf:`, or what else is known.
    """

    def __init__(self, peer: str, status: int, code: str) -> None:
        super().__init__(peer, f"peer {peer} refuses: {code} (status {status})")
        self.status = status
        self.code = code


class PeerMisbehavedError(PeerError):
    """What the peer sent breaks a rule of SPEC.md.

    Attributes:
        what: What was asked for, and where it belongs.
        cause: The rule that is broken.
        evidence: The bytes that show it.
    """

    def __init__(
        self, peer: str, what: str, cause: ProtocolError, evidence: bytes
    ) -> None:
        super().__init__(peer, f"peer {peer} misbehaves: {what}: {cause}")
        self.what = what
        self.cause = cause
        self.evidence = evidence

    @property
    def code(self) -> str:
        """Name of the broken rule in SPEC.md#errors."""
        return self.cause.code


@contextmanager
def blaming(peer: str, what: str, evidence: bytes) -> Iterator[None]:
    """Turn what is wrong with these bytes into the peer's fault.

    Args:
        peer: Who sent them.
        what: What was asked for, and where it belongs.
        evidence: The bytes.

    Raises:
        PeerMisbehavedError: A `ProtocolError` was raised inside.
    """
    try:
        yield
    except ProtocolError as error:
        raise PeerMisbehavedError(peer, what, error, evidence) from error


def digest_of(raw: bytes) -> bytes:
    """Describe bytes that evidence must not keep, because they hold record bodies."""
    digest = hashlib.sha256(raw).hexdigest()
    return f"{len(raw)} bytes, SHA-256 {digest}\n".encode()
