"""Runs functions in transactions: one writer, several readers, never on the event loop.

Store functions are synchronous; `Database` is the bridge from async code to them.
Writers wait in line for one thread, so what commits first is applied to the matching
index first, and a compare-and-swap never loses to a neighbour in the same process.

`version` tells in a microsecond whether anything was committed since it was last asked,
so that what was read once can be kept in memory and still be exact.
"""

from __future__ import annotations

import asyncio
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self, TypeVar

from sqlalchemy import Connection, inspect
from typing_extensions import override

from hashlight_node.store.backends import backend_of
from hashlight_node.store.changed_bodies import collecting
from hashlight_node.store.errors import SchemaError
from hashlight_node.store.tables import SCHEMA_REVISION

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from hashlight_node.store.backends import Backend, Writer
    from hashlight_node.store.changed_bodies import BundlePlace, KeepsBodies

# Code above the store knows no SQL: it takes the type of what it passes through here.
__all__ = ["Connection", "Database", "Reader", "on_commit"]

T = TypeVar("T")

_READERS: Final = 4
_ON_COMMIT: Final = "hashlight-on-commit"


def on_commit(connection: Connection, do: Callable[[], None]) -> None:
    """Have something done once this write transaction is committed.

    In the writer's thread, before the commit is announced; never if it fails.

    Args:
        connection: In a transaction of `Database.write`.
        do: What; it may fail, which the caller of `write` is then told.
    """
    connection.info[_ON_COMMIT].append(do)


class Reader:
    """Reads a database that another process may be writing.

    Opened by every process that only looks things up. It takes no lock and never
    writes; each read sees all that was committed when it began.
    """

    def __init__(self, backend: Backend) -> None:
        self._reader = backend.reader_engine(_READERS)
        self._reading = ThreadPoolExecutor(_READERS, "store-reader")
        self._watch = backend.watch()

    @classmethod
    def open_reader(cls, url: str) -> Reader:
        """Open a database for reading only, whoever writes it.

        Args:
            url: `sqlite:///<file>` or `postgresql://…`.

        Raises:
            SchemaError: The database is missing or not at the newest migration.
            DatabaseUnavailableError: Its server does not let us in.
            UnsupportedDatabaseError: The URL names something else.
        """
        backend = _existing(url)
        engine = backend.reader_engine(1)
        try:
            with engine.connect() as connection:
                _check_schema(connection, backend)
        finally:
            engine.dispose()
        return Reader(backend)

    def version(self) -> int:
        """Tell at which commit we are: a number that changes with every one.

        What was read after asking stays exact until this gives another number. Takes
        microseconds, so it is asked on the event loop and before each lookup.
        """
        return self._watch.version()

    def silent_seconds(self) -> float:
        """Tell since when there may be commits that `version` does not count.

        More than a moment if the database is on a server that we cannot hear.
        """
        return self._watch.silent_seconds()

    async def read(self, function: Callable[[Connection], T]) -> T:
        """Run a function that reads; everything it sees is of one moment.

        Args:
            function: Called in another thread. What it returns must not depend on the
                connection, so iterators are used up inside.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reading, self._read, function)

    async def read_settled(self, function: Callable[[Connection], T]) -> T:
        """Run a function that reads, at a moment when no commit is half announced.

        What it sees is in step with what `after_commit` did in this process; a reader
        of another process's database announces nothing, so there it is `read`. Waiting
        for such a moment takes no thread from those that read.
        """
        return await self.read(function)

    async def close(self) -> None:
        """Finish what was begun and let go of the files; a second time does nothing."""
        await asyncio.to_thread(self._close)

    def _read(self, function: Callable[[Connection], T]) -> T:
        with self._reader.begin() as connection:
            return function(connection)

    def _close(self) -> None:
        self._reading.shutdown()
        self._watch.close()
        self._reader.dispose()


class Database(Reader):
    """One open database, written by us. A process opens it once, after any fork."""

    def __init__(self, backend: Backend, writer: Writer) -> None:
        super().__init__(backend)
        self._writer = writer
        self._writing = ThreadPoolExecutor(1, "store-writer")
        self._commits = _Commits()
        self._is_shared = False
        self._copies: KeepsBodies | None = None

    @classmethod
    def open(cls, url: str, *, shared: bool = False) -> Self:
        """Open a database that `migrate` has prepared.

        Args:
            url: `sqlite:///<file>` or `postgresql://…`.
            shared: Whether others wait for the right to write, and may have it when we
                lose it; then we watch for that.

        Raises:
            SchemaError: The database is missing or not at the newest migration.
            DatabaseInUseError: Another process has it open.
            DatabaseUnavailableError: Its server does not let us in.
            ScrubError: Another program is reading it.
            UnsupportedDatabaseError: The URL names something else.
        """
        backend = _existing(url)
        writer = backend.open_writer()
        try:
            with writer.transaction() as connection:
                _check_schema(connection, backend)
            # If we were killed between an erase and its scrub, this ends it.
            writer.scrub()
        except BaseException:
            writer.close()
            raise
        opened = cls(backend, writer)
        opened._is_shared = shared
        # From now on it is heard who has the right, before anybody asks.
        opened.silent_seconds()
        return opened

    def has_lost_right(self) -> bool:
        """Tell whether somebody else has taken the right to write, as far as we heard.

        Nothing that we try to write after that is committed, heard of or not.
        """
        claim = self._watch.claim
        return self._is_shared and claim is not None and claim != self._writer.claim

    @override
    def version(self) -> int:
        # Ours are the only commits, so counting them is enough.
        return self._commits.done

    @override
    def silent_seconds(self) -> float:
        if not self._is_shared:
            return 0.0
        silent = super().silent_seconds()
        # Ours are not the only commits any more.
        return math.inf if self.has_lost_right() else silent

    @override
    async def read_settled(self, function: Callable[[Connection], T]) -> T:
        loop = asyncio.get_running_loop()
        while True:
            await self._commits.settle()
            settled = await loop.run_in_executor(
                self._reading, self._read_settled, function
            )
            if settled is not None:
                return settled[0]

    async def write(
        self,
        function: Callable[[Connection], T],
        *,
        after_commit: Callable[[T], None] | None = None,
        then: Callable[[T], None] | None = None,
    ) -> T:
        """Run a function that writes, and commit; all of it or, if it raises, nothing.

        The result is on disk when this returns. Cancelling a write that has begun does
        not stop it: it commits, and only its result is lost.

        Args:
            function: Called in the writer's thread, one at a time.
            after_commit: Called there with the result, right after the commit and
                before the next write begins. It must not fail: what it follows is
                already on disk. Until it is done the commit is not announced: `version`
                stays, and `read_settled` waits. So it does what memory needs, no more.
            then: Called there after that, when the commit is announced but before this
                returns and the next write begins. It must not fail either, and may take
                longer: only writes wait for it.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._writing, self._write, function, after_commit, then
        )

    def keep_with(self, copies: KeepsBodies) -> None:
        """Have copies of body bundles follow what is written from now on."""
        self._copies = copies

    async def scrub(self) -> None:
        """Make sure that what an ERASE destroyed is in none of the files any more.

        Call it after the write that applied an ERASE and before telling anybody that
        it was applied.

        Raises:
            ScrubError: Readers kept old pages in use, or a copy could not be destroyed;
                try again.
        """
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._writing, self._scrub)

    def _read_settled(self, function: Callable[[Connection], T]) -> tuple[T] | None:
        """Read; None if a commit was or became half announced meanwhile."""
        began = self._commits.begun
        if self._commits.done != began:
            return None
        result = self._read(function)
        return (result,) if self._commits.begun == began else None

    def _write(
        self,
        function: Callable[[Connection], T],
        after_commit: Callable[[T], None] | None,
        then: Callable[[T], None] | None,
    ) -> T:
        changed: AbstractSet[BundlePlace] = frozenset()
        try:
            committed: list[Callable[[], None]] = []
            with self._writer.transaction() as connection:
                connection.info[_ON_COMMIT] = committed
                with collecting(connection) as changed:
                    result = function(connection)
                self._commits.begin()
            if after_commit is not None:
                after_commit(result)
            for do in committed:
                do()
        finally:
            self._commits.end()
            # Even if something failed after the commit. If the commit failed itself, a
            # copy too many is gone.
            self._follow(changed)
        if then is not None:
            then(result)
        return result

    def _follow(self, changed: AbstractSet[BundlePlace]) -> None:
        if self._copies is not None and changed:
            self._copies.forget(changed)

    def _scrub(self) -> None:
        self._writer.scrub()
        if self._copies is not None:
            self._copies.scrub()

    @override
    def _close(self) -> None:
        self._writing.shutdown()
        super()._close()
        self._writer.close()


