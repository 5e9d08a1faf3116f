"""Every live signal in one file, checked, from which dead ones can be wiped in place.

A node that starts fills its memory from such a file in seconds, and programs that keep
a copy of their own fetch one. All integers are little-endian, all instants Unix seconds:

| bytes | what |
|---|---|
| 128 | head: magic `HLINDEX1`, block size (u32), 0 (u32), then 64 bits each: number, signal id and time of the last change that is in here, PDQ rows *n*, exact rows *m*, time of writing; zeros; SHA-256 of the first 96 bytes |
| 8 *n* | PDQ rows: signal id x 2, + 1 if the row was wiped; ascending |
| 32 *n* | their hashes; zeros where wiped |
| 8 *m* | exact rows: signal id x 2, + 1 if the row was wiped; ascending |
| 8 *m* | their digests (`model.signal_digest`, signed); 0 where wiped |
| 32 each | SHA-256 of each block of what is between the head and here |

Rows are found by their ids, because wiping a row leaves its id in place.
"""  # noqa: E501 -- a table's row is one line

from __future__ import annotations

import errno
import hashlib
import os
import struct
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import numpy as np

from hashlight_node.matching.matcher import Rows
from hashlight_node.model import FeedMark

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

BLOCK_BYTES: Final = 65_536
"""Checked together: small, because wiping one row means hashing its block again."""

_MAGIC: Final = b"HLINDEX1"
_FIELDS: Final = struct.Struct("<8sII6Q")
_CHECKED_HEAD_BYTES: Final = 96
_HEAD_BYTES: Final = 128
_CHECK_BYTES: Final = 32
_ID_BYTES: Final = 8
_HASH_BYTES: Final = 32
_DIGEST_BYTES: Final = 8
_PIECE_ROWS: Final = 32_768
_SHELF_ROWS: Final = 4096
"""Ids that are read together to find some of them: 32 KiB."""

_MAX_ROWS: Final = 1 << 40
"""No file has so many; a head that says so must not make us reserve memory."""

_NO_ROWS: Final = np.empty(0, dtype=np.uint64)


class Flaw(StrEnum):
    """Why a snapshot cannot be used."""

    MISSING = "missing"
    UNREADABLE = "unreadable"
    OTHER_VERSION = "other-version"
    """It is none, or of a version that we do not know."""

    DAMAGED = "damaged"
    """Something in it is not what was written."""

    OTHER_HISTORY = "other-history"
    """The store does not know the change that it ends with."""

    TOO_OLD = "too-old"
    """Starting anew costs less than everything that changed since."""

    INCOMPLETE = "incomplete"
    """With what changed since it is not what the store holds."""


class SnapshotError(Exception):
    """A snapshot cannot be used.

    Attributes:
        flaw: Why.
    """

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(f"the snapshot cannot be used: {flaw}")
        self.flaw = flaw


class TooScatteredError(Exception):
    """Wiping so much costs more than writing the file anew; nothing was wiped."""

    def __init__(self) -> None:
        super().__init__("too many blocks of the snapshot would have to be written")


class Section(NamedTuple):
    """Rows of one kind in a file: all their ids, then all their values.

    Attributes:
        ids_at: Where the ids begin.
        rows: How many there are.
        width: Bytes of a value.
    """

    ids_at: int
    rows: int
    width: int

    @property
    def values_at(self) -> int:
        """Where the values begin."""
        return self.ids_at + _ID_BYTES * self.rows

    @property
    def end(self) -> int:
        """Where the next section begins."""
        return self.values_at + self.width * self.rows


