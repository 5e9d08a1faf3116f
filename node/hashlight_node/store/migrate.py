"""Creates databases and brings them to the newest schema: `hashlight migrate`.

Nothing else changes a schema. A node that starts only checks it, so that an upgrade
happens when the operator says so and after the backup.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError

from hashlight_node.store.backends import backend_of
from hashlight_node.store.errors import SchemaError

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection


def migrate(url: str) -> str:
    """Create a database or upgrade it, whole or not at all.

    Args:
        url: `sqlite:///<file>`, whose directory must exist, or `postgresql://…`, which
            must be there and may be empty.

    Returns:
        The schema revision, now the newest.

    Raises:
        DatabaseInUseError: A node runs on it.
        DatabaseUnavailableError: Its server does not let us in.
        SchemaError: The database was made by a newer release.
        UnsupportedDatabaseError: The URL names something else.
    """
    backend = backend_of(url)
    backend.create()
    writer = backend.open_writer()
    try:
        with writer.transaction() as connection:
            return _upgrade(connection, backend.shown)
    finally:
        writer.close()


def configure(connection: Connection, scripts: Path) -> Config:
    """Make the configuration with which alembic works on an open connection.

    Args:
        connection: In a transaction, which the caller commits.
        scripts: Directory of the package `hashlight_migrations`.
    """
    config = Config()
    # Percent signs are syntax in alembic's settings.
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _upgrade(connection: Connection, shown: str) -> str:
    with as_file(files("hashlight_migrations")) as scripts:
        config = configure(connection, scripts)
        head = ScriptDirectory.from_config(config).as_revision_number("head")
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            found = MigrationContext.configure(connection).get_current_revision()
            raise SchemaError(shown, found, str(head)) from error
    return str(head)
