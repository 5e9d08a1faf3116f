"""What this node signed last of each of its logs, kept outside the database.

A database that is restored from a backup has forgotten what was signed since. If the
node then signed on, peers would see two histories. So what was signed last is kept in a
directory of its own, which belongs into no backup, and nothing is signed that does not
extend it.

A log has up to three files, each a note as it was signed, named by the origin's hash:

    <hash>.signed         what the database had when the last signature was committed
    <hash>.prepared       what is about to be committed; becomes `.signed` after that
    <hash>.contradiction  what we also signed, and what does not fit: two histories

Between the two phases a crash leaves both files, and a database that stands at either
is one that crashed; anything older was restored.

One process at a time may hold the directory: two that sign with the same keys would
fork every log.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from hashlight_protocol import (
    KnownHead,
    ProtocolError,
    origin_hash,
    parse_checkpoint,
    parse_note,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedRandom
    from pathlib import Path

_MAX_BYTES: Final = 128 * 1024

_Kind = Literal["signed", "prepared", "contradiction"]
_KINDS: Final[tuple[_Kind, ...]] = ("signed", "prepared", "contradiction")


class LastSignedError(Exception):
    """The last-signed store cannot be used as it is; nothing can be signed.

    Attributes:
        path: The file or directory.
        reason: What the operator has to mend.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class LastSignedInUseError(LastSignedError):
    """Another process signs with the keys of this node."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            path,
            "is in use: another process signs for this node, and two would fork its "
            "logs; stop that one first",
        )


class NotNewestError(Exception):
    """A signature was wanted that does not extend what was signed last.

    Attributes:
        origin: The log.
        newest: What was signed last; None if that is not known.
    """

    def __init__(self, origin: str, newest: KnownHead | None) -> None:
        super().__init__(f"log {origin} has signed something else last")
        self.origin = origin
        self.newest = newest


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint of ours.

    Attributes:
        origin: The log.
        head: Size and root of its tree.
        note: The checkpoint as it was signed.
    """

    origin: str
    head: KnownHead
    note: bytes


def read_signed(note: bytes) -> Signed:
    """Read what a checkpoint of our own says; its signature is not looked at.

    Raises:
        ProtocolError: It is none.
    """
    checkpoint = parse_checkpoint(parse_note(note).text)
    head = KnownHead(checkpoint.tree_size, checkpoint.root_hash)
    return Signed(checkpoint.origin, head, note)