@dataclass(frozen=True, slots=True)
class Head:
    """What a snapshot says about itself.

    Attributes:
        mark: The last change that is in it; it holds what was live then.
        pdq_rows: Rows of PDQ hashes, wiped ones counted.
        exact_rows: Rows of all other types.
        written_at: When, Unix seconds.
    """

    mark: FeedMark
    pdq_rows: int
    exact_rows: int
    written_at: int

    def encode(self) -> bytes:
        """Write the first 128 bytes of a file."""
        fields = (*self.mark, self.pdq_rows, self.exact_rows, self.written_at)
        packed = _FIELDS.pack(_MAGIC, BLOCK_BYTES, 0, *fields)
        checked = packed.ljust(_CHECKED_HEAD_BYTES, b"\0")
        return checked + hashlib.sha256(checked).digest()

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read the first 128 bytes of a file.

        Raises:
            SnapshotError: They are none.
        """
        checked = raw[:_CHECKED_HEAD_BYTES]
        if len(raw) != _HEAD_BYTES or not checked.startswith(_MAGIC):
            raise SnapshotError(Flaw.OTHER_VERSION)
        if hashlib.sha256(checked).digest() != raw[_CHECKED_HEAD_BYTES:]:
            raise SnapshotError(Flaw.DAMAGED)
        _, block_bytes, zero, *numbers = _FIELDS.unpack_from(checked)
        *mark, pdq_rows, exact_rows, written_at = numbers
        head = cls(FeedMark(*mark), pdq_rows, exact_rows, written_at)
        is_known = (block_bytes, zero) == (BLOCK_BYTES, 0)
        if not is_known or max(pdq_rows, exact_rows) > _MAX_ROWS:
            raise SnapshotError(Flaw.OTHER_VERSION)
        return head

    @property
    def sections(self) -> tuple[Section, Section]:
        """Where the PDQ rows are, and where the exact ones."""
        pdq = Section(_HEAD_BYTES, self.pdq_rows, _HASH_BYTES)
        return pdq, Section(pdq.end, self.exact_rows, _DIGEST_BYTES)

    @property
    def body_bytes(self) -> int:
        """Bytes between the head and the checks."""
        return self.sections[1].end - _HEAD_BYTES

    @property
    def total_bytes(self) -> int:
        """Bytes of the whole file."""
        blocks = -(-self.body_bytes // BLOCK_BYTES)
        return _HEAD_BYTES + self.body_bytes + _CHECK_BYTES * blocks


def head_of(rows: Rows, mark: FeedMark, *, written_at: int) -> Head:
    """Describe a snapshot that is about to be written."""
    return Head(mark, len(rows.pdq_ids), len(rows.exact_ids), written_at)


def encode(head: Head, rows: Rows) -> Iterator[bytes]:
    """Write a snapshot, piece by piece; takes a core about a second a gigabyte.

    Args:
        head: What `head_of` gave for the rows.
        rows: In any order.

    Yields:
        Pieces of some megabytes at most.
    """
    yield head.encode()
    checks = bytearray()
    rest = b""
    for piece in _body(rows):
        rest += piece
        whole = len(rest) - len(rest) % BLOCK_BYTES
        if whole:
            checks += _check(memoryview(rest)[:whole])
            yield rest[:whole]
            rest = rest[whole:]
    if rest:
        checks += _check(memoryview(rest))
        yield rest
    yield bytes(checks)


def _body(rows: Rows) -> Iterator[bytes]:
    for ids, values in (
        (rows.pdq_ids, rows.pdq_hashes),
        (rows.exact_ids, rows.exact_digests.astype("<i8", copy=False)),
    ):
        order = np.argsort(ids, kind="stable")
        for start in range(0, len(order), _PIECE_ROWS):
            some = ids[order[start : start + _PIECE_ROWS]]
            yield (some.astype("<i8") << 1).tobytes()
        for start in range(0, len(order), _PIECE_ROWS):
            yield values[order[start : start + _PIECE_ROWS]].tobytes()


def _check(body: memoryview) -> bytes:
    return b"".join(
        hashlib.sha256(body[start : start + BLOCK_BYTES]).digest()
        for start in range(0, len(body), BLOCK_BYTES)
    )


class _Dead(NamedTuple):
    """Rows of a section that are about to be wiped.

    Attributes:
        section: Where they are.
        rows: Their places in it, ascending.
        words: What stands there for each of their ids.
    """

    section: Section
    rows: NDArray[np.uint64]
    words: NDArray[np.uint64]

    def blocks(self) -> NDArray[np.int64]:
        """Tell which blocks hold something of them."""
        section, rows = self.section, self.rows.astype(np.int64)
        ids_at = section.ids_at + _ID_BYTES * rows
        values_at = section.values_at + section.width * rows
        ends = (
            ids_at,
            ids_at + _ID_BYTES - 1,
            values_at,
            values_at + section.width - 1,
        )
        return (np.concatenate(ends) - _HEAD_BYTES) // BLOCK_BYTES

    def value_runs(self) -> Iterator[tuple[int, int]]:
        """Give where values stand one after the other, and how many bytes they take."""
        section = self.section
        for first, start, end in self._runs():
            yield (
                section.values_at + section.width * first,
                section.width * (end - start),
            )

    def mark_runs(self) -> Iterator[tuple[int, bytes]]:
        """Give where ids stand one after the other, and what is to stand there."""
        marked = (self.words | np.uint64(1)).astype("<u8", copy=False)
        for first, start, end in self._runs():
            yield self.section.ids_at + _ID_BYTES * first, marked[start:end].tobytes()

    def _runs(self) -> Iterator[tuple[int, int, int]]:
        """Cut the rows where others lie between them; give first row, start and end."""
        if not self.rows.size:
            return
        cuts = (np.flatnonzero(np.diff(self.rows) != 1) + 1).tolist()
        for start, end in pairwise([0, *cuts, len(self.rows)]):
            yield int(self.rows[start]), start, end


class SnapshotFile:
    """A snapshot on disk, open for reading and for wiping.

    Not thread-safe.

    Attributes:
        head: What it says about itself.
    """

    def __init__(self, file: int) -> None:
        """Take over an open file and read its head; it is closed if that fails.

        Raises:
            SnapshotError: It is no snapshot, or not whole.
            OSError: It cannot be read.
        """
        self._file = file
        self._shelves: dict[Section, NDArray[np.uint64]] = {}
        try:
            self.head = Head.parse(os.pread(self._file, _HEAD_BYTES, 0))
            _verify_size(self.head, os.fstat(self._file).st_size)
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a file by its name.

        Raises:
            SnapshotError: It is no snapshot, or not whole.
            OSError: It cannot be opened.
        """
        return cls(os.open(path, os.O_RDWR | os.O_CLOEXEC))

    def load(self) -> Rows:
        """Read the rows that were not wiped, and check all of them.

        Raises:
            SnapshotError: Something in it is not what was written.
            OSError: It cannot be read.
        """
        raw = np.empty(self.head.total_bytes, dtype=np.uint8)
        view, done = raw.data, 0
        while count := os.preadv(self._file, [view[done:]], done):
            done += count
        return decode(view[:done])[1]

    def wipe(self, signal_ids: Iterable[int], *, max_blocks: int | None = None) -> None:
        """Overwrite signals that are dead, so that the file gives them away no more.

        What cannot be told apart from a torn write later is the point: whoever is
        killed in here leaves a file that `load` refuses, or one that is as before.

        Args:
            signal_ids: Any; those that are not here are passed over.
            max_blocks: Most blocks to write, which is what it costs; None for any.

        Raises:
            TooScatteredError: It would be more blocks.
            OSError: The file cannot be written; what it holds now is not known.
        """
        wanted = np.unique(np.fromiter(signal_ids, dtype=np.uint64))
        dead = [self._find(wanted, section) for section in self.head.sections]
        blocks = np.unique(np.concatenate([it.blocks() for it in dead]))
        if not blocks.size:
            return
        if max_blocks is not None and blocks.size > max_blocks:
            raise TooScatteredError
        for some in dead:
            for at, size in some.value_runs():
                os.pwrite(self._file, bytes(size), at)
        # The marks come last, also if the power fails: a row that has one is not
        # looked at again.
        os.fdatasync(self._file)
        for some in dead:
            for at, marks in some.mark_runs():
                os.pwrite(self._file, marks, at)
        self._check_again(blocks.tolist())
        os.fdatasync(self._file)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def _find(self, wanted: NDArray[np.uint64], section: Section) -> _Dead:
        """Find the rows of signals, except those that are wiped or not there.

        Args:
            wanted: Their ids, ascending.
            section: Where to look.
        """
        rows, words = [_NO_ROWS], [_NO_ROWS]
        shelf_of = np.searchsorted(self._first_ids(section), wanted, side="right")
        # Before the first id of all there is nothing.
        for shelf in np.unique(shelf_of[shelf_of > 0]).tolist():
            first = (shelf - 1) * _SHELF_ROWS
            found = self._read_words(section, first, _SHELF_ROWS)
            # A row that is wiped has another word, so it is not among these.
            here = wanted[shelf_of == shelf] << np.uint64(1)
            at = np.searchsorted(found, here).clip(max=len(found) - 1)
            is_there = found[at] == here
            rows.append(at[is_there].astype(np.uint64) + np.uint64(first))
            words.append(here[is_there])
        return _Dead(section, np.concatenate(rows), np.concatenate(words))

    def _first_ids(self, section: Section) -> NDArray[np.uint64]:
        """Read the first id of each shelf once; ids never change."""
        known = self._shelves.get(section)
        if known is None:
            words = [
                self._read_words(section, row, 1)
                for row in range(0, section.rows, _SHELF_ROWS)
            ]
            known = np.concatenate([_NO_ROWS, *words]) >> np.uint64(1)
            self._shelves[section] = known
        return known

    def _read_words(
        self, section: Section, first: int, count: int
    ) -> NDArray[np.uint64]:
        size = _ID_BYTES * min(count, section.rows - first)
        raw = os.pread(self._file, size, section.ids_at + _ID_BYTES * first)
        if len(raw) != size:
            raise OSError(errno.EIO, "the snapshot became shorter")
        return np.frombuffer(raw, dtype="<u8").astype(np.uint64, copy=False)

    def _check_again(self, blocks: Sequence[int]) -> None:
        end = _HEAD_BYTES + self.head.body_bytes
        for block in blocks:
            start = _HEAD_BYTES + block * BLOCK_BYTES
            data = os.pread(self._file, min(BLOCK_BYTES, end - start), start)
            check = hashlib.sha256(data).digest()
            os.pwrite(self._file, check, end + _CHECK_BYTES * block)


