"""Consistent copies of a store, made while its node runs, and put in place again.

SQLite copies its own file. What PostgreSQL holds is written and read by its own tools,
pg_dump and pg_restore, so a backup can be restored where no Hashlight is installed.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import subprocess
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import create_engine, func, inspect, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from hashlight_node.store import tables
from hashlight_node.store.backends import backend_of
from hashlight_node.store.errors import StoreError
from hashlight_node.store.logs import list_logs
from hashlight_node.store.sqlite import FileLock, SqliteFile, database_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import URL, Connection, Engine

    from hashlight_node.model import Log

_SIDE_FILES: Final = ("-wal", "-shm", "-journal")


class BackupError(StoreError):
    """A copy cannot be made or put in place; the message says why."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is in a copy.

    Attributes:
        schema: Revision of its schema.
        logs: Its logs.
    """

    schema: str
    logs: tuple[Log, ...]


def is_sqlite(url: str) -> bool:
    """Tell whether a store is a file.

    Raises:
        UnsupportedDatabaseError: The URL names no database that a node can use.
    """
    return isinstance(backend_of(url), SqliteFile)


def copy_store(url: str, target: Path) -> Facts:
    """Write a consistent copy into a new file that only its owner may read.

    Args:
        url: Of the store; its node may run.
        target: A file that does not exist.

    Raises:
        BackupError: The copy cannot be made; nothing is left of it.
    """
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        return _copy_file(url, target) if is_sqlite(url) else _dump(url, target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def holds_logs(url: str) -> bool:
    """Tell whether a store has anything that a restore would destroy."""
    backend = backend_of(url)
    if not backend.exists():
        return False
    engine = backend.reader_engine(1)
    try:
        with engine.connect() as connection:
            kept = (tables.logs, tables.peers)
            return any(
                inspect(connection).has_table(table.name)
                and connection.execute(select(func.count()).select_from(table)).scalar()
                for table in kept
            )
    finally:
        engine.dispose()


def put_in_place(url: str, source: Path) -> None:
    """Make a store what a copy holds, all of it or nothing.

    Args:
        url: Of the store; what is there is replaced.
        source: A file that `copy_store` wrote.

    Raises:
        DatabaseInUseError: A node runs on the store.
        BackupError: It cannot be done; what was there is there.
    """
    if is_sqlite(url):
        _place_file(database_path(url), source)
        return
    backend = backend_of(url)
    backend.create()
    # Held until the end: no node can start meanwhile.
    writer = backend.open_writer()
    try:
        with writer.transaction():
            pass
        _restore(make_url(url), source)
    finally:
        writer.close()


@contextmanager
def opened_copy(url: str, source: Path) -> Iterator[str]:
    """Give the URL of a database that holds what a copy holds, to look at it.

    Args:
        url: Of the store that the copy was made of; it is not touched. For a dump of
            PostgreSQL a database is made beside it, for as long as the block lasts.
        source: The copy.

    Raises:
        BackupError: The copy cannot be read.
    """
    if is_sqlite(url):
        yield f"sqlite:///{source.absolute()}"
        return
    name = f"hashlight_check_{secrets.token_hex(6)}"
    engine = _engine(url, "AUTOCOMMIT")
    create = f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'"
    try:
        with engine.connect() as connection, _told():
            connection.execute(text(create))
        try:
            beside = make_url(url).set(database=name)
            _restore(beside, source)
            yield beside.render_as_string(hide_password=False)
        finally:
            with engine.connect() as connection:
                connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    finally:
        engine.dispose()


def _copy_file(url: str, target: Path) -> Facts:
    path = database_path(url)
    if not path.exists():
        message = f"there is no database {path}"
        raise BackupError(message)
    # Not page by page: free pages, in which old content might be, are left out, and
    # every commit that comes meanwhile is wholly in or wholly out.
    with _told(), closing(sqlite3.connect(path, timeout=30)) as connection:
        connection.execute("VACUUM INTO ?", (str(target),))
    engine = create_engine(f"sqlite:///{target}", poolclass=NullPool)
    with engine.connect() as connection:
        return _facts(connection)


def _place_file(path: Path, source: Path) -> None:
    lock = FileLock(path)
    part = path.with_name(f"{path.name}.restoring")
    try:
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        shutil.copyfile(source, part)
        with _told(), closing(sqlite3.connect(part)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        _sync(part)
        # Commits that are only in the log beside the old file must not be applied to
        # the new one.
        with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(path)) as old:
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for ending in _SIDE_FILES:
            path.with_name(f"{path.name}{ending}").unlink(missing_ok=True)
            part.with_name(f"{part.name}{ending}").unlink(missing_ok=True)
        # What was live in the other store.
        path.with_name(f"{path.name}.index").unlink(missing_ok=True)
        part.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise BackupError(str(error)) from error
    finally:
        part.unlink(missing_ok=True)
        lock.release()


def _dump(url: str, target: Path) -> Facts:
    engine = _engine(url, "REPEATABLE READ")
    try:
        with _told(), engine.connect() as connection:
            snapshot = connection.execute(text("SELECT pg_export_snapshot()")).scalar()
            facts = _facts(connection)
            _run(
                make_url(url),
                "pg_dump",
                "--format=custom",
                "--no-owner",
                "--no-privileges",
                f"--snapshot={snapshot}",
                f"--file={target}",
            )
            return facts
    finally:
        engine.dispose()


def _restore(url: URL, source: Path) -> None:
    _run(
        url,
        "pg_restore",
        "--clean",
        "--if-exists",
        "--no-owner",
        "--no-privileges",
        "--single-transaction",
        "--exit-on-error",
        str(source),
    )


def _run(url: URL, program: str, *arguments: str) -> None:
    found = shutil.which(program)
    if found is None:
        message = f"{program} is not installed; it comes with PostgreSQL's client"
        raise BackupError(message)
    # The password must not be seen in the list of processes.
    bare = url.set(drivername="postgresql", password=None)
    database = f"--dbname={bare.render_as_string(hide_password=False)}"
    environment = dict(os.environ)
    if url.password:
        environment["PGPASSWORD"] = str(url.password)
    done = subprocess.run(  # noqa: S603 -- a program that the operator installed
        [found, database, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        # Two lines at most: what is wrong, and the versions if it is those.
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        said = "; ".join(lines[:2])
        message = f"{program} failed: {said}"
        raise BackupError(message)


def _facts(connection: Connection) -> Facts:
    query = "SELECT version_num FROM alembic_version"
    schema = connection.exec_driver_sql(query).scalar_one()
    return Facts(str(schema), tuple(list_logs(connection)))


def _engine(url: str, level: str) -> Engine:
    return create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        poolclass=NullPool,
        isolation_level=level,
    )


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, DBAPIError) as error:
        reason = str(getattr(error, "orig", error)).partition("\n")[0]
        message = f"the database cannot be copied: {reason}"
        raise BackupError(message) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
