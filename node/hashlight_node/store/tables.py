"""The schema, as the newest migration leaves it.

Two kinds of tables. Most hold what may change and nothing that must be destroyable.
`contents` and `signal_values` hold everything that came out of a record's body, and
follow three rules, because SQLite's `secure_delete` overwrites a row that is deleted
but not the copies that page splits and merges leave in the free space of other pages:

1. rows are only ever added at the end, so no page is split;
2. rows are never deleted or resized: erasing overwrites them with as many zeros;
3. no column of theirs is indexed.

`docs/adr` says how that was found. Instants are Unix seconds and end in `_at`.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
)

SCHEMA_REVISION: Final = "0005"
"""Newest migration. A constant, so that a node does not load alembic to start."""

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite gives only INTEGER keys the rowid as their storage; it is 64 bits wide there.
_Key = BigInteger().with_variant(Integer(), "sqlite")


def _refers(column: str, target: str) -> ForeignKeyConstraint:
    """Refer to a row that the writer has numbered itself and that is never deleted.

    Only SQLite checks it. PostgreSQL runs a query for each row, half of what it takes
    to store a record; see docs/adr/0091.
    """
    return ForeignKeyConstraint([column], [target]).ddl_if(dialect="sqlite")


logs: Final = Table(
    "logs",
    metadata,
    Column("log_id", _Key, primary_key=True),
    Column("origin", Text, nullable=False, unique=True),
    Column("origin_hash", Text, nullable=False, unique=True),
    Column("node", Text, nullable=False),
    Column("list_name", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("role", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("tree_size", BigInteger, nullable=False),
    Column("root_hash", LargeBinary, nullable=False),
    Column("checkpoint", LargeBinary),
    Column("checkpoint_size", BigInteger, nullable=False),
    Column("mirror_checkpoint", LargeBinary),
    Column("verified_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("list_note", LargeBinary),
    Column("list_note_version", BigInteger, nullable=False),
    Column("meta", Text, nullable=False),
    Column("error", Text),
    # From when until when the log's records count in lookups; see epochs.py. Null: not
    # yet, because the log goes on an older one and is not whole here; still.
    Column("counts_from", BigInteger, server_default="0"),
    Column("counts_until", BigInteger),
    # How old a copy is when the clock went back; since when its records match no more.
    Column("doubted_at", BigInteger),
    Column("stale_at", BigInteger),
    UniqueConstraint("node", "list_name", "epoch"),
)

tiles: Final = Table(
    "tiles",
    metadata,
    Column("log_id", _Key, ForeignKey("logs.log_id"), primary_key=True),
    Column("level", SmallInteger, primary_key=True),
    Column("tile_index", BigInteger, primary_key=True),
    Column("hashes", LargeBinary, nullable=False),
)

entry_bundles: Final = Table(
    "entry_bundles",
    metadata,
    Column("log_id", _Key, ForeignKey("logs.log_id"), primary_key=True),
    Column("bundle_index", BigInteger, primary_key=True),
    Column("entries", LargeBinary, nullable=False),
)

contents: Final = Table(
    "contents",
    metadata,
    Column("content_id", _Key, primary_key=True),
    Column("salt", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    # What a lookup shows of the body, as JSON in ASCII; empty if it is no indicator.
    Column("evidence", Text, nullable=False),
)

records: Final = Table(
    "records",
    metadata,
    Column("record_id", _Key, primary_key=True),
    Column("log_id", _Key, nullable=False),
    Column("leaf_index", BigInteger, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("content_id", _Key),
    Column("expires_at", BigInteger),
    # Leaf index of the record that this one replaces in the end; see families.py.
    Column("family", BigInteger),
    Column("applied_at", BigInteger, nullable=False),
    Column("reason", SmallInteger),
    Column("withdrawn_by", BigInteger),
    Column("withdrawn_at", BigInteger),
    # The same number in all logs of a list into which a record was re-issued, the id of
    # the first of them; null in most, which were not.
    Column("same_as", _Key),
    UniqueConstraint("log_id", "leaf_index"),
    _refers("log_id", "logs.log_id"),
    _refers("content_id", "contents.content_id"),
)

Index(
    None,
    records.c.same_as,
    sqlite_where=records.c.same_as.is_not(None),
    postgresql_where=records.c.same_as.is_not(None),
)

# Bodies that we may get later; in a list that is granted whole there are none.
Index(
    "ix_records_withheld",
    records.c.log_id,
    records.c.leaf_index,
    sqlite_where=records.c.status == literal_column("2"),
    postgresql_where=records.c.status == literal_column("2"),
)

# Few records replace another, so the index holds only those.
Index(
    None,
    records.c.log_id,
    records.c.family,
    records.c.state,
    sqlite_where=records.c.family.is_not(None),
    postgresql_where=records.c.family.is_not(None),
)

signals: Final = Table(
    "signals",
    metadata,
    Column("signal_id", _Key, primary_key=True),
    Column("type", Text, nullable=False),
    # First 64 bits of a hash of type and value. Not unique: equality of the values
    # decides, the digest only finds them without an index over content.
    Column("digest", BigInteger, nullable=False, index=True),
    # Live records that assert the signal, over all logs.
    Column("live_count", BigInteger, nullable=False),
)

signal_values: Final = Table(
    "signal_values",
    metadata,
    # No foreign key: the emptied row outlives its signal, so that no id is ever used
    # for another value. An id that is in the air may then point to nothing, but never
    # to something else.
    Column("signal_id", _Key, primary_key=True, autoincrement=False),
    Column("value", Text, nullable=False),
)

record_signals: Final = Table(
    "record_signals",
    metadata,
    Column("signal_id", _Key, primary_key=True),
    # The record's own; in the key, so that each log's records are found at once.
    Column("log_id", _Key, primary_key=True),
    Column("record_id", _Key, primary_key=True),
    Column("quality", SmallInteger),
    Index(None, "record_id"),
    _refers("signal_id", "signals.signal_id"),
    _refers("record_id", "records.record_id"),
    sqlite_with_rowid=False,
)

opinions: Final = Table(
    "opinions",
    metadata,
    Column(
        "record_id",
        _Key,
        ForeignKey("records.record_id"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("ref_origin", Text, nullable=False),
    Column("ref_index", BigInteger, nullable=False),
    Column("signal_type", Text),
    Column("stance", Text, nullable=False),
    Column("reason", Text),
    Index(None, "ref_index", "ref_origin"),
)

sightings: Final = Table(
    "sightings",
    metadata,
    Column(
        "record_id",
        _Key,
        ForeignKey("records.record_id"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("ref_origin", Text, nullable=False),
    Column("ref_index", BigInteger, nullable=False),
    Column("signal_type", Text),
    Column("outcome", Text, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("first_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Index(None, "ref_index", "ref_origin"),
)

withdrawals: Final = Table(
    "withdrawals",
    metadata,
    Column("log_id", _Key, ForeignKey("logs.log_id"), primary_key=True),
    Column("leaf_index", BigInteger, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("first_index", BigInteger, nullable=False),
    Column("range_count", BigInteger, nullable=False),
    Column("reason", SmallInteger, nullable=False),
    Index(None, "log_id", "first_index"),
)

peers: Final = Table(
    "peers",
    metadata,
    Column("peer_id", _Key, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("base", Text, nullable=False),
    Column("identity_vkey", Text, nullable=False),
    Column("descriptor", LargeBinary, nullable=False),
    Column("descriptor_version", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("added_at", BigInteger, nullable=False),
    Column("contacted_at", BigInteger),
    # 0 for a node that cannot be dialled: it asks us, or others bring its lists.
    Column("is_dialable", SmallInteger, nullable=False, server_default="1"),
)

grants: Final = Table(
    "grants",
    metadata,
    Column("grant_id", _Key, primary_key=True),
    Column("peer_id", _Key, ForeignKey("peers.peer_id"), nullable=False),
    Column("list_name", Text, nullable=False, index=True),
    Column("granted_at", BigInteger, nullable=False),
    # JSON as in SPEC.md#scopes; null for the whole list.
    Column("scope", Text),
    # Whether the peer may pass on the records that say so themselves.
    Column("may_relay", SmallInteger, nullable=False, server_default="0"),
    UniqueConstraint("peer_id", "list_name"),
)

# Grants that were taken back: up to which size the peer may have got our log. It can
# have fetched all of that although no answer of it ever reached us.
past_grants: Final = Table(
    "past_grants",
    metadata,
    Column("log_id", _Key, ForeignKey("logs.log_id"), primary_key=True),
    Column("peer_id", _Key, ForeignKey("peers.peer_id"), primary_key=True),
    Column("tree_size", BigInteger, nullable=False),
    Column("revoked_at", BigInteger, nullable=False),
)

# What peers may fetch here of lists that we copy: the owner's permission to relay, and
# that of each record, are asked for beside it.
relay_grants: Final = Table(
    "relay_grants",
    metadata,
    Column("relay_grant_id", _Key, primary_key=True),
    Column("peer_id", _Key, ForeignKey("peers.peer_id"), nullable=False),
    Column("node", Text, nullable=False),
    Column("list_name", Text, nullable=False),
    Column("granted_at", BigInteger, nullable=False),
    # Whoever could fetch once may have it, and its owner asks who has erased.
    Column("ended_at", BigInteger),
    UniqueConstraint("peer_id", "node", "list_name"),
)

grant_versions: Final = Table(
    "grant_versions",
    metadata,
    Column("peer_id", _Key, ForeignKey("peers.peer_id"), primary_key=True),
    Column("version", BigInteger, nullable=False),
)

follows: Final = Table(
    "follows",
    metadata,
    Column("follow_id", _Key, primary_key=True),
    Column("peer_id", _Key, ForeignKey("peers.peer_id"), nullable=False),
    Column("list_name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("followed_at", BigInteger, nullable=False),
    Column("synced_at", BigInteger),
    Column("error", Text),
    # Name of the peer that relays the list; null if its owner is asked.
    Column("via", Text),
    # What the owner lets us have, as it said last: a scope in JSON, null for the
    # whole list; whether we may relay it; the version of our rights up to which bodies
    # that were withheld have been asked for again.
    Column("scope", Text),
    Column("may_relay", SmallInteger, nullable=False, server_default="0"),
    Column("grants_version", BigInteger, nullable=False, server_default="0"),
    UniqueConstraint("peer_id", "list_name"),
)

witnessed: Final = Table(
    "witnessed",
    metadata,
    Column("origin", Text, primary_key=True),
    Column("origin_hash", Text, nullable=False, unique=True),
    Column("peer_id", _Key, ForeignKey("peers.peer_id"), nullable=False),
    Column("tree_size", BigInteger, nullable=False),
    Column("root_hash", LargeBinary, nullable=False),
    Column("checkpoint", LargeBinary, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
)

# Every answer of a peer to a push: its cosignature, which says what it saw and when.
deliveries: Final = Table(
    "deliveries",
    metadata,
    Column("log_id", _Key, ForeignKey("logs.log_id"), primary_key=True),
    Column("peer_id", _Key, ForeignKey("peers.peer_id"), primary_key=True),
    Column("tree_size", BigInteger, primary_key=True),
    Column("cosigned_at", BigInteger, primary_key=True),
    Column("note", LargeBinary, nullable=False),
)

acknowledgements: Final = Table(
    "acknowledgements",
    metadata,
    Column("log_id", _Key, ForeignKey("logs.log_id"), primary_key=True),
    Column("peer_id", _Key, ForeignKey("peers.peer_id"), primary_key=True),
    Column("tree_size", BigInteger, primary_key=True),
    Column("acknowledged_at", BigInteger, nullable=False),
    Column("note", LargeBinary, nullable=False),
)

# Acknowledgements of nodes that got a list of ours from a relay; they are strangers, so
# what says whose key it is stays beside the cosignature.
relayed_acknowledgements: Final = Table(
    "relayed_acknowledgements",
    metadata,
    Column("log_id", _Key, ForeignKey("logs.log_id"), primary_key=True),
    Column("node", Text, primary_key=True),
    Column("tree_size", BigInteger, primary_key=True),
    Column("via_peer_id", _Key, ForeignKey("peers.peer_id"), nullable=False),
    Column("acknowledged_at", BigInteger, nullable=False),
    Column("note", LargeBinary, nullable=False),
    Column("identity_vkey", Text, nullable=False),
    Column("descriptor", LargeBinary, nullable=False),
)

# Logs that were shown to have two histories, by evidence that anybody can check.
forks: Final = Table(
    "forks",
    metadata,
    Column("origin", Text, primary_key=True),
    Column("evidence", LargeBinary, nullable=False),
    Column("found_at", BigInteger, nullable=False),
)

# What our services met and have not yet published: summed up, so that a record is made
# once in a while and not for every match.
pending_sightings: Final = Table(
    "pending_sightings",
    metadata,
    Column("ref_origin", Text, primary_key=True),
    Column("ref_index", BigInteger, primary_key=True),
    # Empty if the sighting is about no signal in particular.
    Column("signal_type", Text, primary_key=True),
    Column("outcome", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("first_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
)

# Descriptors whose witness or mirror key was replaced: what those keys cosigned for us
# is proof only together with the descriptor that named them.
past_descriptors: Final = Table(
    "past_descriptors",
    metadata,
    Column("peer_id", _Key, ForeignKey("peers.peer_id"), primary_key=True),
    Column("version", BigInteger, primary_key=True),
    Column("descriptor", LargeBinary, nullable=False),
)

evidence: Final = Table(
    "evidence",
    metadata,
    Column("evidence_id", _Key, primary_key=True),
    Column("peer_id", _Key, ForeignKey("peers.peer_id"), nullable=False),
    Column("list_name", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("found_at", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)

tokens: Final = Table(
    "tokens",
    metadata,
    Column("token_id", _Key, primary_key=True),
    Column("label", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("token_hash", LargeBinary, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
)

idempotency: Final = Table(
    "idempotency",
    metadata,
    Column("key", Text, primary_key=True),
    Column("token_id", _Key, ForeignKey("tokens.token_id"), primary_key=True),
    Column("request_hash", LargeBinary, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("response", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False, index=True),
)

# What became live or died, in the order of commits; holds no values, so an erase has
# nothing to remove here. `seq` is never used twice: pruning leaves the newest row.
signal_changes: Final = Table(
    "signal_changes",
    metadata,
    Column("seq", _Key, primary_key=True, autoincrement=False),
    Column("signal_id", _Key, nullable=False),
    Column("is_live", SmallInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
)

# Every checkpoint whose whole tree was applied here, to tell later what was known when.
checkpoints: Final = Table(
    "checkpoints",
    metadata,
    Column("log_id", _Key, ForeignKey("logs.log_id"), primary_key=True),
    Column("tree_size", BigInteger, primary_key=True),
    Column("root_hash", LargeBinary, nullable=False),
    Column("applied_at", BigInteger, nullable=False),
)

policies: Final = Table(
    "policies",
    metadata,
    Column("policy_id", _Key, primary_key=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("document", Text, nullable=False),
    Column("first_used_at", BigInteger, nullable=False),
)

matches: Final = Table(
    "matches",
    metadata,
    Column("match_id", _Key, primary_key=True),
    Column("matched_at", BigInteger, nullable=False, index=True),
    Column("policy_id", _Key, ForeignKey("policies.policy_id"), nullable=False),
    Column("handling", Text, nullable=False),
    # As JSON: ids, sizes and numbers, never a value of a query or a signal.
    Column("event", Text, nullable=False),
)

allowed_signals: Final = Table(
    "allowed_signals",
    metadata,
    Column("allowed_id", _Key, primary_key=True),
    Column("type", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("max_distance", SmallInteger, nullable=False),
    Column("note", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("type", "value"),
)
