"""Entries: what the leaves of a log say.

Source: SPEC.md#entries.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from hashlight_protocol._objects import JsonObject, encode_json
from hashlight_protocol._text import HASH_BYTES, encode_base64, parse_hash
from hashlight_protocol.checkpoint import Checkpoint
from hashlight_protocol.errors import (
    MalformedError,
    TooLargeError,
    UnsupportedEntryError,
)
from hashlight_protocol.origins import parse_origin
from hashlight_protocol.tiles import TILE_WIDTH

FIRST_CRITICAL_KIND = 0x80
"""Kinds from here on stop a reader that does not know them."""

MAX_META_BYTES = 4_096
"""Longest JSON of a META entry. Source: SPEC.md#limits."""

MAX_ENTRY_BYTES = 1 + MAX_META_BYTES
"""Longest entry of any kind. Source: SPEC.md#limits."""

_VERSION = 1
_WITHDRAWAL = struct.Struct(">BQIB")
_LENGTH_BYTES = 2


class EntryKind(IntEnum):
    """First byte of an entry.

    Source: SPEC.md#entries.
    """

    META = 0x00
    RECORD = 0x01
    RETRACT = 0x02
    ERASE = 0x03


_RECORD = EntryKind.RECORD.value


class Reason(IntEnum):
    """Why records are withdrawn.

    Source: SPEC.md#entries.
    """

    UNSPECIFIED = 0
    WITHDRAWN = 1
    """By the person concerned, or by law."""
    FALSE_POSITIVE = 2
    EXPIRED = 3
    SUPERSEDED = 4
    COMPROMISE = 5
    """Of a key, or of the way records were submitted."""


@dataclass(frozen=True, slots=True)
class Meta:
    """The first entry of every log: what log it is, and which it continues.

    Attributes:
        origin: Origin of the log itself.
        prev: Last good state of the log before, None in the first epoch.

    Source: SPEC.md#entries.
    """

    origin: str
    prev: Checkpoint | None = None


@dataclass(frozen=True, slots=True)
class RecordEntry:
    """A record; its content is the body beside the log.

    Attributes:
        commitment: 32 bytes.

    Source: SPEC.md#entries.
    """

    commitment: bytes


@dataclass(frozen=True, slots=True)
class _Withdrawal:
    # Attributes of Retract and Erase:
    #   first: leaf index of the first entry concerned; count: how many, 1 or more;
    #   reason: a Reason, or the number of one that a later version adds.
    first: int
    count: int
    reason: int

    @property
    def covered(self) -> range:
        """Leaf indexes of the entries concerned."""
        return range(self.first, self.first + self.count)


@dataclass(frozen=True, slots=True)
class Retract(_Withdrawal):
    """Stop using these records; their bodies may still be served for audit.

    Attributes:
        first: Leaf index of the first entry concerned.
        count: How many follow each other, 1 or more.
        reason: A `Reason`, or the number of one that a later version adds.

    Source: SPEC.md#entries.
    """


@dataclass(frozen=True, slots=True)
class Erase(_Withdrawal):
    """Stop using these records, and destroy their bodies and salts everywhere.

    Attributes:
        first: Leaf index of the first entry concerned.
        count: How many follow each other, 1 or more.
        reason: A `Reason`, or the number of one that a later version adds.

    Source: SPEC.md#erasure.
    """


@dataclass(frozen=True, slots=True)
class UnknownEntry:
    """An entry of a kind that this version does not know.

    Attributes:
        kind: Its first byte.
        raw: The whole entry.

    Source: SPEC.md#entries.
    """

    kind: int
    raw: bytes

    @property
    def is_critical(self) -> bool:
        """Whether a reader must stop applying the log before this entry."""
        return self.kind >= FIRST_CRITICAL_KIND


Entry = Meta | RecordEntry | Retract | Erase | UnknownEntry
"""Everything that a leaf can say."""


def encode_entry(entry: Entry) -> bytes:
    """Write an entry.

    Raises:
        MalformedError: A value is out of its range.
        TooLargeError: The entry would be too long.

    Source: SPEC.md#entries.
    """
    raw = _encode_entry(entry)
    # The position is not known here, so the latest possible one stands for it.
    leaf_index = 0 if isinstance(entry, Meta) else 2**64
    if parse_entry(raw, leaf_index=leaf_index) != entry:
        raise MalformedError("entry", "it would be read as something else")
    return raw


def _encode_entry(entry: Entry) -> bytes:
    if isinstance(entry, Meta):
        return _encode_meta(entry)
    if isinstance(entry, RecordEntry):
        return bytes([EntryKind.RECORD]) + entry.commitment
    if isinstance(entry, Retract):
        return _encode_withdrawal(EntryKind.RETRACT, entry)
    if isinstance(entry, Erase):
        return _encode_withdrawal(EntryKind.ERASE, entry)
    return entry.raw


def _encode_withdrawal(kind: int, entry: Retract | Erase) -> bytes:
    try:
        return _WITHDRAWAL.pack(kind, entry.first, entry.count, entry.reason)
    except struct.error:
        raise MalformedError("entry", "a number is out of its range") from None


