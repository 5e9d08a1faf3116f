"""Uploads: a log that cannot be dialled sends its entries to a mirror by itself.

An upload is of any length. It is cut into packages at multiples of 256 leaves, each of
which is verified against a checkpoint by itself, so the receiver keeps one package at a
time, stores it, and loses no more than one when the upload breaks off.

Source: C2SP tlog-mirror; SPEC.md#uploads.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from hashlight_protocol._text import (
    HASH_BYTES,
    MAX_TREE_SIZE,
    encode_base64,
    parse_base64,
    parse_decimal,
)
from hashlight_protocol.entries import MAX_ENTRY_BYTES
from hashlight_protocol.errors import MalformedError, TooLargeError
from hashlight_protocol.merkle import leaf_hashes, root_of
from hashlight_protocol.origins import MAX_ORIGIN, parse_origin
from hashlight_protocol.proofs import MAX_PROOF_HASHES, verify_subtree
from hashlight_protocol.tiles import (
    TILE_WIDTH,
    BodyBundleId,
    encode_tile_path,
    parse_tile_path,
)

MAX_TICKET_BYTES = 65_535
"""Longest ticket; its length has two bytes. Source: SPEC.md#limits."""

MAX_MIRROR_INFO_BYTES = 87_421
"""Longest answer with a ticket. Source: SPEC.md#limits."""

MAX_UPLOAD_PACKAGES = 32
"""Most packages that one request should have. Source: C2SP tlog-mirror."""

MAX_UNREAD_BYTES = 4 * 1024 * 1024
"""Most bytes that a reader is given before what is complete is taken out of it."""

_WHAT = "add-entries"
_INFO = "mirror-info"
_U16 = 2
_U64 = 8
_ADD = "add-"
_INFO_LINES = 3


@dataclass(frozen=True, slots=True)
class AddEntries:
    """The head of an upload; nothing of it is verified.

    Attributes:
        origin: The log.
        upload_start: Index of the first entry that is sent, not above `upload_end`.
        upload_end: Size of the checkpoint that the upload leads up to.
        ticket: What the mirror answered last time, else empty.

    Source: C2SP tlog-mirror; SPEC.md#uploads.
    """

    origin: str
    upload_start: int
    upload_end: int
    ticket: bytes = b""


@dataclass(frozen=True, slots=True)
class EntryPackage:
    """The entries of an upload that lie within one bundle; nothing is verified.

    Attributes:
        first_index: Leaf index of the first entry.
        entries: 1 to 256 encoded entries.
        proof: Shows that the bundle up to the last of them is part of the tree of
            `upload_end` leaves; at most 63 hashes.

    Source: C2SP tlog-mirror; SPEC.md#uploads.
    """

    first_index: int
    entries: tuple[bytes, ...]
    proof: tuple[bytes, ...] = ()

    @property
    def end(self) -> int:
        """Leaf index behind the last entry."""
        return self.first_index + len(self.entries)


def package_ranges(upload_start: int, upload_end: int) -> Iterator[range]:
    """List the leaf indexes of each package of an upload, in order.

    Args:
        upload_start: First leaf.
        upload_end: Leaf behind the last.

    Source: C2SP tlog-mirror; SPEC.md#uploads.
    """
    start = upload_start
    while start < upload_end:
        package = _package_at(start, upload_end)
        yield package
        start = package.stop


