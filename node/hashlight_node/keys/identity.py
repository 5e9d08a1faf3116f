"""An identity key that is not here: what has to be signed waits for its signature.

To everybody else it is a signer like any other. Asked for a signature that came back,
it gives it; asked for another one, it keeps the text that is to be signed and raises.
Whoever asked does the same thing again once the signature is there, and finds it.

    keys/identity.vkey           the public half, when the key itself is elsewhere
    keys/unsigned/descriptor     texts that wait, one for each document
    keys/unsigned/list-ncii
    keys/signed/descriptor       signed notes that came back
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hashlight_protocol import (
    MAX_DESCRIPTOR_BYTES,
    BadKeyError,
    MalformedError,
    encode_vkey,
    open_note,
    parse_vkey,
)

from .ceremony import encode_request, parse_signed, subject_of, version_of
from .errors import IdentityOfflineError, KeyFileError
from .files import replace_file

if TYPE_CHECKING:
    from pathlib import Path

    from hashlight_protocol import VerifierKey

IDENTITY_VKEY_FILE: Final = "identity.vkey"

_WHAT: Final = "signed documents"


class OfflineIdentity:
    """Signs with signatures that were made on another machine.

    Args:
        key: The public half.
        directory: Where the keys are.
    """

    def __init__(self, key: VerifierKey, directory: Path) -> None:
        self._key = key
        self._unsigned = directory / "unsigned"
        self._signed = directory / "signed"

    @property
    def key(self) -> VerifierKey:
        """The public half."""
        return self._key

    def sign(self, message: bytes) -> bytes:
        """Give the signature over a document's text, 64 bytes, if it has come back.

        Raises:
            IdentityOfflineError: It has not; from now on the text waits for it.
        """
        subject = subject_of(message)
        note = _read(self._signed / subject)
        if note is not None:
            opened = open_note(note, [self._key], max_bytes=MAX_DESCRIPTOR_BYTES)
            if opened.note.text == message:
                return opened.verified[0][1].blob
        self._unsigned.mkdir(mode=0o700, exist_ok=True)
        replace_file(self._unsigned / subject, message)
        raise IdentityOfflineError(subject)

    def waits_for(self, list_name: str, vkey: str) -> bool:
        """Tell whether a list note that names a key is on its way."""
        subject = f"list-{list_name}"
        texts = _read(self._unsigned / subject), _read(self._signed / subject)
        return any(text is not None and vkey.encode() in text for text in texts)

    def request(self) -> bytes:
        """Write down everything that waits, for the machine with the key."""
        return encode_request(self._key, list(self._waiting().values()))

    def accept(self, signed: bytes) -> tuple[bytes, ...]:
        """Take signatures that came back; all of them or none.

        Returns:
            The signed notes.

        Raises:
            ProtocolError: A note is not signed by this key, or was not asked for as
                it is.
        """
        waiting = self._waiting()
        notes: dict[str, bytes] = {}
        for note in parse_signed(signed):
            opened = open_note(note, [self._key], max_bytes=MAX_DESCRIPTOR_BYTES)
            subject = subject_of(opened.note.text)
            if waiting.get(subject) != opened.note.text:
                raise MalformedError(_WHAT, "one is not what this node asked for")
            notes[subject] = note
        self._signed.mkdir(mode=0o700, exist_ok=True)
        for subject, note in notes.items():
            replace_file(self._signed / subject, note)
            (self._unsigned / subject).unlink(missing_ok=True)
        return tuple(notes.values())

    def forget(self, subject: str, version: int) -> None:
        """Drop a signature that has done its work.

        Args:
            subject: What the document is about.
            version: The version that is in effect; a later one is still needed.
        """
        path = self._signed / subject
        note = _read(path)
        if note is not None and version_of(note) <= version:
            path.unlink()

    def _waiting(self) -> dict[str, bytes]:
        return {
            path.name: path.read_bytes()
            for path in sorted(self._unsigned.glob("*"))
            if path.suffix != ".draft"
        }


def read_identity_vkey(directory: Path) -> VerifierKey | None:
    """Read the public half of an identity key that is elsewhere.

    Raises:
        KeyFileError: The file is damaged.
    """
    path = directory / IDENTITY_VKEY_FILE
    raw = _read(path)
    if raw is None:
        return None
    try:
        return parse_vkey(raw.decode("ascii").removesuffix("\n"))
    except (BadKeyError, UnicodeDecodeError) as error:
        raise KeyFileError(path, f"is damaged ({error})") from error


def write_identity_vkey(directory: Path, key: VerifierKey) -> None:
    """Write the public half, from when on the key itself may be taken away."""
    replace_file(directory / IDENTITY_VKEY_FILE, encode_vkey(key).encode() + b"\n")


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