def decode(raw: bytes | memoryview) -> tuple[Head, Rows]:
    """Read a whole snapshot and check all of it.

    Args:
        raw: The bytes; the rows are views of them as far as that is possible.

    Returns:
        What it says about itself, and the rows that were not wiped; how many there are
        of each type is not in it.

    Raises:
        SnapshotError: Something in it is not what was written.
    """
    view = memoryview(raw)
    head = Head.parse(bytes(view[:_HEAD_BYTES]))
    end = _HEAD_BYTES + head.body_bytes
    _verify_size(head, len(view))
    if _check(view[_HEAD_BYTES:end]) != view[end:]:
        raise SnapshotError(Flaw.DAMAGED)
    (pdq_ids, hashes), (exact_ids, digests) = (
        _living(view, section) for section in head.sections
    )
    exact_digests = digests.view("<i8").reshape(-1)
    return head, Rows(pdq_ids, hashes, exact_digests, exact_ids, {})


def _verify_size(head: Head, found_bytes: int) -> None:
    if found_bytes != head.total_bytes:
        raise SnapshotError(Flaw.DAMAGED)


def _living(
    view: memoryview, section: Section
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    words = np.frombuffer(view, "<i8", section.rows, section.ids_at)
    size = section.rows * section.width
    values = np.frombuffer(view, np.uint8, size, section.values_at)
    values = values.reshape(section.rows, section.width)
    ids = words >> 1
    if (ids[:1] < 0).any() or (ids[1:] <= ids[:-1]).any():
        raise SnapshotError(Flaw.DAMAGED)
    is_living = words & 1 == 0
    if is_living.all():
        return ids, values
    return ids[is_living], values[is_living]
