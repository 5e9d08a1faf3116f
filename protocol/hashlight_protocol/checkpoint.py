"""Checkpoints: a log's signed statement of its size and root.

Source: C2SP tlog-checkpoint; SPEC.md#checkpoints.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hashlight_protocol._text import encode_base64, parse_decimal, parse_hash
from hashlight_protocol.errors import MalformedError
from hashlight_protocol.keys import ED25519, Signer, VerifierKey
from hashlight_protocol.merkle import EMPTY_ROOT
from hashlight_protocol.notes import OpenedNote, open_note, parse_note, sign_note

_HEAD_LINES = 3


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log commits to.

    Attributes:
        origin: Name of the log.
        tree_size: Leaves in the tree.
        root_hash: Root of the tree, 32 bytes.
        extensions: Further lines; signed, and without meaning in this protocol.

    Source: C2SP tlog-checkpoint; SPEC.md#checkpoints.
    """

    origin: str
    tree_size: int
    root_hash: bytes
    extensions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KnownHead:
    """A tree that was verified before.

    Attributes:
        tree_size: Leaves in the tree.
        root_hash: Root of the tree, 32 bytes.
    """

    tree_size: int
    root_hash: bytes


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint that its log signed.

    Attributes:
        checkpoint: The parsed view.
        note_bytes: The note exactly as it came, cosignatures included.
        opened: The log's keys that signed, each with its signature.

    Source: SPEC.md#checkpoints.
    """

    checkpoint: Checkpoint
    note_bytes: bytes
    opened: OpenedNote

    @property
    def head(self) -> KnownHead:
        """Size and root, to remember."""
        return KnownHead(self.checkpoint.tree_size, self.checkpoint.root_hash)


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Write the text that a log signs.

    Raises:
        MalformedError: The value cannot be a checkpoint.

    Source: C2SP tlog-checkpoint; SPEC.md#checkpoints.
    """
    root = encode_base64(checkpoint.root_hash)
    lines = (checkpoint.origin, str(checkpoint.tree_size), root, *checkpoint.extensions)
    try:
        text = "".join(f"{line}\n" for line in lines).encode()
    except UnicodeEncodeError:
        raise MalformedError("checkpoint", "it is not Unicode text") from None
    # An origin with a newline in it would come back as another checkpoint.
    if parse_checkpoint(text) != checkpoint:
        raise MalformedError("checkpoint", "a line has a newline in it")
    return text


def parse_checkpoint(text: bytes) -> Checkpoint:
    """Read the text of a checkpoint's note.

    Raises:
        MalformedError: The text is not a checkpoint, or has a root for no leaves that
            is not the root of the empty tree.

    Source: C2SP tlog-checkpoint; SPEC.md#checkpoints.
    """
    try:
        lines = text.decode().split("\n")
    except UnicodeDecodeError:
        raise MalformedError("checkpoint", "it is not UTF-8") from None
    if lines.pop() or len(lines) < _HEAD_LINES or not all(lines):
        raise MalformedError("checkpoint", "it is not three or more whole lines")
    origin, size, root, *extensions = lines
    tree_size = parse_decimal(size, "checkpoint")
    root_hash = parse_hash(root, "checkpoint")
    if tree_size == 0 and root_hash != EMPTY_ROOT:
        raise MalformedError("checkpoint", "its root is not that of the empty tree")
    return Checkpoint(origin, tree_size, root_hash, tuple(extensions))


def unverified_origin(raw: bytes) -> str:
    """Read which log a checkpoint claims to be of, to choose the keys to verify it.

    Args:
        raw: The note.

    Raises:
        MalformedError: The bytes are not a checkpoint in a note.
        TooLargeError: The note exceeds a limit.

    Source: SPEC.md#checkpoints.
    """
    return parse_checkpoint(parse_note(raw).text).origin


def open_checkpoint(
    raw: bytes, keys: Iterable[VerifierKey], *, origin: str
) -> SignedCheckpoint:
    """Read a checkpoint that a certain log must have signed.

    Args:
        raw: The note.
        keys: Trusted keys. Only those of type `ED25519` whose name is the origin
            count: no other key speaks for the log.
        origin: The log.

    Raises:
        MalformedError: The bytes are not a checkpoint of this log.
        TooLargeError: The note exceeds a limit.
        BadSignatureError: The signature by a key of the log does not hold.
        UnknownKeyError: No key of the log signed.

    Source: C2SP tlog-checkpoint; SPEC.md#checkpoints.
    """
    log_keys = [key for key in keys if key.name == origin and key.key_type == ED25519]
    opened = open_note(raw, log_keys, what="checkpoint")
    checkpoint = parse_checkpoint(opened.note.text)
    if checkpoint.origin != origin:
        raise MalformedError("checkpoint", "its origin is not the log's")
    return SignedCheckpoint(checkpoint, raw, opened)


def sign_checkpoint(checkpoint: Checkpoint, signers: Sequence[Signer]) -> bytes:
    """Sign a checkpoint with keys of its log.

    The caller has made sure that it is consistent with everything the log signed
    before; a second view cannot be taken back.

    Args:
        checkpoint: What to sign.
        signers: At least one; the name of each key is the origin.

    Returns:
        The note.

    Raises:
        MalformedError: The value cannot be a checkpoint.
        ValueError: A key is not named like the log.

    Source: C2SP tlog-checkpoint; SPEC.md#checkpoints.
    """
    if any(signer.key.name != checkpoint.origin for signer in signers):
        raise ValueError("a log signs with keys named like its origin")
    return sign_note(encode_checkpoint(checkpoint), signers)
