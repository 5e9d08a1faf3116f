"""Runs functions in transactions: one writer, several readers, never on the event loop.

Store functions are synchronous; `Database` is the bridge from async code to them.
Writers wait in line for one thread, so what commits first is applied to the matching
index first, and a compare-and-swap never loses to a neighbour in the same process.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Self, TypeVar

from sqlalchemy import Connection, inspect

from hashlight_node.store import sqlite
from hashlight_node.store.errors import SchemaError
from hashlight_node.store.tables import SCHEMA_REVISION

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Engine

# Code above the store knows no SQL: it takes the type of what it passes through here.
__all__ = ["Connection", "Database"]

T = TypeVar("T")

_READERS: Final = 4


class Database:
    """One open database. A process opens it once, after any fork."""

    def __init__(self, writer: Engine, reader: Engine, lock: sqlite.FileLock) -> None:
        self._writer = writer
        self._reader = reader
        self._lock = lock
        self._writing = ThreadPoolExecutor(1, "store-writer")
        self._reading = ThreadPoolExecutor(_READERS, "store-reader")

    @classmethod
    def open(cls, url: str) -> Self:
        """Open a database that `migrate` has prepared.

        Args:
            url: `sqlite:///<file>`.

        Raises:
            SchemaError: The database is missing or not at the newest migration.
            DatabaseInUseError: Another process has it open.
            ScrubError: Another program is reading it.
            UnsupportedDatabaseError: The URL names something else.
        """
        path = sqlite.database_path(url)
        if not path.exists():
            raise SchemaError(str(path), None, SCHEMA_REVISION)
        lock = sqlite.FileLock(path)
        writer = sqlite.writer_engine(path)
        try:
            _check_schema(writer, path)
            # If we were killed between an erase and its scrub, this ends it.
            sqlite.empty_wal(writer)
        except BaseException:
            writer.dispose()
            lock.release()
            raise
        return cls(writer, sqlite.reader_engine(path, _READERS), lock)

    async def read(self, function: Callable[[Connection], T]) -> T:
        """Run a function that reads; everything it sees is of one moment.

        Args:
            function: Called in another thread. What it returns must not depend on the
                connection, so iterators are used up inside.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reading, self._read, function)

    async def write(
        self,
        function: Callable[[Connection], T],
        *,
        after_commit: Callable[[T], None] | None = None,
    ) -> T:
        """Run a function that writes, and commit; all of it or, if it raises, nothing.

        The result is on disk when this returns. Cancelling a write that has begun does
        not stop it: it commits, and only its result is lost.

        Args:
            function: Called in the writer's thread, one at a time.
            after_commit: Called there with the result, right after the commit and
                before the next write begins. It must not fail: what it follows is
                already on disk.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._writing, self._write, function, after_commit
        )

    async def scrub(self) -> None:
        """Make sure that what an ERASE destroyed is in none of the files any more.

        Call it after the write that applied an ERASE and before telling anybody that
        it was applied.

        Raises:
            ScrubError: Readers kept old pages in use; try again.
        """
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._writing, sqlite.empty_wal, self._writer)

    async def close(self) -> None:
        """Finish what was begun and let go of the files; a second time does nothing."""
        await asyncio.to_thread(self._close)

    def _read(self, function: Callable[[Connection], T]) -> T:
        with self._reader.begin() as connection:
            return function(connection)

    def _write(
        self,
        function: Callable[[Connection], T],
        after_commit: Callable[[T], None] | None,
    ) -> T:
        with self._writer.begin() as connection:
            result = function(connection)
        if after_commit is not None:
            after_commit(result)
        return result

    def _close(self) -> None:
        self._reading.shutdown()
        self._writing.shutdown()
        self._reader.dispose()
        self._writer.dispose()
        self._lock.release()


def _check_schema(engine: Engine, path: Path) -> None:
    with engine.connect() as connection:
        found: str | None = None
        if inspect(connection).has_table("alembic_version"):
            query = "SELECT version_num FROM alembic_version"
            found = connection.exec_driver_sql(query).scalar()
    if found != SCHEMA_REVISION:
        raise SchemaError(str(path), found, SCHEMA_REVISION)