class _Commits:
    """Counts commits, and tells when one is between being visible and being announced.

    Changed by the writer's thread only; waited for on event loops.

    Attributes:
        begun: How many were about to become visible to readers.
        done: How many of them are announced too; never more than `begun`.
    """

    def __init__(self) -> None:
        self.begun = 0
        self.done = 0
        self._lock = threading.Lock()
        self._waiting: list[asyncio.Future[None]] = []

    def begin(self) -> None:
        """Say that a commit is about to become visible."""
        self.begun += 1

    def end(self) -> None:
        """Say that it is announced, or has failed."""
        with self._lock:
            self.done = self.begun
            waiting, self._waiting = self._waiting, []
        for one in waiting:
            # A loop that is closed has nobody left who waits.
            with suppress(RuntimeError):
                one.get_loop().call_soon_threadsafe(_wake, one)

    async def settle(self) -> None:
        """Wait until none is between the two; another may be by the next moment."""
        with self._lock:
            if self.done == self.begun:
                return
            settled = asyncio.get_running_loop().create_future()
            self._waiting.append(settled)
        await settled


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def _existing(url: str) -> Backend:
    backend = backend_of(url)
    if not backend.exists():
        raise SchemaError(backend.shown, None, SCHEMA_REVISION)
    return backend


def _check_schema(connection: Connection, backend: Backend) -> None:
    found: str | None = None
    if inspect(connection).has_table("alembic_version"):
        query = "SELECT version_num FROM alembic_version"
        found = connection.exec_driver_sql(query).scalar()
    if found != SCHEMA_REVISION:
        raise SchemaError(backend.shown, found, SCHEMA_REVISION)
