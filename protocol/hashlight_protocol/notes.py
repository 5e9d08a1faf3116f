"""Signed notes: the text format in which every statement of a node is signed.

A note is text, an empty line, and one line for each signature. Checkpoints,
descriptors and list notes are notes.

Source: C2SP signed-note; SPEC.md#signed-notes.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hashlight_protocol._text import encode_base64, parse_base64
from hashlight_protocol.errors import (
    MalformedError,
    TooLargeError,
    UnknownKeyError,
)
from hashlight_protocol.keys import ED25519, Signer, VerifierKey, is_key_name

MAX_NOTE_BYTES = 128 * 1024
"""Largest checkpoint note. Source: SPEC.md#limits."""

MAX_SIGNATURES = 32
"""Most signatures on one note; C2SP demands at least 16. Source: SPEC.md#limits."""

_CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f]")
_KEY_ID_BYTES = 4
_DASH = "— "


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line.

    Attributes:
        name: Name of the key that the line claims.
        key_id: Its id, 4 bytes.
        blob: What follows the id, at least 1 byte; the key's type says what it means.

    Source: SPEC.md#signed-notes.
    """

    name: str
    key_id: bytes
    blob: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A text and the signatures that came with it; nothing of it is verified.

    Attributes:
        text: The signed bytes, with the last newline.
        signatures: In the order of the lines, 1 to `MAX_SIGNATURES`.

    Source: SPEC.md#signed-notes.
    """

    text: bytes
    signatures: tuple[NoteSignature, ...]


@dataclass(frozen=True, slots=True)
class OpenedNote:
    """A note that at least one trusted key signed.

    Attributes:
        note: The note.
        verified: The trusted keys that signed, each with its first signature.

    Source: SPEC.md#signed-notes.
    """

    note: Note
    verified: tuple[tuple[VerifierKey, NoteSignature], ...]


def encode_signature(signature: NoteSignature) -> bytes:
    """Write a signature line, with its newline.

    Source: SPEC.md#signed-notes.
    """
    blob = encode_base64(signature.key_id + signature.blob)
    return f"{_DASH}{signature.name} {blob}\n".encode()


def parse_signatures(raw: bytes) -> tuple[NoteSignature, ...]:
    """Read signature lines, as they end a note and as a witness answers them.

    Args:
        raw: One or more whole lines.

    Raises:
        MalformedError: A line is not a signature line.
        TooLargeError: There are more than `MAX_SIGNATURES`, or too many bytes.

    Source: SPEC.md#signed-notes.
    """
    if len(raw) > MAX_NOTE_BYTES:
        raise TooLargeError("note", MAX_NOTE_BYTES)
    lines = raw.split(b"\n")
    if lines.pop() or not lines:
        raise MalformedError("note", "it does not end in a signature line")
    if len(lines) > MAX_SIGNATURES:
        raise TooLargeError("signatures of a note", MAX_SIGNATURES)
    return tuple(_parse_signature(line) for line in lines)


def _parse_signature(line: bytes) -> NoteSignature:
    try:
        dash, name, blob = line.decode().split(" ")
    except ValueError:
        # UnicodeDecodeError is a ValueError, and so is a wrong number of parts.
        raise MalformedError("note", "a signature line has not three parts") from None
    if dash != _DASH[:-1] or not is_key_name(name):
        raise MalformedError("note", "a signature line has no dash or no key name")
    data = parse_base64(blob, "note")
    if len(data) <= _KEY_ID_BYTES:
        raise MalformedError("note", "a signature is empty")
    return NoteSignature(name, data[:_KEY_ID_BYTES], data[_KEY_ID_BYTES:])


def encode_note(note: Note, *, max_bytes: int = MAX_NOTE_BYTES) -> bytes:
    """Write a note.

    Args:
        note: The text and at least one signature.
        max_bytes: Largest note of its kind.

    Raises:
        MalformedError: The text or a signature cannot stand in a note.
        TooLargeError: The note would exceed a limit.

    Source: SPEC.md#signed-notes.
    """
    raw = note.text + b"\n" + b"".join(map(encode_signature, note.signatures))
    # A text without a last newline, or with a line that looks like a signature, would
    # come back as another note.
    if parse_note(raw, max_bytes=max_bytes) != note:
        raise MalformedError("note", "the text cannot be told from the signatures")
    return raw


def parse_note(raw: bytes, *, max_bytes: int = MAX_NOTE_BYTES) -> Note:
    """Split a note into text and signatures; nothing is verified.

    Args:
        raw: The note.
        max_bytes: Largest note of its kind.

    Raises:
        MalformedError: The bytes are not a note.
        TooLargeError: The note or its number of signatures exceeds a limit.

    Source: C2SP signed-note; SPEC.md#signed-notes.
    """
    if len(raw) > max_bytes:
        raise TooLargeError("note", max_bytes)
    if _CONTROL.search(raw) is not None:
        raise MalformedError("note", "it has a control character")
    try:
        raw.decode()
    except UnicodeDecodeError:
        raise MalformedError("note", "it is not UTF-8") from None
    end = raw.rfind(b"\n\n")
    if end < 0:
        raise MalformedError("note", "no empty line ends its text")
    return Note(raw[: end + 1], parse_signatures(raw[end + 2 :]))


def open_note(
    raw: bytes,
    keys: Iterable[VerifierKey],
    *,
    max_bytes: int = MAX_NOTE_BYTES,
    what: str = "note",
) -> OpenedNote:
    """Read a note that one of these keys must have signed.

    Signatures by other keys are ignored. Signatures by these keys must all hold.

    Args:
        raw: The note.
        keys: Keys that are trusted for this note.
        max_bytes: Largest note of its kind.
        what: The kind of note, for the error.

    Raises:
        MalformedError: The bytes are not a note.
        TooLargeError: The note exceeds a limit.
        BadSignatureError: A signature by a trusted key does not hold.
        UnknownKeyError: No trusted key signed.

    Source: C2SP signed-note; SPEC.md#signed-notes.
    """
    note = parse_note(raw, max_bytes=max_bytes)
    trusted = {(key.name, key.key_id): key for key in keys}
    verified: dict[VerifierKey, NoteSignature] = {}
    for signature in note.signatures:
        key = trusted.get((signature.name, signature.key_id))
        if key is not None:
            key.verify(note.text, signature.blob)
            verified.setdefault(key, signature)
    if not verified:
        raise UnknownKeyError(what)
    return OpenedNote(note, tuple(verified.items()))


def sign_note(
    text: bytes, signers: Sequence[Signer], *, max_bytes: int = MAX_NOTE_BYTES
) -> bytes:
    """Sign a text with keys of type `ED25519`.

    Args:
        text: The text, with its last newline.
        signers: At least one; each signs once, in this order.
        max_bytes: Largest note of its kind.

    Returns:
        The note.

    Raises:
        MalformedError: The text cannot stand in a note, or there is no signer.
        TooLargeError: The note would exceed a limit.
        ValueError: A signer's key is of another type.

    Source: C2SP signed-note; SPEC.md#signed-notes.
    """
    if any(signer.key.key_type != ED25519 for signer in signers):
        raise ValueError("only a key of type 0x01 signs the text of a note itself")
    signatures = tuple(
        NoteSignature(signer.key.name, signer.key.key_id, signer.sign(text))
        for signer in signers
    )
    return encode_note(Note(text, signatures), max_bytes=max_bytes)
