"""What alembic runs before each command.

`hashlight migrate` hands over an open connection and commits by itself. Without one,
for `make migration`, the newest schema is built in memory first, so that the draft
contains what `tables.py` has and the migrations have not.
"""

from alembic import context
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, create_engine

from hashlight_node.store.tables import metadata


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        # SQLite cannot alter most things in place: alembic builds the table anew.
        render_as_batch=True,
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _draft() -> None:
    with create_engine("sqlite://").begin() as connection:
        migrations = MigrationContext.configure(connection)
        with Operations.context(migrations):
            for script in reversed(list(context.script.walk_revisions())):
                script.module.upgrade()
        migrations.stamp(context.script, "heads")
        _run(connection)


given = context.config.attributes.get("connection")
if isinstance(given, Connection):
    _run(given)
else:
    _draft()
