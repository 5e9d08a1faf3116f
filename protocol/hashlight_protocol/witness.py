"""Witnessing: whether a checkpoint that a log submits may be cosigned.

The decision is a function of what was submitted and what is known. Storing the new
head and releasing the cosignature, in this order, is the caller's part.

Source: C2SP tlog-witness; SPEC.md#witnessing.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from hashlight_protocol._text import encode_base64, parse_decimal, parse_hash
from hashlight_protocol.checkpoint import (
    KnownHead,
    SignedCheckpoint,
    open_checkpoint,
    parse_checkpoint,
    unverified_origin,
)
from hashlight_protocol.errors import (
    ConflictError,
    MalformedError,
    SplitViewError,
    TooLargeError,
)
from hashlight_protocol.keys import VerifierKey
from hashlight_protocol.merkle import EMPTY_ROOT
from hashlight_protocol.notes import parse_note
from hashlight_protocol.proofs import MAX_PROOF_HASHES, verify_consistency

MAX_ADD_CHECKPOINT_BYTES = 132 * 1024
"""Largest submission: a note and a proof. Source: SPEC.md#limits."""

_OLD = b"old "
_WHAT = "add-checkpoint"


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """What a log submits; nothing of it is verified.

    Attributes:
        old_size: Size that the proof starts from.
        proof: Consistency proof, at most 63 hashes.
        note: The checkpoint's note.

    Source: C2SP tlog-witness; SPEC.md#witnessing.
    """

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes

    @property
    def origin(self) -> str:
        """The log that the checkpoint claims to be of."""
        return unverified_origin(self.note)


def encode_add_checkpoint(request: AddCheckpoint) -> bytes:
    """Write a submission.

    Raises:
        MalformedError: A value cannot stand in a submission.
        TooLargeError: A part exceeds its limit.

    Source: C2SP tlog-witness; SPEC.md#witnessing.
    """
    lines = [_OLD + str(request.old_size).encode()]
    lines.extend(encode_base64(sibling).encode() for sibling in request.proof)
    raw = b"%s\n\n%s" % (b"\n".join(lines), request.note)
    # Whatever can be read comes back as it was; the rest is refused here.
    parse_add_checkpoint(raw)
    return raw


def parse_add_checkpoint(raw: bytes) -> AddCheckpoint:
    """Read a submission; nothing is verified.

    Raises:
        MalformedError: The bytes are not a submission.
        TooLargeError: A part exceeds its limit.

    Source: C2SP tlog-witness; SPEC.md#witnessing.
    """
    if len(raw) > MAX_ADD_CHECKPOINT_BYTES:
        raise TooLargeError(_WHAT, MAX_ADD_CHECKPOINT_BYTES)
    head, separator, note = raw.partition(b"\n\n")
    old, *proof = head.split(b"\n", 1 + MAX_PROOF_HASHES)
    if not separator or not old.startswith(_OLD):
        raise MalformedError(_WHAT, "it is not an old size, a proof and a note")
    if len(proof) > MAX_PROOF_HASHES:
        raise TooLargeError("proof", MAX_PROOF_HASHES)
    old_size = parse_decimal(old[len(_OLD) :], _WHAT)
    hashes = tuple(parse_hash(line, _WHAT) for line in proof)
    parse_checkpoint(parse_note(note).text)
    return AddCheckpoint(old_size, hashes, note)


def decide_add_checkpoint(
    request: AddCheckpoint, *, known: KnownHead | None, keys: Iterable[VerifierKey]
) -> SignedCheckpoint:
    """Decide whether a submitted checkpoint extends everything that is known.

    Between reading `known` and storing the result nobody else may store a head of this
    log, or two views could both be cosigned.

    Args:
        request: The submission.
        known: Newest cosigned head of this log, None if there is none.
        keys: Trusted keys of this log.

    Returns:
        The checkpoint, to be stored and then cosigned.

    Raises:
        BadSignatureError: The signature by a key of the log does not hold.
        UnknownKeyError: No key of the log signed.
        MalformedError: The old size is larger than the checkpoint's.
        ConflictError: The old size is not the known size.
        SplitViewError: The known size is submitted with another root.
        BadProofError: The proof does not link the two.

    Source: C2SP tlog-witness; SPEC.md#witnessing.
    """
    origin = request.origin
    signed = open_checkpoint(request.note, keys, origin=origin)
    checkpoint = signed.checkpoint
    if request.old_size > checkpoint.tree_size:
        raise MalformedError(_WHAT, "the old size is larger than the new one")
    head = known or KnownHead(0, EMPTY_ROOT)
    if request.old_size != head.tree_size:
        raise ConflictError(head.tree_size)
    if signed.head.tree_size == head.tree_size and signed.head != head:
        raise SplitViewError(origin, head.tree_size)
    verify_consistency(
        request.proof,
        old_size=head.tree_size,
        old_root=head.root_hash,
        new_size=checkpoint.tree_size,
        new_root=checkpoint.root_hash,
    )
    return signed
