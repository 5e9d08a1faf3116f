"""The snapshot on disk from which memory is filled when a node starts.

It is never trusted further than the store: what changed since is applied, and the
counts must then be the store's. And it never outlives what was erased: a signal that
dies is wiped from the file right after the commit that let it die, before anybody is
told of that commit; if we are killed in between, the next start does it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import structlog

from hashlight_node.matching.candidates import PDQ
from hashlight_node.matching.snapshot import (
    Flaw,
    SnapshotError,
    SnapshotFile,
    TooScatteredError,
    encode,
    head_of,
)
from hashlight_node.model import FeedMark, signal_digest
from hashlight_node.store import changes, signals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from hashlight_node.matching.matcher import Matcher, Rows
    from hashlight_node.model import Clock, SignalChange
    from hashlight_node.store.database import Connection, Database

_PAGE: Final = 10_000
"""Changes read at a time."""

_FEW_CHANGES: Final = 100_000
"""Changes that are always worth applying; more are if they are fewer than the rows."""

_EXPORTS: Final = 2
"""Snapshots that are made for others at the same time, each a copy of the memory."""

_WIPED_BLOCKS: Final = 1024
"""Most blocks that are wiped after one commit: 64 MiB, some tenths of a second. Where
more is to be wiped the file is deleted, and the next one is written without it."""

_UNNAMED: Final = getattr(os, "O_TMPFILE", os.O_CREAT)
"""Without it opening a directory for writing fails, as on systems that cannot do it."""

_log = structlog.get_logger()


class Filled(NamedTuple):
    """How memory was filled.

    Attributes:
        mark: The last change of the store by then.
        flaw: Why the snapshot was not used; None if it was.
    """

    mark: FeedMark
    flaw: Flaw | None


def fill(conn: Connection, matcher: Matcher, path: Path) -> Filled:
    """Fill an empty matcher with everything that is live, from a snapshot if possible.

    Changes no file, so a process may do this that only reads.

    Args:
        conn: A transaction.
        matcher: To be filled.
        path: The snapshot, which may be missing, damaged, old or another store's.
    """
    mark = changes.newest_mark(conn)
    try:
        rows = _read(conn, path)
    except SnapshotError as error:
        matcher.load(signals.live_signals(conn))
        return Filled(mark, error.flaw)
    matcher.restore(rows)
    return Filled(mark, None)


class Snapshots:
    """Keeps the snapshot of one node.

    Args:
        path: Where it is.
        database: The store.
        matcher: Holds what is live.
        clock: Unix seconds.
    """

    def __init__(
        self, path: Path, *, database: Database, matcher: Matcher, clock: Clock
    ) -> None:
        self._path = path
        self._draft = path.with_name(f"{path.name}.new")
        self._database = database
        self._matcher = matcher
        self._clock = clock
        self._saving = asyncio.Lock()
        self._exports = asyncio.Semaphore(_EXPORTS)
        # Guards what follows: the store's writer wipes while another thread saves.
        self._lock = threading.Lock()
        self._file: SnapshotFile | None = None
        self._died_meanwhile: set[int] | None = None

    def adopt(self, conn: Connection, filled: Filled) -> None:
        """Go on with the file that memory was filled from, or do away with it.

        Args:
            conn: A transaction in which nothing was written since `fill`.
            filled: What `fill` gave.
        """
        self._draft.unlink(missing_ok=True)
        if filled.flaw is not None:
            if filled.mark.seq:
                _log.info("memory is filled from the store", code=filled.flaw)
            self._path.unlink(missing_ok=True)
            return
        try:
            self._file = file = SnapshotFile.open(self._path)
        except (OSError, SnapshotError):
            # Gone since another process read it.
            self._path.unlink(missing_ok=True)
            return
        pages = _pages(conn, file.head.mark.seq)
        # At once, and however much: nobody waits for us yet.
        self._wipe([it.signal_id for page in pages for it in page if not it.live])

    def follow(self, applied: Iterable[SignalChange]) -> None:
        """Wipe what a commit let die.

        To be called by the store's writer after each commit, in their order, and after
        the matcher was told; readers should not have to wait for it. Never fails: a
        file that cannot be wiped, or not fast enough, is deleted.
        """
        changed = {it.signal_id: it.live for it in applied}
        dead = {signal_id for signal_id, is_live in changed.items() if not is_live}
        with self._lock:
            if self._died_meanwhile is not None:
                # What came back may be in the copy that is being written, and has to
                # stay there: the feed need not say again that it is live.
                self._died_meanwhile -= changed.keys() - dead
                self._died_meanwhile |= dead
            if dead:
                self._wipe(dead, max_blocks=_WIPED_BLOCKS)

    async def save(self) -> bool:
        """Write a new snapshot if there is anything new.

        Once begun it goes on even if the caller is cancelled: a file that is half
        written must learn of every signal that dies until it is in its place.

        Returns:
            Whether a new one was written; if the disk refused, the old one stays.
        """
        return await asyncio.shield(asyncio.ensure_future(self._save()))

    @asynccontextmanager
    async def export(self) -> AsyncIterator[Iterator[bytes]]:
        """Write a snapshot of this moment for somebody else, piece by piece.

        It is all in memory until then, so few are written at a time; others wait.
        """
        async with self._exports:
            mark, rows = await self._take()
            yield encode(head_of(rows, mark, written_at=self._clock()), rows)

    async def close(self) -> None:
        """Finish what was begun, and let go of the file."""
        async with self._saving:
            if self._file is not None:
                self._file.close()
                self._file = None

    async def _save(self) -> bool:
        async with self._saving:
            mark = await self._database.read(changes.newest_mark)
            if mark == FeedMark():
                # Nothing changed since the feed exists. It has to begin somewhere, so
                # that a file can say where it ends.
                mark = await self._database.write(
                    lambda conn: changes.begin_feed(conn, now=self._clock())
                )
            known = None if self._file is None else self._file.head.mark
            if mark in (known, FeedMark()):
                return False
            with self._lock:
                self._died_meanwhile = set()
            try:
                mark, rows = await self._take()
                await asyncio.to_thread(self._replace, mark, rows)
            except OSError as error:
                _log.error("snapshot cannot be written", code=_reason(error))
                return False
            finally:
                with self._lock:
                    self._died_meanwhile = None
            return True

    async def _take(self) -> tuple[FeedMark, Rows]:
        """Copy what is live.

        What changes while PDQ hashes are copied may be in the copy or not. It stands
        in the feed after the mark, so whoever reads the copy looks at it again.
        """
        mark, exact = await self._database.write(
            lambda conn: (changes.newest_mark(conn), self._matcher.export_exact())
        )
        return mark, await asyncio.to_thread(self._matcher.with_pdq, exact)

    def _wipe(self, dead: Iterable[int], *, max_blocks: int | None = None) -> None:
        if self._file is None:
            return
        try:
            self._file.wipe(dead, max_blocks=max_blocks)
        except TooScatteredError:
            _log.info("snapshot is deleted, because much of it died")
        except OSError as error:
            _log.error("snapshot cannot be wiped and is deleted", code=_reason(error))
        else:
            return
        self._file.close()
        self._file = None
        with suppress(OSError):
            self._path.unlink()

    def _replace(self, mark: FeedMark, rows: Rows) -> None:
        head = head_of(rows, mark, written_at=self._clock())
        try:
            draft = _write(self._draft, encode(head, rows))
            with self._lock:
                file = SnapshotFile(draft)
                self._put_in_place(file, draft)
        except BaseException:
            self._draft.unlink(missing_ok=True)
            raise

    def _put_in_place(self, file: SnapshotFile, draft: int) -> None:
        try:
            # What died since the export was told to us, under this very lock.
            file.wipe(self._died_meanwhile or ())
            _name(draft, self._draft)
            self._draft.rename(self._path)
        except BaseException:
            file.close()
            raise
        old, self._file = self._file, file
        if old is not None:
            old.close()
        _sync_directory(self._path.parent)


def discard(path: Path) -> None:
    """Delete a snapshot that nobody keeps wiped any more."""
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}.new").unlink(missing_ok=True)


def _read(conn: Connection, path: Path) -> Rows:
    """Read a snapshot and bring it up to date.

    Raises:
        SnapshotError: It cannot be used.
    """
    try:
        file = SnapshotFile.open(path)
    except FileNotFoundError:
        raise SnapshotError(Flaw.MISSING) from None
    except OSError as error:
        raise SnapshotError(Flaw.UNREADABLE) from error
    try:
        _verify_history(conn, file)
        with ThreadPoolExecutor(1) as pool:
            # Both take long, and neither holds up the other.
            counting = pool.submit(signals.count_live, conn)
            rows = file.load()
            sizes = counting.result()
        rows = _catch_up(conn, file.head.mark.seq, rows)
    except OSError as error:
        raise SnapshotError(Flaw.UNREADABLE) from error
    finally:
        file.close()
    found = (len(rows.pdq_ids), len(rows.exact_ids))
    if found != (sizes.pop(PDQ, 0), sum(sizes.values())):
        raise SnapshotError(Flaw.INCOMPLETE)
    return rows._replace(exact_sizes=sizes)


def _verify_history(conn: Connection, file: SnapshotFile) -> None:
    mark = file.head.mark
    if mark.seq == 0 or changes.find_mark(conn, mark.seq) != mark:
        raise SnapshotError(Flaw.OTHER_HISTORY)
    behind = changes.newest_seq(conn) - mark.seq
    if behind > max(_FEW_CHANGES, file.head.pdq_rows + file.head.exact_rows):
        raise SnapshotError(Flaw.TOO_OLD)


def _pages(conn: Connection, seq: int) -> Iterator[Sequence[SignalChange]]:
    while rows := changes.changes_after(conn, seq, _PAGE):
        seq = rows[-1][0]
        yield [change for _, change in rows]


def _catch_up(conn: Connection, seq: int, rows: Rows) -> Rows:
    """Apply what changed after a row of the feed."""
    # A change is read as its signal is now, so a signal that changed twice is the
    # same in both rows, and any of them may be kept.
    touched: set[int] = set()
    hashes: dict[int, bytes] = {}
    digests: dict[int, int] = {}
    for page in _pages(conn, seq):
        for change in page:
            touched.add(change.signal_id)
            if change.live and change.type == PDQ:
                hashes[change.signal_id] = bytes.fromhex(change.value)
            elif change.live:
                digests[change.signal_id] = signal_digest(change.type, change.value)
    if not touched:
        return rows
    changed = np.array(sorted(touched), dtype=np.int64)
    pdq = np.isin(rows.pdq_ids, changed, invert=True)
    exact = np.isin(rows.exact_ids, changed, invert=True)
    new_hashes = np.frombuffer(b"".join(hashes.values()), dtype=np.uint8)
    return rows._replace(
        pdq_ids=_append(rows.pdq_ids[pdq], list(hashes)),
        pdq_hashes=np.concatenate((rows.pdq_hashes[pdq], new_hashes.reshape(-1, 32))),
        exact_digests=_append(rows.exact_digests[exact], list(digests.values())),
        exact_ids=_append(rows.exact_ids[exact], list(digests)),
    )


def _append(
    numbers: NDArray[np.integer[Any]], more: Sequence[int]
) -> NDArray[np.int64]:
    return np.concatenate((numbers.astype(np.int64), np.array(more, dtype=np.int64)))


def _write(path: Path, pieces: Iterable[bytes]) -> int:
    """Write a file that has no name yet; give it, still open.

    Until it is wiped and in its place it may hold what is erased meanwhile. Without a
    name nobody can open it, and if we are killed the system destroys it.
    """
    path.unlink(missing_ok=True)
    file = _create(path)
    try:
        with os.fdopen(file, "wb", closefd=False) as opened:
            opened.writelines(pieces)
            opened.flush()
            os.fsync(file)
    except BaseException:
        os.close(file)
        raise
    return file


def _create(path: Path) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(path.parent, flags | _UNNAMED, 0o600)
    except OSError:
        # Not every file system can; there it has its name from the beginning.
        return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)


def _name(file: int, path: Path) -> None:
    """Give a file its name, unless it has one."""
    if os.fstat(file).st_nlink:
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # A directory of the source is what makes Python follow the link to the file.
        os.link(f"/proc/self/fd/{file}", path, src_dir_fd=directory)
    finally:
        os.close(directory)


def _sync_directory(directory: Path) -> None:
    file = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _reason(error: OSError) -> str:
    return "storage-full" if error.errno == errno.ENOSPC else "storage-error"
