"""What can go wrong in the store.

StoreError
├── SchemaError               the database is missing, or of another release
├── DatabaseInUseError        another process owns the database
├── DatabaseUnavailableError  the server of the database does not let us in
├── UnsupportedDatabaseError  the URL names a database we cannot use
├── ScrubError                erased bytes could not be removed yet
├── LogExistsError            a log of that origin is already there
├── LogMovedError             a log is not at the size the caller saw
├── MissingTileError          a tile that must be stored is not
├── PeerExistsError           a peer of that name is already pinned
└── HeadMovedError            a larger or other checkpoint of a log was seen meanwhile
"""

from typing import Final

from sqlalchemy.exc import OperationalError


class StoreError(Exception):
    """Something the store refuses; only subclasses are raised."""


class SchemaError(StoreError):
    """The database is not at the schema that this release works with.

    Attributes:
        found: Its schema revision, None if it has none.
        expected: The revision this release needs.
    """

    def __init__(self, database: str, found: str | None, expected: str) -> None:
        state = "is empty or missing" if found is None else f"is at schema {found}"
        super().__init__(
            f"database {database} {state}, this release needs {expected}: "
            "run `hashlight migrate`"
        )
        self.found = found
        self.expected = expected


class DatabaseInUseError(StoreError):
    """Another process, for example a running node, owns the database.

    Attributes:
        database: Its file, or its URL without the password.
    """

    def __init__(self, database: str) -> None:
        super().__init__(
            f"database {database} is in use by another process; "
            "stop the node that runs on it first"
        )
        self.database = database


class DatabaseUnavailableError(StoreError):
    """The server of a database is not there, or refuses us.

    Attributes:
        database: The URL, without its password.
        reason: What it says, one line.
    """

    def __init__(self, database: str, reason: str) -> None:
        super().__init__(f"database {database} cannot be reached: {reason}")
        self.database = database
        self.reason = reason


class UnsupportedDatabaseError(StoreError):
    """The URL does not name a database that a node can work with.

    Attributes:
        database: The URL, without its password.
        reason: What is wrong with it.
    """

    def __init__(
        self, database: str, reason: str = "expected sqlite:///<file> or postgresql://…"
    ) -> None:
        super().__init__(f"database {database} cannot be used: {reason}")
        self.database = database
        self.reason = reason


class ScrubError(StoreError):
    """Readers kept an old state in use, so erased bytes may still be there."""

    def __init__(self) -> None:
        super().__init__("an old state is being read, and could not be removed")


class LogExistsError(StoreError):
    """A log of that origin is already stored.

    Attributes:
        origin: The log.
    """

    def __init__(self, origin: str) -> None:
        super().__init__(f"log {origin!r} exists already")
        self.origin = origin


class LogMovedError(StoreError):
    """A log is not at the size and root at which the caller saw it.

    Attributes:
        origin: The log.
    """

    def __init__(self, origin: str) -> None:
        super().__init__(f"log {origin!r} was changed meanwhile")
        self.origin = origin


class MissingTileError(StoreError):
    """A tile that belongs to a stored tree is not there: the database is damaged.

    Attributes:
        level: Level of the tile.
        index: Its position within the level.
    """

    def __init__(self, level: int, index: int) -> None:
        super().__init__(f"tile {index} of level {level} is missing")
        self.level = level
        self.index = index


class PeerExistsError(StoreError):
    """A peer of that name is already pinned.

    Attributes:
        name: Its node name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"peer {name!r} exists already")
        self.name = name


class HeadMovedError(StoreError):
    """A checkpoint does not follow the one that we witnessed last.

    Attributes:
        origin: The log.
    """

    def __init__(self, origin: str) -> None:
        super().__init__(
            f"another checkpoint of log {origin!r} was witnessed meanwhile"
        )
        self.origin = origin


_AWAY: Final = frozenset({"08", "57"})
"""Classes of SQLSTATE: the connection is lost, or an operator ended it."""


def is_server_away(error: Exception) -> bool:
    """Tell whether an error of the database only says that its server is not there.

    Args:
        error: Any; SQLite has no server.
    """
    if not isinstance(error, OperationalError):
        return False
    if getattr(error.orig, "sqlite_errorcode", None) is not None:
        return False
    # A connection that is lost has no code.
    return (getattr(error.orig, "sqlstate", None) or "08")[:2] in _AWAY
