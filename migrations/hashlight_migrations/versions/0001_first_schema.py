"""The first schema.

Revision: 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_TABLES = (
    "logs",
    "tiles",
    "entry_bundles",
    "withdrawals",
    "contents",
    "signal_values",
    "records",
    "signals",
    "record_signals",
    "opinions",
    "sightings",
    "peers",
    "grants",
    "grant_versions",
    "follows",
    "witnessed",
    "deliveries",
    "acknowledgements",
    "evidence",
    "tokens",
    "idempotency",
)


def upgrade() -> None:
    """Go to this revision."""
    _create_logs()
    _create_contents()
    _create_records()
    _create_peers()
    _create_signatures()
    _create_access()


def downgrade() -> None:
    """Go back to nothing."""
    for table in reversed(_TABLES):
        op.drop_table(table)


def _create_logs() -> None:
    # Logs and what proves them.
    op.create_table(
        "logs",
        sa.Column("log_id", _KEY, nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("origin_hash", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("list_name", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("tree_size", sa.BigInteger(), nullable=False),
        sa.Column("root_hash", sa.LargeBinary(), nullable=False),
        sa.Column("checkpoint", sa.LargeBinary()),
        sa.Column("checkpoint_size", sa.BigInteger(), nullable=False),
        sa.Column("mirror_checkpoint", sa.LargeBinary()),
        sa.Column("verified_at", sa.BigInteger()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("list_note", sa.LargeBinary()),
        sa.Column("list_note_version", sa.BigInteger(), nullable=False),
        sa.Column("meta", sa.Text(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("log_id", name=op.f("pk_logs")),
        sa.UniqueConstraint(
            "node", "list_name", "epoch", name=op.f("uq_logs_node_list_name_epoch")
        ),
        sa.UniqueConstraint("origin", name=op.f("uq_logs_origin")),
        sa.UniqueConstraint("origin_hash", name=op.f("uq_logs_origin_hash")),
    )
    op.create_table(
        "tiles",
        sa.Column("log_id", _KEY, nullable=False),
        sa.Column("level", sa.SmallInteger(), nullable=False),
        sa.Column("tile_index", sa.BigInteger(), nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["log_id"], ["logs.log_id"], name=op.f("fk_tiles_log_id")
        ),
        sa.PrimaryKeyConstraint("log_id", "level", "tile_index", name=op.f("pk_tiles")),
    )
    op.create_table(
        "entry_bundles",
        sa.Column("log_id", _KEY, nullable=False),
        sa.Column("bundle_index", sa.BigInteger(), nullable=False),
        sa.Column("entries", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["log_id"], ["logs.log_id"], name=op.f("fk_entry_bundles_log_id")
        ),
        sa.PrimaryKeyConstraint(
            "log_id", "bundle_index", name=op.f("pk_entry_bundles")
        ),
    )
    op.create_table(
        "withdrawals",
        sa.Column("log_id", _KEY, nullable=False),
        sa.Column("leaf_index", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("first_index", sa.BigInteger(), nullable=False),
        sa.Column("range_count", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.SmallInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["log_id"], ["logs.log_id"], name=op.f("fk_withdrawals_log_id")
        ),
        sa.PrimaryKeyConstraint("log_id", "leaf_index", name=op.f("pk_withdrawals")),
    )
    op.create_index(
        op.f("ix_withdrawals_log_id_first_index"),
        "withdrawals",
        ["log_id", "first_index"],
    )


def _create_contents() -> None:
    # What an ERASE must destroy.
    op.create_table(
        "contents",
        sa.Column("content_id", _KEY, nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("content_id", name=op.f("pk_contents")),
    )
    op.create_table(
        "signal_values",
        sa.Column("signal_id", _KEY, autoincrement=False, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("signal_id", name=op.f("pk_signal_values")),
    )


def _create_records() -> None:
    # Records, and what they state.
    op.create_table(
        "records",
        sa.Column("record_id", _KEY, nullable=False),
        sa.Column("log_id", _KEY, nullable=False),
        sa.Column("leaf_index", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("content_id", _KEY),
        sa.Column("expires_at", sa.BigInteger()),
        sa.Column("family", sa.BigInteger()),
        sa.Column("applied_at", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.SmallInteger()),
        sa.Column("withdrawn_by", sa.BigInteger()),
        sa.Column("withdrawn_at", sa.BigInteger()),
        sa.ForeignKeyConstraint(
            ["content_id"], ["contents.content_id"], name=op.f("fk_records_content_id")
        ),
        sa.ForeignKeyConstraint(
            ["log_id"], ["logs.log_id"], name=op.f("fk_records_log_id")
        ),
        sa.PrimaryKeyConstraint("record_id", name=op.f("pk_records")),
        sa.UniqueConstraint(
            "log_id", "leaf_index", name=op.f("uq_records_log_id_leaf_index")
        ),
    )
    op.create_index(
        op.f("ix_records_log_id_family_state"),
        "records",
        ["log_id", "family", "state"],
        sqlite_where=sa.text("family IS NOT NULL"),
        postgresql_where=sa.text("family IS NOT NULL"),
    )
    op.create_table(
        "signals",
        sa.Column("signal_id", _KEY, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("digest", sa.BigInteger(), nullable=False),
        sa.Column("live_count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("signal_id", name=op.f("pk_signals")),
    )
    op.create_index(op.f("ix_signals_digest"), "signals", ["digest"])
    op.create_table(
        "record_signals",
        sa.Column("signal_id", _KEY, nullable=False),
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
        sa.PrimaryKeyConstraint(
            "signal_id", "record_id", name=op.f("pk_record_signals")
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_record_signals_record_id"), "record_signals", ["record_id"]
    )
    op.create_table(
        "opinions",
        sa.Column("record_id", _KEY, autoincrement=False, nullable=False),
        sa.Column("ref_origin", sa.Text(), nullable=False),
        sa.Column("ref_index", sa.BigInteger(), nullable=False),
        sa.Column("signal_type", sa.Text()),
        sa.Column("stance", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.ForeignKeyConstraint(
            ["record_id"], ["records.record_id"], name=op.f("fk_opinions_record_id")
        ),
        sa.PrimaryKeyConstraint("record_id", name=op.f("pk_opinions")),
    )
    op.create_index(
        op.f("ix_opinions_ref_index_ref_origin"),
        "opinions",
        ["ref_index", "ref_origin"],
    )
    op.create_table(
        "sightings",
        sa.Column("record_id", _KEY, autoincrement=False, nullable=False),
        sa.Column("ref_origin", sa.Text(), nullable=False),
        sa.Column("ref_index", sa.BigInteger(), nullable=False),
        sa.Column("signal_type", sa.Text()),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["record_id"], ["records.record_id"], name=op.f("fk_sightings_record_id")
        ),
        sa.PrimaryKeyConstraint("record_id", name=op.f("pk_sightings")),
    )
    op.create_index(
        op.f("ix_sightings_ref_index_ref_origin"),
        "sightings",
        ["ref_index", "ref_origin"],
    )


def _create_peers() -> None:
    # Peers, and what goes to and fro.
    op.create_table(
        "peers",
        sa.Column("peer_id", _KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("identity_vkey", sa.Text(), nullable=False),
        sa.Column("descriptor", sa.LargeBinary(), nullable=False),
        sa.Column("descriptor_version", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.Column("contacted_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("peer_id", name=op.f("pk_peers")),
        sa.UniqueConstraint("name", name=op.f("uq_peers_name")),
    )
    op.create_table(
        "grants",
        sa.Column("grant_id", _KEY, nullable=False),
        sa.Column("peer_id", _KEY, nullable=False),
        sa.Column("list_name", sa.Text(), nullable=False),
        sa.Column("granted_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["peer_id"], ["peers.peer_id"], name=op.f("fk_grants_peer_id")
        ),
        sa.PrimaryKeyConstraint("grant_id", name=op.f("pk_grants")),
        sa.UniqueConstraint(
            "peer_id", "list_name", name=op.f("uq_grants_peer_id_list_name")
        ),
    )
    op.create_index(op.f("ix_grants_list_name"), "grants", ["list_name"])
    op.create_table(
        "grant_versions",
        sa.Column("peer_id", _KEY, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["peer_id"], ["peers.peer_id"], name=op.f("fk_grant_versions_peer_id")
        ),
        sa.PrimaryKeyConstraint("peer_id", name=op.f("pk_grant_versions")),
    )
    op.create_table(
        "follows",
        sa.Column("follow_id", _KEY, nullable=False),
        sa.Column("peer_id", _KEY, nullable=False),
        sa.Column("list_name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("followed_at", sa.BigInteger(), nullable=False),
        sa.Column("synced_at", sa.BigInteger()),
        sa.Column("error", sa.Text()),
        sa.ForeignKeyConstraint(
            ["peer_id"], ["peers.peer_id"], name=op.f("fk_follows_peer_id")
        ),
        sa.PrimaryKeyConstraint("follow_id", name=op.f("pk_follows")),
        sa.UniqueConstraint(
            "peer_id", "list_name", name=op.f("uq_follows_peer_id_list_name")
        ),
    )


def _create_signatures() -> None:
    # What peers signed, and what they did wrong.
    op.create_table(
        "witnessed",
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("origin_hash", sa.Text(), nullable=False),
        sa.Column("peer_id", _KEY, nullable=False),
        sa.Column("tree_size", sa.BigInteger(), nullable=False),
        sa.Column("root_hash", sa.LargeBinary(), nullable=False),
        sa.Column("checkpoint", sa.LargeBinary(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["peer_id"], ["peers.peer_id"], name=op.f("fk_witnessed_peer_id")
        ),
        sa.PrimaryKeyConstraint("origin", name=op.f("pk_witnessed")),
        sa.UniqueConstraint("origin_hash", name=op.f("uq_witnessed_origin_hash")),
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
        sa.PrimaryKeyConstraint("log_id", "peer_id", name=op.f("pk_deliveries")),
    )
    op.create_table(
        "acknowledgements",
        sa.Column("log_id", _KEY, nullable=False),
        sa.Column("peer_id", _KEY, nullable=False),
        sa.Column("tree_size", sa.BigInteger(), nullable=False),
        sa.Column("acknowledged_at", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["log_id"], ["logs.log_id"], name=op.f("fk_acknowledgements_log_id")
        ),
        sa.ForeignKeyConstraint(
            ["peer_id"], ["peers.peer_id"], name=op.f("fk_acknowledgements_peer_id")
        ),
        sa.PrimaryKeyConstraint(
            "log_id", "peer_id", "tree_size", name=op.f("pk_acknowledgements")
        ),
    )
    op.create_table(
        "evidence",
        sa.Column("evidence_id", _KEY, nullable=False),
        sa.Column("peer_id", _KEY, nullable=False),
        sa.Column("list_name", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("found_at", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["peer_id"], ["peers.peer_id"], name=op.f("fk_evidence_peer_id")
        ),
        sa.PrimaryKeyConstraint("evidence_id", name=op.f("pk_evidence")),
    )


def _create_access() -> None:
    # Access to the local API.
    op.create_table(
        "tokens",
        sa.Column("token_id", _KEY, nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_tokens_token_hash")),
    )
    op.create_table(
        "idempotency",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("token_id", _KEY, nullable=False),
        sa.Column("request_hash", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["token_id"], ["tokens.token_id"], name=op.f("fk_idempotency_token_id")
        ),
        sa.PrimaryKeyConstraint("key", "token_id", name=op.f("pk_idempotency")),
    )
    op.create_index(op.f("ix_idempotency_created_at"), "idempotency", ["created_at"])
