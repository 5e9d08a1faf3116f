"""Receipts: one text file that proves a record to someone who has only a key.

Source: C2SP tlog-proof; SPEC.md#receipts.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from hashlight_protocol._text import (
    encode_base64,
    parse_base64,
    parse_decimal,
    parse_hash,
)
from hashlight_protocol.checkpoint import (
    Checkpoint,
    open_checkpoint,
    parse_checkpoint,
    unverified_origin,
)
from hashlight_protocol.commitments import MAX_BODY_BYTES, SALT_BYTES, commit
from hashlight_protocol.entries import RecordEntry, encode_entry
from hashlight_protocol.errors import MalformedError, ProtocolError, TooLargeError
from hashlight_protocol.keys import VerifierKey
from hashlight_protocol.merkle import leaf_hash
from hashlight_protocol.notes import parse_note
from hashlight_protocol.origins import parse_origin
from hashlight_protocol.proofs import MAX_PROOF_HASHES, verify_inclusion
from hashlight_protocol.records import Record, parse_record

MAX_RECEIPT_BYTES = 160 * 1024
"""Largest receipt: a note, a body and a proof. Source: SPEC.md#limits."""

_HEADER = b"c2sp.org/tlog-proof@v1"
_EXTRA = b"extra "
_INDEX = b"index "
_HEAD_LINES = 3


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a receipt says; nothing of it is verified.

    Attributes:
        leaf_index: Position of the record in its log.
        proof: Inclusion proof, at most 63 hashes, nearest to the leaf first.
        checkpoint_note: The checkpoint's note.
        salt: 16 bytes.
        body: Exact bytes of the record, 1 to 16,384.

    Source: C2SP tlog-proof; SPEC.md#receipts.
    """

    leaf_index: int
    proof: tuple[bytes, ...]
    checkpoint_note: bytes
    salt: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """A receipt that holds.

    Attributes:
        receipt: The receipt.
        checkpoint: The tree that the record is part of.
        record: What the body says, None if this version cannot read it. That does not
            make the proof weaker: the bytes were logged.
        body: Exact bytes of the record.

    Source: SPEC.md#receipts.
    """

    receipt: Receipt
    checkpoint: Checkpoint
    record: Record | None
    body: bytes


def encode_receipt(receipt: Receipt) -> bytes:
    """Write a receipt.

    Raises:
        MalformedError: A value cannot stand in a receipt.
        TooLargeError: A part exceeds its limit.

    Source: C2SP tlog-proof; SPEC.md#receipts.
    """
    extra = encode_base64(receipt.salt + receipt.body).encode()
    index = str(receipt.leaf_index).encode()
    lines = [_HEADER, _EXTRA + extra, _INDEX + index]
    lines.extend(encode_base64(sibling).encode() for sibling in receipt.proof)
    raw = b"%s\n\n%s" % (b"\n".join(lines), receipt.checkpoint_note)
    if parse_receipt(raw) != receipt:
        raise MalformedError("receipt", "it would be read as something else")
    return raw


def parse_receipt(raw: bytes) -> Receipt:
    """Read a receipt; nothing is verified.

    Raises:
        MalformedError: The bytes are not a receipt.
        TooLargeError: A part exceeds its limit.

    Source: C2SP tlog-proof; SPEC.md#receipts.
    """
    if len(raw) > MAX_RECEIPT_BYTES:
        raise TooLargeError("receipt", MAX_RECEIPT_BYTES)
    head, separator, note = raw.partition(b"\n\n")
    lines = head.split(b"\n", _HEAD_LINES + MAX_PROOF_HASHES)
    if not separator or len(lines) < _HEAD_LINES or lines[0] != _HEADER:
        raise MalformedError("receipt", "it is not a tlog-proof with extra data")
    if len(lines) > _HEAD_LINES + MAX_PROOF_HASHES:
        raise TooLargeError("proof", MAX_PROOF_HASHES)
    if not (lines[1].startswith(_EXTRA) and lines[2].startswith(_INDEX)):
        raise MalformedError("receipt", "a line for extra or index is missing")
    extra = parse_base64(lines[1][len(_EXTRA) :], "receipt")
    if len(extra) <= SALT_BYTES:
        raise MalformedError("receipt", "its extra data is no salt and body")
    if len(extra) > SALT_BYTES + MAX_BODY_BYTES:
        raise TooLargeError("body", MAX_BODY_BYTES)
    index = parse_decimal(lines[2][len(_INDEX) :], "receipt")
    proof = tuple(parse_hash(line, "receipt") for line in lines[_HEAD_LINES:])
    parse_checkpoint(parse_note(note).text)
    return Receipt(index, proof, note, extra[:SALT_BYTES], extra[SALT_BYTES:])


def open_receipt(raw: bytes, keys: Iterable[VerifierKey]) -> VerifiedReceipt:
    """Check that a record is part of a log that a trusted key signed.

    Args:
        raw: The receipt.
        keys: Keys of the logs that are trusted. The record is only as good as the log
            that the key belongs to, so pass no key that is not meant.

    Raises:
        MalformedError: The bytes are not a receipt.
        TooLargeError: A part exceeds its limit.
        BadSignatureError: The signature by a key of the log does not hold.
        UnknownKeyError: No trusted key signed.
        BadProofError: The record is not part of the tree.

    Source: C2SP tlog-proof; SPEC.md#receipts.
    """
    receipt = parse_receipt(raw)
    origin = unverified_origin(receipt.checkpoint_note)
    signed = open_checkpoint(receipt.checkpoint_note, keys, origin=origin)
    list_id = parse_origin(origin).list_id
    entry = RecordEntry(commit(list_id, receipt.salt, receipt.body))
    verify_inclusion(
        leaf_hash(encode_entry(entry)),
        receipt.proof,
        leaf_index=receipt.leaf_index,
        tree_size=signed.checkpoint.tree_size,
        root_hash=signed.checkpoint.root_hash,
    )
    record = _record_or_none(receipt.body)
    return VerifiedReceipt(receipt, signed.checkpoint, record, receipt.body)


def _record_or_none(body: bytes) -> Record | None:
    try:
        return parse_record(body)
    except ProtocolError:
        return None
