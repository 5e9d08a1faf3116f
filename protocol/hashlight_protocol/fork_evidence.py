"""Evidence of a fork: two checkpoints of one log of which only one can be true.

It accuses by itself: whoever has the log's public key can check it, without a network
and without trusting whoever sent it. Nobody but a holder of the log's key can make it.

Source: SPEC.md#fork-evidence.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from hashlight_protocol._objects import JsonObject, encode_json
from hashlight_protocol._text import encode_base64, parse_base64, parse_hash
from hashlight_protocol.checkpoint import (
    Checkpoint,
    open_checkpoint,
    parse_checkpoint,
)
from hashlight_protocol.errors import MalformedError, NoForkError
from hashlight_protocol.keys import VerifierKey
from hashlight_protocol.notes import parse_note
from hashlight_protocol.proofs import MAX_PROOF_HASHES, verify_consistency

MAX_EVIDENCE_BYTES = 352 * 1024
"""Largest evidence: two notes in base64 and a proof. Source: SPEC.md#limits."""

_WHAT = "fork evidence"


@dataclass(frozen=True, slots=True)
class ForkEvidence:
    """Two checkpoints of one log, and why they contradict; nothing of it is verified.

    Attributes:
        older: Note of the checkpoint that is not larger than the other.
        newer: Note of the other one.
        prefix_root: Root that the newer tree has over the leaves of the older one, 32
            bytes; the newer root itself if the sizes are equal.
        proof: Consistency proof from `prefix_root` to the newer root, at most 63
            hashes; none if the sizes are equal.

    Source: SPEC.md#fork-evidence.
    """

    older: bytes
    newer: bytes
    prefix_root: bytes
    proof: tuple[bytes, ...] = ()

    @property
    def origin(self) -> str:
        """The log that the evidence claims to be about, to choose its keys."""
        return _checkpoints_of(self)[0].origin


def encode_fork_evidence(evidence: ForkEvidence) -> bytes:
    """Write evidence, as it is sent and as it is kept in a file.

    Raises:
        MalformedError: A value cannot stand in evidence.
        TooLargeError: A part exceeds its limit.

    Source: SPEC.md#fork-evidence.
    """
    raw = encode_json(
        {
            "older": encode_base64(evidence.older),
            "newer": encode_base64(evidence.newer),
            "prefix_root": encode_base64(evidence.prefix_root),
            "proof": [encode_base64(sibling) for sibling in evidence.proof],
        }
    )
    # Whatever can be read comes back as it was; the rest is refused here.
    parse_fork_evidence(raw)
    return raw


def parse_fork_evidence(raw: bytes) -> ForkEvidence:
    """Read evidence; nothing is verified.

    Raises:
        MalformedError: The bytes are not two checkpoints of one log, the smaller one
            first, with a proof.
        TooLargeError: A part exceeds its limit.

    Source: SPEC.md#fork-evidence.
    """
    document = JsonObject.parse(raw, _WHAT, max_bytes=MAX_EVIDENCE_BYTES)
    evidence = ForkEvidence(
        parse_base64(document.string("older"), _WHAT),
        parse_base64(document.string("newer"), _WHAT),
        parse_hash(document.string("prefix_root"), _WHAT),
        tuple(
            parse_hash(sibling, _WHAT)
            for sibling in document.strings("proof", most=MAX_PROOF_HASHES)
        ),
    )
    _checkpoints_of(evidence)
    return evidence


def _checkpoints_of(evidence: ForkEvidence) -> tuple[Checkpoint, Checkpoint]:
    older = parse_checkpoint(parse_note(evidence.older).text)
    newer = parse_checkpoint(parse_note(evidence.newer).text)
    if older.origin != newer.origin:
        raise MalformedError(_WHAT, "the checkpoints are of two logs")
    if older.tree_size > newer.tree_size:
        raise MalformedError(_WHAT, "the larger checkpoint comes first")
    return older, newer


def verify_fork(evidence: ForkEvidence, log_keys: Iterable[VerifierKey]) -> None:
    """Check that a log signed two checkpoints that cannot both be true.

    Args:
        evidence: The evidence.
        log_keys: Keys that the log has or had. Only those of type `ED25519` whose name
            is the origin count.

    Raises:
        MalformedError: The notes are not two checkpoints of one log, the smaller one
            first.
        TooLargeError: A note exceeds a limit.
        BadSignatureError: A signature by a key of the log does not hold.
        UnknownKeyError: One of the two is not signed by a key of the log.
        BadProofError: `prefix_root` is not shown to be part of the newer tree.
        NoForkError: The newer tree extends the older one: the log did nothing wrong.

    Source: SPEC.md#fork-evidence.
    """
    older, newer = _checkpoints_of(evidence)
    keys = tuple(log_keys)
    for note in (evidence.older, evidence.newer):
        open_checkpoint(note, keys, origin=older.origin)
    verify_consistency(
        evidence.proof,
        old_size=older.tree_size,
        old_root=evidence.prefix_root,
        new_size=newer.tree_size,
        new_root=newer.root_hash,
    )
    if evidence.prefix_root == older.root_hash:
        raise NoForkError(older.origin, older.tree_size, newer.tree_size)
