"""The databases that a node can keep its store in, and which one a URL names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from hashlight_node.store.errors import UnsupportedDatabaseError
from hashlight_node.store.sqlite import SqliteFile, database_path

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sqlalchemy import Connection, Engine

_POSTGRESQL: Final = frozenset({"postgresql", "postgres"})


class CommitWatch(Protocol):
    """Tells whether anybody committed since it was last asked."""

    def version(self) -> int:
        """Give a number that is another one after every commit; for one thread."""
        ...

    @property
    def claim(self) -> int | None:
        """Number of the newest claim of the right to write, if they are counted."""
        ...

    def silent_seconds(self) -> float:
        """Tell since when there may be commits that the version does not count."""
        ...

    def close(self) -> None:
        """Let go of what it holds; a second time does nothing."""
        ...


class Writer(Protocol):
    """The right to write, which one process has at a time, and what writes."""

    @property
    def claim(self) -> int | None:
        """Number of this claim of the right, if they are counted."""
        ...

    def transaction(self) -> AbstractContextManager[Connection]:
        """Begin a transaction; it is committed if the block ends without an error."""
        ...

    def scrub(self) -> None:
        """Make sure that what was overwritten is not read again.

        Raises:
            ScrubError: Readers kept it in use; try again.
        """
        ...

    def close(self) -> None:
        """Let go of the connection, and of the right."""
        ...


class Backend(Protocol):
    """One database, not yet opened."""

    @property
    def shown(self) -> str:
        """What it is called in messages: no password."""
        ...

    def exists(self) -> bool:
        """Tell whether there is such a database, with or without tables."""
        ...

    def create(self) -> None:
        """Make it ready for its first migration, unless it is."""
        ...

    def open_writer(self) -> Writer:
        """Take the right to write.

        Raises:
            DatabaseInUseError: Another process has it.
        """
        ...

    def reader_engine(self, connections: int) -> Engine:
        """Build the engine of the threads that read; a transaction is one snapshot."""
        ...

    def watch(self) -> CommitWatch:
        """Begin to watch for commits of whoever writes."""
        ...


def backend_of(url: str) -> Backend:
    """Read which database a URL names.

    Raises:
        UnsupportedDatabaseError: None that a node can work with.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise UnsupportedDatabaseError("URL") from None
    if parsed.drivername in _POSTGRESQL and parsed.database:
        # Loaded here alone: its driver would cost each command a tenth of a second.
        from hashlight_node.store.postgresql import (  # noqa: PLC0415
            PostgresqlDatabase,
        )

        return PostgresqlDatabase(parsed)
    return SqliteFile(database_path(url))


def file_beside(url: str, directory: Path, ending: str) -> Path:
    """Name a file of ours that belongs to a database.

    Args:
        url: Of the database.
        directory: Where it is if the database is not a file on this machine.
        ending: What it is.
    """
    if make_url(url).drivername in _POSTGRESQL:
        return directory / f"hashlight.{ending}"
    store = database_path(url)
    return store.with_name(f"{store.name}.{ending}")
