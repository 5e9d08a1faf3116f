"""Signs of life: the owner of a log says when it still was at a checkpoint.

A checkpoint has no time, and a relay can show an old one for ever and sign it anew each
time. So the owner cosigns its newest checkpoint with its own witness key, now and then
again, and whoever passes the checkpoint on keeps that line. Nobody else can make one:
a copy is as fresh as the newest sign of life on it, whoever it comes from.

Source: SPEC.md#signs-of-life.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hashlight_node.exchange.logs.cosigning import note_cosigned_by
from hashlight_node.keys import signers_of
from hashlight_protocol import (
    Note,
    ProtocolError,
    append_signatures,
    cosign,
    encode_note,
    parse_note,
    verify_cosignature,
)

if TYPE_CHECKING:
    from hashlight_node.model import Clock
    from hashlight_protocol import SignedCheckpoint, Signer, VerifierKey

RENEW_SECONDS: Final = 1_800
"""Age at which a sign is made anew. Between two of them a checkpoint keeps its name
for those who wait for another one."""

_AHEAD_SECONDS: Final = 300
"""How far the owner's clock may be ahead of ours."""


class SignsOfLife:
    """Makes signs of life for our own logs.

    Args:
        signer: Our witness key.
        clock: Unix seconds.
    """

    def __init__(self, *, signer: Signer, clock: Clock) -> None:
        self._signer = signer
        self._clock = clock
        self._made: dict[str, tuple[bytes, int, bytes]] = {}

    def add(self, origin: str, note: bytes) -> bytes:
        """Add one to a log's newest checkpoint.

        Args:
            origin: One of our logs.
            note: Its newest checkpoint, read a moment ago, whoever signed it besides.
        """
        now = self._clock()
        text, _, _ = note.rpartition(b"\n\n")
        made_for, made_at, lines = self._made.get(origin, (b"", 0, b""))
        if made_for != text or not 0 <= now - made_at < RENEW_SECONDS:
            keys = signers_of(self._signer)
            lines = b"".join(cosign(note, one, now=now) for one in keys)
            self._made[origin] = (text, now, lines)
        return append_signatures(note, lines)


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """A sign that was verified.

    Attributes:
        note: The checkpoint with the log's signatures and this one.
        at: When the owner made it, Unix seconds; not after our own time.
    """

    note: bytes
    at: int


def read_sign(
    signed: SignedCheckpoint, bare: bytes, key: VerifierKey, *, now: int
) -> SignOfLife | None:
    """Find and verify the owner's sign of life on a checkpoint.

    Args:
        signed: The checkpoint as it came.
        bare: The same with the log's own signatures only.
        key: The owner's witness key.
        now: Our own time, Unix seconds.

    Returns:
        None if there is none that holds: it is no proof of anything then.
    """
    try:
        note = note_cosigned_by(bare, signed.opened.note.signatures, key)
        at = verify_cosignature(note, key)
    except ProtocolError:
        return None
    return None if at > now + _AHEAD_SECONDS else SignOfLife(note, min(at, now))


def sign_time(note: bytes, key: VerifierKey) -> int:
    """Read the time of the sign on a note of ours; 0 if it has none."""
    parsed = parse_note(note)
    kept = tuple(
        one
        for one in parsed.signatures
        if (one.name, one.key_id) == (key.name, key.key_id)
    )
    if not kept:
        return 0
    return verify_cosignature(encode_note(Note(parsed.text, kept)), key)
