"""What we state about a copy when it is complete, and how fresh it is.

Source: SPEC.md#acknowledgements and SPEC.md#signs-of-life.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hashlight_node.exchange.following.descriptors import descriptor_of
from hashlight_node.exchange.logs.cosigning import bare_note
from hashlight_node.keys import signers_of
from hashlight_node.store import logs, staleness
from hashlight_protocol import append_signatures, cosign

from .freshness import DEFAULT_FRESHNESS
from .life import read_sign, sign_time

if TYPE_CHECKING:
    from hashlight_node.model import Log
    from hashlight_node.store.database import Connection
    from hashlight_protocol import SignedCheckpoint, Signer, VerifierKey

    from .freshness import FreshnessRules
    from .life import SignOfLife
    from .sources import Source

_SILENT_SECONDS: Final = 3 * 3600
"""Owners renew their signs once an hour at least."""


@dataclass(frozen=True, slots=True)
class Seal:
    """A complete copy, signed.

    Attributes:
        mirrored: The checkpoint with the log's signatures, the owner's sign of life if
            there is one, and our mirror cosignature.
        doubt: What an operator should know; None if there is nothing.
    """

    mirrored: bytes
    doubt: str | None
    _source: Source
    _key: VerifierKey | None
    _sign: SignOfLife | None
    _now: int
    _serve_until_seconds: int

    def is_newer_than(self, mirrored: bytes | None) -> bool:
        """Tell whether the owner was at this checkpoint later than we have signed."""
        if self._sign is None or self._key is None:
            return False
        return mirrored is None or sign_time(mirrored, self._key) < self._sign.at

    def save_freshness(self, conn: Connection, log: Log, before: int | None) -> Log:
        """Note how fresh a copy is: as fresh as the last sign of life of its owner.

        That the owner itself gives it to us is one. That a relay does is none: a copy
        that is stale gets new entries of it and matches no more than before, until the
        owner's sign is young enough.

        Args:
            conn: In the write transaction that makes the checkpoint ours.
            log: The copy.
            before: How fresh the copy was, Unix seconds; None if that is not known.
        """
        if not self._source.is_relayed:
            staleness.end_doubts(conn, log.log_id)
            return logs.set_verified_at(conn, log, self._now)
        at = before
        if self._sign is not None:
            at = max(self._sign.at, before or 0)
            if self._now - self._sign.at <= self._serve_until_seconds:
                staleness.end_doubts(conn, log.log_id)
        return logs.set_verified_at(conn, log, at)


def seal_copy(
    source: Source,
    signed: SignedCheckpoint,
    mirror: Signer,
    *,
    now: int,
    rules: FreshnessRules = DEFAULT_FRESHNESS,
) -> Seal:
    """State with our mirror key that we have all that a checkpoint commits to.

    Args:
        source: Where the copy comes from.
        signed: The checkpoint as it came.
        mirror: Our mirror key.
        now: Unix seconds.
        rules: How old a sign may be of a copy that matches.
    """
    note = bare_note(signed)
    key = descriptor_of(source.owner).witness if source.owner.descriptor else None
    sign = None if key is None else read_sign(signed, note, key, now=now)
    if sign is not None:
        note = sign.note
    lines = b"".join(cosign(note, one, now=now) for one in signers_of(mirror))
    mirrored = append_signatures(note, lines)
    doubt = _doubt(source, sign, now)
    return Seal(mirrored, doubt, source, key, sign, now, rules.serve_until_seconds)


def _doubt(source: Source, sign: SignOfLife | None, now: int) -> str | None:
    if not source.is_relayed:
        return None
    relay, owner = source.asked.name, source.owner.name
    if sign is None:
        return (
            f"{relay} brings no sign of life of {owner}: nobody knows how old this is"
        )
    silent_seconds = now - sign.at
    if silent_seconds < _SILENT_SECONDS:
        return None
    return f"{relay} brought no sign of life of {owner} for {silent_seconds} s"
