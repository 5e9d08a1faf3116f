"""SQLite: how its files are created, locked and configured.

Everything that is particular to SQLite stands here, as what is particular to PostgreSQL
stands in `postgresql`; the rest of the store speaks SQL that both run.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from hashlight_node.store.errors import (
    DatabaseInUseError,
    ScrubError,
    UnsupportedDatabaseError,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

Begin = Literal["BEGIN", "BEGIN IMMEDIATE"]

_BUSY_SECONDS: Final = 5

_EVERY_CONNECTION: Final = (
    f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}",
    "PRAGMA foreign_keys = ON",
    # Deleted rows become zeros. What this does not reach is told in tables.py.
    "PRAGMA secure_delete = ON",
    # Sorting and statement journals hold content; they must not reach a file.
    "PRAGMA temp_store = MEMORY",
    # FULL waits for the disk at each commit. NORMAL would survive a killed process as
    # well, but a power cut could take back the last commits, and with them records
    # that we acknowledged and checkpoints that we signed: peers would see our log go
    # back, which no node can explain away.
    "PRAGMA synchronous = FULL",
)
_WRITER: Final = (
    # Of 1 KiB each: signals arrive in random order, so their index should fit.
    "PRAGMA cache_size = -65536",
    # Fewer, larger transfers from the write-ahead log; it is cut back after a rush.
    "PRAGMA wal_autocheckpoint = 4000",
    "PRAGMA journal_size_limit = 67108864",
)
_READER: Final = ("PRAGMA cache_size = -8192", "PRAGMA query_only = ON")


def database_path(url: str) -> Path:
    """Read which file a database URL names.

    Raises:
        UnsupportedDatabaseError: The URL is not of the form `sqlite:///<file>`.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise UnsupportedDatabaseError("URL") from None
    name = parsed.database
    if parsed.get_backend_name() != "sqlite" or not name or name == ":memory:":
        raise UnsupportedDatabaseError(parsed.render_as_string(hide_password=True))
    # Through links to the file itself, so that its lock is found by every name.
    return Path(name).resolve()


def create_file(path: Path) -> None:
    """Create an empty database that only its owner may read, unless it exists."""
    try:
        # The files that SQLite puts beside it inherit the permissions.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
    engine = create_engine(URL.create("sqlite", database=str(path)))
    with engine.connect() as connection:
        # Moving pages around would leave copies of content behind.
        connection.exec_driver_sql("PRAGMA auto_vacuum = NONE")
        # Tiles and bundles take 8 KiB and more.
        connection.exec_driver_sql("PRAGMA page_size = 8192")
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
    engine.dispose()


class FileLock:
    """The right to use a database file, held by one process at a time.

    The operating system gives it back when the process ends, however it ends. The lock
    file stays: removing it would let two processes lock two files of one name.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Args:
            path: The database file.

        Raises:
            DatabaseInUseError: Another process, or another `FileLock`, holds it.
        """
        lock = path.with_name(f"{path.name}.lock")
        self._file = os.fdopen(os.open(lock, os.O_CREAT | os.O_RDWR, 0o600), "rb")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise DatabaseInUseError(str(path)) from None

    def release(self) -> None:
        """Give the lock back; the database must be closed by then."""
        self._file.close()


class CommitWatch:
    """Tells whether anybody committed to a database file since it was last asked.

    SQLite keeps a number for that in memory that all its processes share. Asking is a
    microsecond's work on a connection of its own, which must be idle otherwise.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._version = 0
        self._trouble = 0

    def version(self) -> int:
        """Give a number that is another one after every commit; for one thread."""
        if self._connection is None:
            self._connection = sqlite3.connect(
                self._path, timeout=0, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA query_only = ON")
        try:
            row = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.OperationalError:
            # Its lock is held, by a recovery for example: anything may have changed.
            self._trouble += 1
        else:
            self._version = int(row[0])
        # `data_version` counts up by itself, so the sum never comes back.
        return self._version + self._trouble

    @property
    def claim(self) -> int | None:
        """Claims are not counted: the lock of a file is lost with its process only."""
        return None

    def silent_seconds(self) -> float:
        """Tell that the version counts every commit: the file itself was asked."""
        return 0.0

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class SqliteFile:
    """A database in one file; see `backends.Backend`.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def shown(self) -> str:
        """The file, for messages to the operator."""
        return str(self._path)

    def exists(self) -> bool:
        """Tell whether there is a file."""
        return self._path.exists()

    def create(self) -> None:
        """Create the file, empty, unless it exists."""
        create_file(self._path)

    def open_writer(self) -> SqliteWriter:
        """Take the right to write, which one process has at a time.

        Raises:
            DatabaseInUseError: Another process has it.
        """
        return SqliteWriter(FileLock(self._path), writer_engine(self._path))

    def reader_engine(self, connections: int) -> Engine:
        """Build the engine of the threads that read."""
        return reader_engine(self._path, connections)

    def watch(self) -> CommitWatch:
        """Begin to watch for commits of whoever writes."""
        return CommitWatch(self._path)


class SqliteWriter:
    """The right to write to a file, and the connection that does.

    Args:
        lock: Held until this is closed.
        engine: Of one connection.
    """

    def __init__(self, lock: FileLock, engine: Engine) -> None:
        self._lock = lock
        self._engine = engine

    @property
    def claim(self) -> int | None:
        """Claims are not counted."""
        return None

    def transaction(self) -> AbstractContextManager[Connection]:
        """Begin a transaction that is committed at its end."""
        return self._engine.begin()

    def scrub(self) -> None:
        """Empty the write-ahead log; see `empty_wal`."""
        empty_wal(self._engine)

    def close(self) -> None:
        """Close the connection, then give the right back."""
        self._engine.dispose()
        self._lock.release()


def writer_engine(path: Path) -> Engine:
    """Build the engine of the one thread that writes.

    Its transactions take the write lock when they begin. SQLite's default takes it at
    the first write, and then fails if another connection wrote since the first read.
    """
    return _engine(path, 1, (*_EVERY_CONNECTION, *_WRITER), "BEGIN IMMEDIATE")


def reader_engine(path: Path, connections: int) -> Engine:
    """Build the engine of the threads that read; a transaction is one snapshot."""
    return _engine(path, connections, (*_EVERY_CONNECTION, *_READER), "BEGIN")


def empty_wal(writer: Engine) -> None:
    """Move the write-ahead log into the database file and cut it to nothing.

    Raises:
        ScrubError: Readers held old snapshots for longer than the busy time-out.
    """
    # Beside SQLAlchemy, which would begin a transaction, in which this cannot run.
    connection = writer.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        row = cursor.fetchone()
        cursor.close()
    finally:
        connection.close()
    if row is None or row[0] != 0:
        raise ScrubError


def _engine(
    path: Path, connections: int, pragmas: tuple[str, ...], begin: Begin
) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        pool_size=connections,
        max_overflow=0,
        connect_args={"check_same_thread": False, "cached_statements": 512},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # Python's driver would begin transactions by itself, and too late.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine, "begin")
    def take(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
