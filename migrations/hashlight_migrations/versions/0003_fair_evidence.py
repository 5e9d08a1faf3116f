"""Finding what each log says of a signal, however much another one says of it.

The log of a record moves into the key of what it asserts, so that the first records of
every log are found without reading those of the log before.

Revision: 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TABLE = "record_signals"
_OLD = "record_signals_before"


def upgrade() -> None:
    """Write the table anew, in its new order."""
    _begin()
    _create(sa.Column("log_id", _KEY, nullable=False), "signal_id", "log_id")
    op.execute(
        f"INSERT INTO {_TABLE} (signal_id, log_id, record_id, quality) "  # noqa: S608 -- constants
        f"SELECT o.signal_id, r.log_id, o.record_id, o.quality FROM {_OLD} AS o "
        "JOIN records AS r ON r.record_id = o.record_id "
        "ORDER BY o.signal_id, r.log_id, o.record_id"
    )
    _finish()


def downgrade() -> None:
    """Write the table anew, in the order it had."""
    _begin()
    _create(None, "signal_id")
    op.execute(
        f"INSERT INTO {_TABLE} (signal_id, record_id, quality) "  # noqa: S608 -- constants
        f"SELECT signal_id, record_id, quality FROM {_OLD} "
        "ORDER BY signal_id, record_id"
    )
    _finish()


def _begin() -> None:
    op.drop_index(op.f("ix_record_signals_record_id"), _TABLE)
    op.rename_table(_TABLE, _OLD)
    if op.get_context().dialect.name != "sqlite":  # SQLite does not name them apart.
        op.execute(
            f"ALTER TABLE {_OLD} DROP CONSTRAINT pk_record_signals, "
            "DROP CONSTRAINT fk_record_signals_record_id, "
            "DROP CONSTRAINT fk_record_signals_signal_id"
        )


def _create(log: "sa.Column[int] | None", *key: str) -> None:
    columns = [sa.Column("signal_id", _KEY, nullable=False)]
    columns += [] if log is None else [log]
    op.create_table(
        _TABLE,
        *columns,
        sa.Column("record_id", _KEY, nullable=False),
        sa.Column("quality", sa.SmallInteger()),
        sa.ForeignKeyConstraint(
            ["record_id"],
            ["records.record_id"],
            name=op.f("fk_record_signals_record_id"),
        ),
        sa.ForeignKeyConstraint(
            ["signal_id"],
            ["signals.signal_id"],
            name=op.f("fk_record_signals_signal_id"),
        ),
        sa.PrimaryKeyConstraint(*key, "record_id", name=op.f("pk_record_signals")),
        sqlite_with_rowid=False,
    )


def _finish() -> None:
    op.drop_table(_OLD)
    op.create_index(op.f("ix_record_signals_record_id"), _TABLE, ["record_id"])