def _package_at(start: int, upload_end: int) -> range:
    return range(start, min(upload_end, (start // TILE_WIDTH + 1) * TILE_WIDTH))


def encode_add_entries(head: AddEntries) -> bytes:
    """Write the head of an upload, which its packages follow.

    Raises:
        MalformedError: A value cannot stand there.
        TooLargeError: The ticket is too long.

    Source: C2SP tlog-mirror; SPEC.md#uploads.
    """
    if len(head.ticket) > MAX_TICKET_BYTES:
        raise TooLargeError("ticket", MAX_TICKET_BYTES)
    _check_head(head)
    origin = head.origin.encode()
    return b"".join(
        (
            len(origin).to_bytes(_U16, "big"),
            origin,
            head.upload_start.to_bytes(_U64, "big"),
            head.upload_end.to_bytes(_U64, "big"),
            len(head.ticket).to_bytes(_U16, "big"),
            head.ticket,
        )
    )


def _check_head(head: AddEntries) -> None:
    parse_origin(head.origin)
    if not 0 <= head.upload_start <= head.upload_end <= MAX_TREE_SIZE:
        raise MalformedError(_WHAT, "start and end are not in order, or too large")


def encode_package(package: EntryPackage) -> bytes:
    """Write a package.

    Raises:
        MalformedError: It has no entry, entries of two bundles, an empty entry, or a
            hash that is none.
        TooLargeError: An entry or the proof is too long.

    Source: C2SP tlog-mirror; SPEC.md#uploads.
    """
    if list(package_ranges(package.first_index, package.end)) != [
        range(package.first_index, package.end)
    ]:
        raise MalformedError(_WHAT, "a package has no entries, or those of two bundles")
    if not all(package.entries):
        raise MalformedError(_WHAT, "an entry is empty")
    if max(map(len, package.entries)) > MAX_ENTRY_BYTES:
        raise TooLargeError("entry", MAX_ENTRY_BYTES)
    if len(package.proof) > MAX_PROOF_HASHES:
        raise TooLargeError("proof", MAX_PROOF_HASHES)
    if any(len(sibling) != HASH_BYTES for sibling in package.proof):
        raise MalformedError(_WHAT, "a hash is not 32 bytes long")
    entries = (len(entry).to_bytes(_U16, "big") + entry for entry in package.entries)
    return b"".join((*entries, bytes([len(package.proof)]), *package.proof))


class AddEntriesReader:
    """Reads an upload piece by piece; the one thing here that has a state.

    Feed it what arrives, in pieces of any size, and after each piece take out what is
    complete:

        reader.feed(piece)
        while (package := reader.read_package()) is not None: ...

    It holds the entries of one package at most, and what was fed and not taken out.
    Once it raised an error it has nothing more to give; packages that it gave before
    stay good.

    Source: C2SP tlog-mirror; SPEC.md#uploads.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = 0
        self._head: AddEntries | None = None
        self._start = 0
        self._entries: list[bytes] = []

    @property
    def next_index(self) -> int:
        """Leaf index behind the last package that was read; 0 before the head is."""
        return self._start

    @property
    def is_complete(self) -> bool:
        """Whether every package up to `upload_end` was read."""
        return self._head is not None and self._start == self._head.upload_end

    def feed(self, data: bytes) -> None:
        """Add what arrived.

        Raises:
            ValueError: More than `MAX_UNREAD_BYTES` were not taken out.
        """
        if self._unread + len(data) > MAX_UNREAD_BYTES:
            raise ValueError("read what is complete before feeding more")
        del self._buffer[: self._position]
        self._position = 0
        self._buffer += data

    @property
    def _unread(self) -> int:
        return len(self._buffer) - self._position

    def read_head(self) -> AddEntries | None:
        """Give the head, as often as asked; None as long as it is not complete.

        Raises:
            MalformedError: The bytes are not the head of an upload.
        """
        if self._head is None:
            self._head = self._parse_head()
            self._start = self._head.upload_start if self._head is not None else 0
        return self._head

    def _parse_head(self) -> AddEntries | None:
        # Nothing was taken out yet, so the head begins where the buffer does.
        origin_size = self._peek(0, _U16)
        if origin_size is None:
            return None
        if origin_size > MAX_ORIGIN:
            raise MalformedError(_WHAT, "the origin is too long to be one")
        origin_end = _U16 + origin_size
        ticket_size = self._peek(origin_end + 2 * _U64, _U16)
        ticket_start = origin_end + 2 * _U64 + _U16
        if ticket_size is None or self._unread < ticket_start + ticket_size:
            return None
        raw = bytes(self._buffer[: ticket_start + ticket_size])
        try:
            origin = raw[_U16:origin_end].decode("ascii")
        except UnicodeDecodeError:
            raise MalformedError(_WHAT, "the origin is not ASCII") from None
        start = int.from_bytes(raw[origin_end : origin_end + _U64], "big")
        end = int.from_bytes(raw[origin_end + _U64 : ticket_start - _U16], "big")
        head = AddEntries(origin, start, end, raw[ticket_start:])
        _check_head(head)
        self._position = len(raw)
        return head

    def read_package(self) -> EntryPackage | None:
        """Give the next package; None if it is not complete, or there is none.

        Raises:
            MalformedError: The bytes are not an upload, or go on after its end.
            TooLargeError: An entry or a proof is too long.
        """
        head = self.read_head()
        if head is None:
            return None
        if self.is_complete:
            if self._unread:
                raise MalformedError(_WHAT, "it goes on after its last package")
            return None
        expected = _package_at(self._start, head.upload_end)
        while len(self._entries) < len(expected):
            entry = self._read_entry()
            if entry is None:
                return None
            self._entries.append(entry)
        proof = self._read_proof()
        if proof is None:
            return None
        package = EntryPackage(expected.start, tuple(self._entries), proof)
        self._start, self._entries = expected.stop, []
        return package

    def _read_entry(self) -> bytes | None:
        size = self._peek(0, _U16)
        if size is None:
            return None
        if size == 0:
            raise MalformedError(_WHAT, "an entry is empty")
        if size > MAX_ENTRY_BYTES:
            raise TooLargeError("entry", MAX_ENTRY_BYTES)
        if self._unread < _U16 + size:
            return None
        return self._take(_U16 + size)[_U16:]

    def _read_proof(self) -> tuple[bytes, ...] | None:
        count = self._peek(0, 1)
        if count is None:
            return None
        if count > MAX_PROOF_HASHES:
            raise TooLargeError("proof", MAX_PROOF_HASHES)
        end = 1 + count * HASH_BYTES
        if self._unread < end:
            return None
        raw = self._take(end)
        return tuple(raw[i : i + HASH_BYTES] for i in range(1, end, HASH_BYTES))

    def _peek(self, offset: int, size: int) -> int | None:
        # A number at that place of what is not taken out yet, None if it is not there.
        start = self._position + offset
        raw = self._buffer[start : start + size]
        return int.from_bytes(raw, "big") if len(raw) == size else None

    def _take(self, size: int) -> bytes:
        start = self._position
        self._position += size
        return bytes(self._buffer[start : self._position])


def check_package(
    package: EntryPackage,
    *,
    before: Sequence[bytes],
    tree_size: int,
    root_hash: bytes,
) -> list[bytes]:
    """Check that the entries of a package are those that a checkpoint authenticates.

    Args:
        package: The package.
        before: `leaf_hash` of the entries of the same bundle that come before it, which
            the mirror has; none if the package begins a bundle.
        tree_size: Size of the checkpoint, the upload's `upload_end`.
        root_hash: Its root.

    Returns:
        `leaf_hash` of all entries of the bundle so far: the content of its tile.

    Raises:
        BadProofError: They are not part of the tree.
        ValueError: There are not as many `before` as the package's place needs.

    Source: C2SP tlog-mirror; SPEC.md#uploads.
    """
    if len(before) != package.first_index % TILE_WIDTH:
        raise ValueError("the entries before do not reach from the bundle's start")
    hashes = [*before, *leaf_hashes(package.entries)]
    verify_subtree(
        root_of(hashes),
        package.proof,
        leaves=range(package.first_index - len(before), package.end),
        tree_size=tree_size,
        root_hash=root_hash,
    )
    return hashes


@dataclass(frozen=True, slots=True)
class MirrorInfo:
    """What a mirror answers if an upload does not fit, or is not complete.

    Attributes:
        tree_size: Size of a checkpoint that an upload may lead up to.
        next_entry: Index of the first entry that the mirror lacks.
        ticket: To be sent back with the next request.

    Source: C2SP tlog-mirror; SPEC.md#uploads.
    """

    tree_size: int
    next_entry: int
    ticket: bytes = b""


def encode_mirror_info(info: MirrorInfo) -> bytes:
    """Write what a mirror answers.

    Raises:
        MalformedError: A number is out of its range.
        TooLargeError: The ticket is too long.

    Source: C2SP tlog-mirror; SPEC.md#uploads.
    """
    ticket = encode_base64(info.ticket)
    raw = f"{info.tree_size}\n{info.next_entry}\n{ticket}\n".encode()
    # Whatever can be read comes back as it was; the rest is refused here.
    parse_mirror_info(raw)
    return raw


def parse_mirror_info(raw: bytes) -> MirrorInfo:
    """Read what a mirror answers.

    Raises:
        MalformedError: The bytes are not three lines of two numbers and a ticket.
        TooLargeError: The ticket is too long.

    Source: C2SP tlog-mirror; SPEC.md#uploads.
    """
    if len(raw) > MAX_MIRROR_INFO_BYTES:
        raise TooLargeError(_INFO, MAX_MIRROR_INFO_BYTES)
    lines = raw.split(b"\n", _INFO_LINES)
    if len(lines) != _INFO_LINES + 1 or lines.pop():
        raise MalformedError(_INFO, "it is not three lines")
    ticket = parse_base64(lines[2], _INFO)
    if len(ticket) > MAX_TICKET_BYTES:
        raise TooLargeError("ticket", MAX_TICKET_BYTES)
    return MirrorInfo(
        parse_decimal(lines[0], _INFO), parse_decimal(lines[1], _INFO), ticket
    )


def find_conflict(
    head: AddEntries,
    *,
    pending_sizes: Collection[int],
    mirror_size: int,
    next_entry: int,
) -> MirrorInfo | None:
    """Tell whether an upload does not fit what a mirror has.

    Args:
        head: Head of the upload.
        pending_sizes: Sizes of the log's checkpoints that the mirror knows and would
            let an upload lead up to.
        mirror_size: Size up to which it has cosigned as a mirror.
        next_entry: Index of the first entry that it lacks.

    Returns:
        What to answer with 409, without a ticket; None if the upload fits.

    Source: C2SP tlog-mirror; SPEC.md#uploads.
    """
    end = head.upload_end
    if end not in pending_sizes or end < mirror_size:
        return MirrorInfo(max(pending_sizes, default=0), next_entry)
    # Whoever has nothing left to send begins at the end, wherever the mirror is.
    wanted = min(next_entry, end)
    if wanted - wanted % TILE_WIDTH <= head.upload_start <= wanted:
        return None
    # The next request begins at `next_entry`, so it cannot end before that.
    return MirrorInfo(end if next_entry <= end else max(pending_sizes), next_entry)


def encode_add_bodies_path(bundle: BodyBundleId) -> str:
    """Write the path, below that of the mirrored log, to which bodies are uploaded.

    Raises:
        MalformedError: Index or width are out of range.

    Source: SPEC.md#uploads.
    """
    return _ADD + encode_tile_path(bundle)


def parse_add_bodies_path(path: str) -> BodyBundleId:
    """Read the path to which bodies are uploaded, in its one canonical form.

    Raises:
        MalformedError: The path names no body bundle.

    Source: SPEC.md#uploads.
    """
    if path.startswith(_ADD):
        bundle = parse_tile_path(path.removeprefix(_ADD))
        if isinstance(bundle, BodyBundleId):
            return bundle
    raise MalformedError("path", "it names no body bundle to add")
