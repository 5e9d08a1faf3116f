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
    parse_note,
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


def is_sealed_by(note: bytes, signed: SignedCheckpoint, signer: Signer) -> bool:
    """Tell whether a note of ours has the signatures of all keys that count now.

    Keys are replaced while there is nothing new to sign. Whoever reads the newest
    documents must find a signature by a key that they name.

    Args:
        note: What we cosigned once.
        signed: The same checkpoint as its log signs it now.
        signer: Our key, or keys, that cosigned.
    """
    found = {(one.name, one.key_id) for one in parse_note(note).signatures}
    keys = [key for key, _ in signed.opened.verified]
    keys += [one.key for one in signers_of(signer)]
    return found >= {(key.name, key.key_id) for key in keys}


def lines_of(note: bytes, signer: Signer, *, now: int) -> bytes:
    """Give our signature lines on a note that we cosigned once.

    By every key that counts now: whoever asks may know the older one or the newer one,
    and the note may be from before there was the newer one.

    Args:
        note: What we cosigned, and still state.
        signer: Our key, or keys.
        now: Unix seconds.
    """
    signers = signers_of(signer)
    wanted = {(one.key.name, one.key.key_id) for one in signers}
    signatures = parse_note(note).signatures
    found = [one for one in signatures if (one.name, one.key_id) in wanted]
    if len(found) < len(wanted):
        return b"".join(cosign(note, one, now=now) for one in signers)
    return b"".join(map(encode_signature, found))


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
