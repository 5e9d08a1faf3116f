"""What the whole federation needs.

Grants with a scope, relays, every delivery receipt, acknowledgements that come through
a relay, logs that forked, and sightings that wait to be published.

Revision: 0004.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_NEW_TABLES = ("relay_grants", "relayed_acknowledgements", "forks", "pending_sightings")
_NEW_COLUMNS = {
    "peers": ("is_dialable",),
    "grants": ("scope", "may_relay"),
    "follows": ("via", "scope", "may_relay", "grants_version"),
    "logs": ("counts_from", "counts_until"),
    "records": ("same_as",),
}


def upgrade() -> None:
    """Add columns and tables; keep the deliveries that there are."""
    op.add_column("peers", _number("is_dialable", "1"))
    op.add_column("grants", sa.Column("scope", sa.Text()))
    op.add_column("grants", _number("may_relay", "0"))
    op.add_column("follows", sa.Column("via", sa.Text()))
    op.add_column("follows", sa.Column("scope", sa.Text()))
    op.add_column("follows", _number("may_relay", "0"))
    op.add_column(
        "follows",
        sa.Column(
            "grants_version", sa.BigInteger(), nullable=False, server_default="0"
        ),
    )
    op.create_index(
        "ix_records_withheld",
        "records",
        ["log_id", "leaf_index"],
        sqlite_where=sa.text("status = 2"),
        postgresql_where=sa.text("status = 2"),
    )
    _create_epochs()
    _create_relaying()
    _create_forks()
    _create_pending_sightings()
    _write_deliveries_anew("log_id", "peer_id", "tree_size", "cosigned_at")


def downgrade() -> None:
    """Keep the newest delivery of each peer, and remove the rest."""
    op.execute(
        "DELETE FROM deliveries WHERE EXISTS (SELECT 1 FROM deliveries AS later "
        "WHERE later.log_id = deliveries.log_id "
        "AND later.peer_id = deliveries.peer_id "
        "AND (later.tree_size > deliveries.tree_size "
        "OR (later.tree_size = deliveries.tree_size "
        "AND later.cosigned_at > deliveries.cosigned_at)))"
    )
    _write_deliveries_anew("log_id", "peer_id")
    op.drop_index("ix_records_withheld", "records")
    op.drop_index("ix_records_same_as", "records")
    for table in _NEW_TABLES:
        op.drop_table(table)
    for table, columns in _NEW_COLUMNS.items():
        for column in columns:
            op.drop_column(table, column)


def _number(name: str, default: str) -> "sa.Column[int]":
    return sa.Column(name, sa.SmallInteger(), nullable=False, server_default=default)


def _create_epochs() -> None:
    op.add_column("logs", sa.Column("counts_from", sa.BigInteger(), server_default="0"))
    op.add_column("logs", sa.Column("counts_until", sa.BigInteger()))
    op.add_column("records", sa.Column("same_as", _KEY))
    op.create_index(
        "ix_records_same_as",
        "records",
        ["same_as"],
        sqlite_where=sa.text("same_as IS NOT NULL"),
        postgresql_where=sa.text("same_as IS NOT NULL"),
    )


def _create_relaying() -> None:
    op.create_table(
        "relay_grants",
        sa.Column("relay_grant_id", _KEY, nullable=False),
        sa.Column("peer_id", _KEY, nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("list_name", sa.Text(), nullable=False),
        sa.Column("granted_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["peer_id"], ["peers.peer_id"], name=op.f("fk_relay_grants_peer_id")
        ),
        sa.PrimaryKeyConstraint("relay_grant_id", name=op.f("pk_relay_grants")),
        sa.UniqueConstraint(
            "peer_id",
            "node",
            "list_name",
            name=op.f("uq_relay_grants_peer_id_node_list_name"),
        ),
    )
    op.create_table(
        "relayed_acknowledgements",
        sa.Column("log_id", _KEY, nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("tree_size", sa.BigInteger(), nullable=False),
        sa.Column("via_peer_id", _KEY, nullable=False),
        sa.Column("acknowledged_at", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.Column("identity_vkey", sa.Text(), nullable=False),
        sa.Column("descriptor", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["log_id"], ["logs.log_id"], name=op.f("fk_relayed_acknowledgements_log_id")
        ),
        sa.ForeignKeyConstraint(
            ["via_peer_id"],
            ["peers.peer_id"],
            name=op.f("fk_relayed_acknowledgements_via_peer_id"),
        ),
        sa.PrimaryKeyConstraint(
            "log_id", "node", "tree_size", name=op.f("pk_relayed_acknowledgements")
        ),
    )


def _create_forks() -> None:
    op.create_table(
        "forks",
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("evidence", sa.LargeBinary(), nullable=False),
        sa.Column("found_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("origin", name=op.f("pk_forks")),
    )


def _create_pending_sightings() -> None:
    op.create_table(
        "pending_sightings",
        sa.Column("ref_origin", sa.Text(), nullable=False),
        sa.Column("ref_index", sa.BigInteger(), nullable=False),
        sa.Column("signal_type", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "ref_origin",
            "ref_index",
            "signal_type",
            "outcome",
            name=op.f("pk_pending_sightings"),
        ),
    )


def _write_deliveries_anew(*key: str) -> None:
    """Give the deliveries another key; SQLite changes none in place."""
    op.rename_table("deliveries", "deliveries_before")
    if op.get_context().dialect.name != "sqlite":  # SQLite does not name them apart.
        op.execute(
            "ALTER TABLE deliveries_before DROP CONSTRAINT pk_deliveries, "
            "DROP CONSTRAINT fk_deliveries_log_id, "
            "DROP CONSTRAINT fk_deliveries_peer_id"
        )
    op.create_table(
        "deliveries",
        sa.Column("log_id", _KEY, nullable=False),
        sa.Column("peer_id", _KEY, nullable=False),
        sa.Column("tree_size", sa.BigInteger(), nullable=False),
        sa.Column("cosigned_at", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["log_id"], ["logs.log_id"], name=op.f("fk_deliveries_log_id")
        ),
        sa.ForeignKeyConstraint(
            ["peer_id"], ["peers.peer_id"], name=op.f("fk_deliveries_peer_id")
        ),
        sa.PrimaryKeyConstraint(*key, name=op.f("pk_deliveries")),
    )
    op.execute(
        "INSERT INTO deliveries (log_id, peer_id, tree_size, cosigned_at, note) "
        "SELECT log_id, peer_id, tree_size, cosigned_at, note FROM deliveries_before"
    )
    op.drop_table("deliveries_before")