class LastSigned:
    """The last-signed store of one node, held by this process.

    Whatever changes it is called in the thread of the database's writer, so that it
    changes in the order of the commits.
    """

    def __init__(self, directory: Path, lock: BufferedRandom) -> None:
        self._directory = directory
        self._lock = lock
        self._known: dict[tuple[str, _Kind], Signed] = {}
        self._unsettled: set[str] = set()

    @classmethod
    def open(cls, directory: Path) -> LastSigned:
        """Take the store; a directory that does not exist is made, and knows nothing.

        Raises:
            LastSignedInUseError: Another process holds it.
            LastSignedError: It cannot be read, or is damaged.
        """
        with _told_by(directory):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(directory / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        store = cls(directory, os.fdopen(descriptor, "r+b"))
        try:
            store._take()
            store._load()
        except BaseException:
            store.close()
            raise
        return store

    def _take(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LastSignedInUseError(self._directory) from None

    def _load(self) -> None:
        with _told_by(self._directory):
            for draft in self._directory.glob("*.draft"):
                draft.unlink()
            for kind in _KINDS:
                for path in sorted(self._directory.glob(f"*.{kind}")):
                    signed = _read_file(path)
                    self._known[signed.origin, kind] = signed

    def close(self) -> None:
        """Let another process have it."""
        self._lock.close()

    def origins(self) -> frozenset[str]:
        """Name the logs of which it is known what was signed last."""
        return frozenset(origin for origin, kind in self._known if kind == "signed")

    def newest(self, origin: str) -> Signed | None:
        """Give what was signed last of a log, None if that is not known."""
        return self._known.get((origin, "signed"))

    def prepared(self, origin: str) -> Signed | None:
        """Give what was about to be committed."""
        return self._known.get((origin, "prepared"))

    def contradiction(self, origin: str) -> Signed | None:
        """Give a checkpoint of ours that does not fit to what we have."""
        return self._known.get((origin, "contradiction"))

    def prepare(self, note: bytes, *, extends: KnownHead) -> None:
        """Write down what is about to be committed: the compare and the swap's half.

        Durable when this returns. If the transaction then fails, nothing has to be
        done: what was prepared and never committed was never shown to anybody.

        Args:
            note: The signed checkpoint.
            extends: Head of the tree that it was built upon, as the database has it.

        Raises:
            NotNewestError: That is not what was signed last.
            LastSignedError: The disk does not take it.
        """
        signed = read_signed(note)
        self._compare(signed.origin, extends)
        self._write(signed, "prepared")

    def _compare(self, origin: str, extends: KnownHead) -> None:
        prepared, newest = self.prepared(origin), self.newest(origin)
        contradiction = self.contradiction(origin)
        if contradiction is not None:
            raise NotNewestError(origin, contradiction.head)
        if prepared is not None and prepared.head == extends:
            # By the same transaction; or it was committed, and the disk did not let us
            # say so then.
            if origin in self._unsettled:
                self.settle(origin)
        elif newest is None:
            if extends.tree_size:
                raise NotNewestError(origin, None)
        elif newest.head != extends:
            raise NotNewestError(origin, newest.head)

    def settle(self, origin: str) -> None:
        """Say that what was prepared is committed.

        Raises:
            LastSignedError: The disk does not take it. The next `prepare` does it.
        """
        prepared = self._known.get((origin, "prepared"))
        if prepared is None:
            return
        self._unsettled.add(origin)
        with _told_by(self._directory):
            self._path(origin, "prepared").replace(self._path(origin, "signed"))
            self._known[origin, "signed"] = prepared
            del self._known[origin, "prepared"]
            _sync_directory(self._directory)
        self._unsettled.discard(origin)

    def discard(self, origin: str) -> None:
        """Forget what was prepared and never committed."""
        with _told_by(self._directory):
            self._path(origin, "prepared").unlink(missing_ok=True)
        self._known.pop((origin, "prepared"), None)

    def learn(self, note: bytes) -> None:
        """Write down that this was signed last: a peer has it, or an operator says so.

        Raises:
            LastSignedError: The disk does not take it.
        """
        signed = read_signed(note)
        self._write(signed, "signed")
        self.discard(signed.origin)

    def contradict(self, note: bytes) -> None:
        """Write down that this was signed too, although it does not fit.

        Raises:
            LastSignedError: The disk does not take it.
        """
        self._write(read_signed(note), "contradiction")

    def _write(self, signed: Signed, kind: _Kind) -> None:
        path = self._path(signed.origin, kind)
        draft = path.with_suffix(".draft")
        with _told_by(path):
            draft.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
                file.write(signed.note)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            _sync_directory(self._directory)
        self._known[signed.origin, kind] = signed

    def _path(self, origin: str, kind: _Kind) -> Path:
        return self._directory / f"{origin_hash(origin)}.{kind}"


def read_newest(directory: Path, origin: str) -> bytes | None:
    """Read what was signed last of a log, whoever holds the store at the moment.

    Returns:
        The note; None if that is not known.

    Raises:
        LastSignedError: It cannot be read, or is damaged.
    """
    path = directory / f"{origin_hash(origin)}.signed"
    try:
        return _read_file(path).note
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LastSignedError(path, error.strerror or "cannot be used") from error


def _read_file(path: Path) -> Signed:
    with path.open("rb") as file:
        raw = file.read(_MAX_BYTES + 1)
    try:
        signed = read_signed(raw)
    except ProtocolError as error:
        raise LastSignedError(path, f"is damaged ({error})") from error
    if path.stem != origin_hash(signed.origin):
        raise LastSignedError(path, f"is about another log, {signed.origin}")
    return signed


@contextmanager
def _told_by(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LastSignedError(path, error.strerror or "cannot be used") from error


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