def _encode_meta(meta: Meta) -> bytes:
    prev = meta.prev and {
        "origin": meta.prev.origin,
        "size": meta.prev.tree_size,
        "root": encode_base64(meta.prev.root_hash),
    }
    document = {"hsf": _VERSION, "origin": meta.origin, "prev": prev}
    return bytes([EntryKind.META]) + encode_json(document)


def parse_entry(raw: bytes, *, leaf_index: int) -> Entry:
    """Read an entry.

    Args:
        raw: The entry.
        leaf_index: Its position: META stands at 0 and only there, and a range lies
            wholly below its own entry.

    Raises:
        MalformedError: The bytes are not an entry that may stand there.
        TooLargeError: The entry is too long.

    Source: SPEC.md#entries.
    """
    if len(raw) > MAX_ENTRY_BYTES:
        raise TooLargeError("entry", MAX_ENTRY_BYTES)
    if not raw:
        raise MalformedError("entry", "it is empty")
    kind = raw[0]
    if kind == _RECORD and leaf_index:
        return _parse_record(raw)  # Nearly all of them; names in an enum take time.
    if (kind == EntryKind.META) != (leaf_index == 0):
        raise MalformedError("entry", "META stands at index 0 and only there")
    match kind:
        case EntryKind.META:
            return _parse_meta(raw[1:])
        case EntryKind.RETRACT | EntryKind.ERASE:
            return _parse_withdrawal(raw, leaf_index)
        case _:
            return UnknownEntry(kind, raw)


def _parse_record(raw: bytes) -> RecordEntry:
    if len(raw) != 1 + HASH_BYTES:
        raise MalformedError("entry", "a RECORD is not 33 bytes long")
    return RecordEntry(raw[1:])


def _parse_withdrawal(raw: bytes, leaf_index: int) -> Retract | Erase:
    if len(raw) != _WITHDRAWAL.size:
        raise MalformedError("entry", "a RETRACT or ERASE is not 14 bytes long")
    kind, first, count, reason = _WITHDRAWAL.unpack(raw)
    if count == 0 or first + count > leaf_index:
        raise MalformedError("entry", "a range is empty or not below its own index")
    return (Retract if kind == EntryKind.RETRACT else Erase)(first, count, reason)


def _parse_meta(raw: bytes) -> Meta:
    document = JsonObject.parse(raw, "META entry", max_bytes=MAX_META_BYTES)
    if document.number("hsf") != _VERSION:
        raise MalformedError("META entry", f"hsf is not {_VERSION}")
    origin = document.string("origin")
    name = parse_origin(origin)
    prev = document.nullable_child("prev")
    if prev is None:
        return Meta(origin)
    before = Checkpoint(
        prev.string("origin"),
        prev.number("size"),
        parse_hash(prev.string("root"), "META entry"),
    )
    name_before = parse_origin(before.origin)
    if name_before.list_id != name.list_id or name_before.epoch >= name.epoch:
        raise MalformedError("META entry", "prev is not an earlier log of the list")
    return Meta(origin, before)


def verify_supported(entry: Entry, *, leaf_index: int) -> None:
    """Check that applying a log may go on past an entry.

    Raises:
        UnsupportedEntryError: The entry is of a critical kind that this version does
            not know. What came before it stays applied; verifying goes on.

    Source: SPEC.md#entries.
    """
    if isinstance(entry, UnknownEntry) and entry.is_critical:
        raise UnsupportedEntryError(leaf_index, entry.kind)


def encode_entry_bundle(entries: Sequence[bytes]) -> bytes:
    """Write an entry bundle.

    Args:
        entries: Encoded entries, 1 to 256.

    Raises:
        MalformedError: Their number is wrong, or one is empty.
        TooLargeError: One is too long.

    Source: C2SP tlog-tiles; SPEC.md#entry-bundles.
    """
    if not 1 <= len(entries) <= TILE_WIDTH:
        raise MalformedError("entry bundle", "it does not hold 1 to 256 entries")
    if not all(entries):
        raise MalformedError("entry bundle", "an entry is empty")
    if max(map(len, entries)) > MAX_ENTRY_BYTES:
        raise TooLargeError("entry", MAX_ENTRY_BYTES)
    return b"".join(
        len(entry).to_bytes(_LENGTH_BYTES, "big") + entry for entry in entries
    )


def parse_entry_bundle(raw: bytes, width: int) -> tuple[bytes, ...]:
    """Split an entry bundle; what the entries say is not looked at.

    Args:
        raw: The bundle, decompressed.
        width: Entries that it must hold.

    Returns:
        The encoded entries, each 1 to 4,097 bytes.

    Raises:
        MalformedError: The bytes are not a bundle of that width.
        TooLargeError: An entry is too long.

    Source: C2SP tlog-tiles; SPEC.md#entry-bundles.
    """
    entries: list[bytes] = []
    position, total = 0, len(raw)
    for _ in range(width):
        start = position + _LENGTH_BYTES
        if start > total:
            raise MalformedError("entry bundle", f"it does not hold {width} entries")
        length = raw[position] << 8 | raw[position + 1]
        position = start + length
        if length == 0 or position > total:
            raise MalformedError("entry bundle", "an entry is empty or cut short")
        if length > MAX_ENTRY_BYTES:
            raise TooLargeError("entry", MAX_ENTRY_BYTES)
        entries.append(raw[start:position])
    if position != total:
        raise MalformedError("entry bundle", f"it does not hold {width} entries")
    return tuple(entries)
