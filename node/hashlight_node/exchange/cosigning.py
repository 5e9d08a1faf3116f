"""Notes that this node keeps of other nodes' logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashlight_node.keys import signers_of
from hashlight_protocol import (
    Note,
    UnknownKeyError,
    append_signatures,
    cosign,
    encode_note,
    encode_signature,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hashlight_protocol import (
        NoteSignature,
        SignedCheckpoint,
        Signer,
        VerifierKey,
    )


def bare_note(signed: SignedCheckpoint) -> bytes:
    """Write a checkpoint with the signatures that we verified, and no others.

    What strangers added is neither stored nor passed on under our name.
    """
    signatures = tuple(signature for _, signature in signed.opened.verified)
    return encode_note(Note(signed.opened.note.text, signatures))


def cosigned_note(
    signed: SignedCheckpoint, signer: Signer, *, now: int
) -> tuple[bytes, bytes]:
    """Cosign a checkpoint.

    Args:
        signed: The checkpoint, signed by its log.
        signer: Our witness key or our mirror key: the key says what we state.
        now: Unix seconds.

    Returns:
        Our signature lines, one for each key that counts, and the note with the log's
        signatures and them.
    """
    bare = bare_note(signed)
    lines = b"".join(cosign(bare, one, now=now) for one in signers_of(signer))
    return lines, append_signatures(bare, lines)


def note_cosigned_by(
    note: bytes, signatures: Iterable[NoteSignature], key: VerifierKey
) -> bytes:
    """Add the signatures of one key to a note, and none of the others.

    Args:
        note: A checkpoint's note.
        signatures: What a peer sent; nothing of it is verified here.
        key: The peer's witness or mirror key.

    Raises:
        UnknownKeyError: There is none by this key.
        TooLargeError: There are too many.
    """
    wanted = (key.name, key.key_id)
    lines = [
        encode_signature(one) for one in signatures if (one.name, one.key_id) == wanted
    ]
    if not lines:
        raise UnknownKeyError("cosignature")
    return append_signatures(note, b"".join(lines))
