"""Cosignatures: what a witness or a mirror states about a log's checkpoint, and when.

A witness states that the checkpoint extends everything it saw of that log. A mirror
states in addition that it stored the log up to there, with every retraction and
erasure applied. Which of the two is meant follows from the key.

Source: C2SP tlog-cosignature and tlog-mirror; SPEC.md#cosignatures.
"""

from hashlight_protocol.checkpoint import parse_checkpoint
from hashlight_protocol.errors import UnknownKeyError
from hashlight_protocol.keys import (
    COSIGNATURE,
    MAX_TIMESTAMP,
    Signer,
    VerifierKey,
    cosigned_at,
    cosigned_message,
)
from hashlight_protocol.notes import (
    Note,
    NoteSignature,
    encode_note,
    encode_signature,
    parse_note,
    parse_signatures,
)


def cosign(note: bytes, signer: Signer, *, now: int) -> bytes:
    """Make a cosignature over a checkpoint.

    Args:
        note: The checkpoint's note.
        signer: Holder of a key of type `COSIGNATURE`.
        now: The clock, Unix seconds.

    Returns:
        The signature line, with its newline.

    Raises:
        MalformedError: The note is not a checkpoint.
        TooLargeError: The note exceeds a limit.
        ValueError: The key is of another type, or the time is not below 2^63.

    Source: C2SP tlog-cosignature; SPEC.md#cosignatures.
    """
    if signer.key.key_type != COSIGNATURE:
        raise ValueError("only a key of type 0x04 cosigns")
    if not 0 <= now <= MAX_TIMESTAMP:
        raise ValueError("the time is not within 0 to 2^63-1")
    text = parse_note(note).text
    parse_checkpoint(text)
    signature = signer.sign(cosigned_message(text, signed_at=now))
    blob = now.to_bytes(8, "big") + signature
    return encode_signature(NoteSignature(signer.key.name, signer.key.key_id, blob))


def append_signatures(note: bytes, lines: bytes) -> bytes:
    """Add signature lines to a note; a line that it already has is not added again.

    Args:
        note: The note.
        lines: Whole signature lines, as `cosign` makes and a witness answers them.

    Returns:
        The longer note.

    Raises:
        MalformedError: One of the two cannot be read.
        TooLargeError: The result would exceed a limit.

    Source: C2SP tlog-witness; SPEC.md#cosignatures.
    """
    parsed = parse_note(note)
    signatures = dict.fromkeys((*parsed.signatures, *parse_signatures(lines)))
    return encode_note(Note(parsed.text, tuple(signatures)))


def verify_cosignature(note: bytes, key: VerifierKey) -> int:
    """Check that a key cosigned a checkpoint.

    Args:
        note: The checkpoint's note. The log's own signature is not looked at.
        key: Key of type `COSIGNATURE` of a witness or mirror.

    Returns:
        When it was cosigned, Unix seconds; the latest time if it was more than once.

    Raises:
        MalformedError: The note is not a checkpoint.
        TooLargeError: The note exceeds a limit.
        BadSignatureError: A cosignature by this key does not hold.
        UnknownKeyError: This key did not cosign.
        ValueError: The key is of another type.

    Source: C2SP tlog-cosignature; SPEC.md#cosignatures.
    """
    if key.key_type != COSIGNATURE:
        raise ValueError("only a key of type 0x04 cosigns")
    parsed = parse_note(note)
    parse_checkpoint(parsed.text)
    times: list[int] = []
    for signature in parsed.signatures:
        if (signature.name, signature.key_id) == (key.name, key.key_id):
            key.verify(parsed.text, signature.blob)
            times.append(cosigned_at(signature.blob))
    if not times:
        raise UnknownKeyError("cosignature")
    return max(times)
