"""PostgreSQL looks no more for what a new record refers to.

It asks once for each row and reference, which was half of its part in storing records.
SQLite keeps these references: they cost it little, and to drop one it would have to
write the table anew.

Revision: 0005.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_REFERENCES = (
    ("records", "log_id", "logs"),
    ("records", "content_id", "contents"),
    ("record_signals", "signal_id", "signals"),
    ("record_signals", "record_id", "records"),
)


def upgrade() -> None:
    """Drop the references of the tables that a record adds rows to."""
    if op.get_context().dialect.name != "postgresql":
        return
    for table, column, _ in _REFERENCES:
        op.drop_constraint(f"fk_{table}_{column}", table, type_="foreignkey")


def downgrade() -> None:
    """Check them all, and have them checked from then on."""
    if op.get_context().dialect.name != "postgresql":
        return
    for table, column, target in _REFERENCES:
        op.create_foreign_key(f"fk_{table}_{column}", table, target, [column], [column])
