"""What fast and explainable lookups need.

A feed of what became live or died, the checkpoints a list has had here, matches that
were logged with the policy that decided them, and the operator's allow list.

Revision: 0002.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "signal_changes",
        sa.Column("seq", _KEY, nullable=False, autoincrement=False),
        sa.Column("signal_id", _KEY, nullable=False),
        sa.Column("is_live", sa.SmallInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_signal_changes")),
    )
    op.create_table(
        "checkpoints",
        sa.Column("log_id", _KEY, nullable=False),
        sa.Column("tree_size", sa.BigInteger(), nullable=False),
        sa.Column("root_hash", sa.LargeBinary(), nullable=False),
        sa.Column("applied_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["log_id"], ["logs.log_id"], name=op.f("fk_checkpoints_log_id")
        ),
        sa.PrimaryKeyConstraint("log_id", "tree_size", name=op.f("pk_checkpoints")),
    )
    # Where every list stands now; what was before is not known.
    op.execute(
        "INSERT INTO checkpoints (log_id, tree_size, root_hash, applied_at) "
        "SELECT log_id, tree_size, root_hash, verified_at FROM logs "
        "WHERE checkpoint_size = tree_size AND verified_at IS NOT NULL"
    )
    op.create_table(
        "policies",
        sa.Column("policy_id", _KEY, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("first_used_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("policy_id", name=op.f("pk_policies")),
        sa.UniqueConstraint("digest", name=op.f("uq_policies_digest")),
    )
    op.create_table(
        "matches",
        sa.Column("match_id", _KEY, nullable=False),
        sa.Column("matched_at", sa.BigInteger(), nullable=False),
        sa.Column("policy_id", _KEY, nullable=False),
        sa.Column("handling", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["policy_id"], ["policies.policy_id"], name=op.f("fk_matches_policy_id")
        ),
        sa.PrimaryKeyConstraint("match_id", name=op.f("pk_matches")),
    )
    op.create_index(op.f("ix_matches_matched_at"), "matches", ["matched_at"])
    op.create_table(
        "allowed_signals",
        sa.Column("allowed_id", _KEY, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("max_distance", sa.SmallInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("allowed_id", name=op.f("pk_allowed_signals")),
        sa.UniqueConstraint(
            "type", "value", name=op.f("uq_allowed_signals_type_value")
        ),
    )


def downgrade() -> None:
    """Remove the tables; what they held is lost."""
    for table in (
        "allowed_signals",
        "matches",
        "policies",
        "checkpoints",
        "signal_changes",
    ):
        op.drop_table(table)
