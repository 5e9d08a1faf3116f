"""How a PostgreSQL server is set up, as far as a node depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from hashlight_node.store.errors import DatabaseUnavailableError

_CONNECT_SECONDS: Final = 5
_SHOWN: Final = (
    "server_version",
    "server_encoding",
    "fsync",
    "full_page_writes",
    "synchronous_commit",
    "data_checksums",
)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What a server says of itself.

    Attributes:
        version: Of the server.
        encoding: Of the database.
        fsync: Whether it waits for the disk.
        full_page_writes: Whether pages that were half written can be mended.
        synchronous_commit: When a commit is promised.
        data_checksums: Whether it notices pages that have changed by themselves.
    """

    version: str
    encoding: str
    fsync: bool
    full_page_writes: bool
    synchronous_commit: str
    data_checksums: bool


def read_server_settings(url: str) -> ServerSettings:
    """Ask a server.

    Args:
        url: `postgresql://…`.

    Raises:
        DatabaseUnavailableError: It does not let us in.
    """
    parsed = make_url(url)
    engine = create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        poolclass=NullPool,
        connect_args={"connect_timeout": _CONNECT_SECONDS},
    )
    asked = ", ".join(f"current_setting('{name}')" for name in _SHOWN)
    try:
        with engine.connect() as connection:
            row = [
                str(it) for it in connection.exec_driver_sql(f"SELECT {asked}").one()
            ]
    except DBAPIError as error:
        reason = str(error.orig).partition("\n")[0]
        shown = parsed.render_as_string(hide_password=True)
        raise DatabaseUnavailableError(shown, reason) from error
    version, encoding, fsync, pages, commit, checksums = row
    return ServerSettings(
        version, encoding, fsync == "on", pages == "on", commit, checksums == "on"
    )
