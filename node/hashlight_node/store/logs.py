"""Logs: how far each is verified, and the tiles and entries that prove it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, case, literal, select, update

from hashlight_node.model import Log, LogState, Role
from hashlight_node.store import tables
from hashlight_node.store.errors import (
    LogExistsError,
    LogMovedError,
    MissingTileError,
)
from hashlight_node.store.history import record_checkpoint
from hashlight_node.store.statements import has_changed, upsert
from hashlight_protocol import (
    EMPTY_ROOT,
    TILE_WIDTH,
    encode_entry_bundle,
    new_tiles,
    origin_hash,
    parse_entry_bundle,
    parse_origin,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sqlalchemy import Connection, Row

_logs = tables.logs
_tiles = tables.tiles
_bundles = tables.entry_bundles

# Constants: what every request asks costs a quarter so of what it costs built anew.
_BY_ORIGIN: Final = select(_logs).where(_logs.c.origin == bindparam("wanted"))
_BY_ID: Final = select(_logs).where(_logs.c.log_id == bindparam("wanted"))
_NEWEST: Final = (
    select(_logs)
    .where(
        _logs.c.role == bindparam("of_role"),
        _logs.c.node == bindparam("of_node"),
        _logs.c.list_name == bindparam("of_list"),
    )
    .order_by(_logs.c.epoch.desc())
    .limit(1)
)
_TILE: Final = select(_tiles.c.hashes).where(
    _tiles.c.log_id == bindparam("log"),
    _tiles.c.level == bindparam("at_level"),
    _tiles.c.tile_index == bindparam("at"),
)
_BUNDLE: Final = (
    select(_bundles.c.entries, _logs.c.tree_size)
    .join(_logs, _logs.c.log_id == _bundles.c.log_id)
    .where(
        _bundles.c.log_id == bindparam("log"),
        _bundles.c.bundle_index == bindparam("at"),
    )
)


def insert_log(
    connection: Connection,
    *,
    origin: str,
    role: Role,
    meta: Mapping[str, object],
    created_at: int,
    counts_from: int | None = 0,
) -> Log:
    """Add an empty log.

    Args:
        connection: In a write transaction.
        origin: `<node>/hsf/v1/log/<list>/<epoch>`.
        role: Whether we write it or copy it.
        meta: What the list's owner says about the list; kept as JSON.
        created_at: Now.
        counts_from: None if the log takes the place of another one once it is whole.

    Raises:
        LogExistsError: The origin is taken.
    """
    name = parse_origin(origin)
    statement = upsert(connection, _logs).values(
        origin=origin,
        origin_hash=origin_hash(origin),
        node=name.node,
        list_name=name.list_name,
        epoch=name.epoch,
        role=role.value,
        state=LogState.ACTIVE.value,
        tree_size=0,
        root_hash=EMPTY_ROOT,
        checkpoint_size=0,
        created_at=created_at,
        list_note_version=0,
        meta=json.dumps(meta),
        counts_from=counts_from,
    )
    if not has_changed(connection, statement.on_conflict_do_nothing()):
        raise LogExistsError(origin)
    return _log_of(connection.execute(_BY_ORIGIN, {"wanted": origin}).one())


def find_log(connection: Connection, origin: str) -> Log | None:
    """Look a log up by its origin."""
    row = connection.execute(_BY_ORIGIN, {"wanted": origin}).one_or_none()
    return None if row is None else _log_of(row)


def find_own_log(connection: Connection, node: str, list_name: str) -> Log | None:
    """Look up the newest log of one of our lists."""
    return _find_newest(connection, Role.OWN, node, list_name)


def find_followed_log(connection: Connection, node: str, list_name: str) -> Log | None:
    """Look up the newest log that we hold of a peer's list."""
    return _find_newest(connection, Role.FOLLOWED, node, list_name)


def logs_of_list(connection: Connection, node: str, list_name: str) -> list[Log]:
    """List the logs that are here of one list, the newest first."""
    query = select(_logs).where(_logs.c.node == node, _logs.c.list_name == list_name)
    return [
        _log_of(row) for row in connection.execute(query.order_by(_logs.c.epoch.desc()))
    ]


def list_logs(connection: Connection, role: Role | None = None) -> list[Log]:
    """List logs by origin, of one role or all."""
    query = select(_logs).order_by(_logs.c.origin)
    if role is not None:
        query = query.where(_logs.c.role == role.value)
    return [_log_of(row) for row in connection.execute(query)]


def append_verified(
    connection: Connection,
    log: Log,
    entries: Sequence[bytes],
    leaf_hashes: Sequence[bytes],
    *,
    root_hash: bytes,
) -> Log:
    """Store entries behind those that a log has, with the tiles they change.

    Nothing is verified here. What the entries mean is for `records.apply_entries`, in
    the same transaction.

    Args:
        connection: In a write transaction.
        log: The log as the caller saw it.
        entries: Encoded entries, 1 or more.
        leaf_hashes: `leaf_hash` of each.
        root_hash: Root of the tree with all of them, verified or about to be signed.

    Raises:
        LogMovedError: The log is not at the size and root that `log` has.
    """
    size = log.tree_size + len(entries)
    # A compare-and-swap: two who append to the same size would fork the log, and for
    # one of our own that means two signed checkpoints that contradict each other.
    statement = (
        update(_logs)
        .where(
            _logs.c.log_id == log.log_id,
            _logs.c.tree_size == log.tree_size,
            _logs.c.root_hash == log.root_hash,
        )
        .values(tree_size=size, root_hash=root_hash)
    )
    if connection.execute(statement).rowcount != 1:
        raise LogMovedError(log.origin)
    _append_bundles(connection, log, entries)
    read_old = tile_fetcher(connection, log.log_id)
    _save_tiles(connection, log.log_id, new_tiles(read_old, log.tree_size, leaf_hashes))
    return _reload(connection, log)


def set_checkpoint(
    connection: Connection,
    log: Log,
    note: bytes,
    size: int,
    *,
    mirror_checkpoint: bytes | None,
    verified_at: int,
) -> Log:
    """Replace the checkpoint that a log is served with, or confirm it.

    A copy that is stale stays so: that is for `staleness.end_doubts`.

    Args:
        connection: In a write transaction.
        log: The log.
        note: Signed checkpoint whose whole tree is stored.
        size: Its tree size.
        mirror_checkpoint: The same with our mirror cosignature, None for our own logs.
        verified_at: When it was verified or signed.

    Raises:
        LogMovedError: The tree is smaller than `size`, or a larger checkpoint is
            already there.
    """
    # In SQL for the same reason as above: a checkpoint never goes back.
    statement = (
        update(_logs)
        .where(
            _logs.c.log_id == log.log_id,
            _logs.c.tree_size >= size,
            _logs.c.checkpoint_size <= size,
        )
        .values(
            checkpoint=note,
            checkpoint_size=size,
            mirror_checkpoint=mirror_checkpoint,
            verified_at=verified_at,
        )
    )
    if connection.execute(statement).rowcount != 1:
        raise LogMovedError(log.origin)
    stored = _reload(connection, log)
    if stored.tree_size == size:
        # Otherwise a copy is being extended, and its old checkpoint is remembered.
        record_checkpoint(
            connection, log.log_id, size, stored.root_hash, now=verified_at
        )
    return stored


def set_log_state(
    connection: Connection, log_id: int, state: LogState, error: str | None
) -> None:
    """Set what may still happen to a log, and why if it is quarantined.

    A log that is stale, or followed no more, stays so in quarantine: what a peer did
    wrong makes nothing match again. It is stale no more in any other state.
    """
    out_of_use = [LogState.STALE.value, LogState.FROZEN.value]
    stays = _logs.c.state.in_(out_of_use) & (
        literal(state.value) == LogState.QUARANTINED.value
    )
    stays_stale = (_logs.c.state == LogState.STALE.value) & (
        literal(state.value).in_([LogState.STALE.value, LogState.QUARANTINED.value])
    )
    statement = update(_logs).where(_logs.c.log_id == log_id)
    connection.execute(
        statement.values(
            state=case((stays, _logs.c.state), else_=state.value),
            stale_at=case((stays_stale, _logs.c.stale_at), else_=None),
            error=error,
        )
    )


def set_list_state(
    connection: Connection,
    node: str,
    list_name: str,
    state: LogState,
    error: str | None,
) -> None:
    """Set the state of all logs of a followed list that did not end.

    There are two while a new log is copied that takes the place of another.
    """
    for log in logs_of_list(connection, node, list_name):
        if log.role is Role.FOLLOWED and log.counts_until is None:
            set_log_state(connection, log.log_id, state, error)


def set_verified_at(connection: Connection, log: Log, verified_at: int | None) -> Log:
    """Set when a copy was last known to be complete; None if that is not known."""
    statement = update(_logs).where(_logs.c.log_id == log.log_id)
    connection.execute(statement.values(verified_at=verified_at))
    return _reload(connection, log)


def set_list_note(
    connection: Connection, log_id: int, note: bytes, version: int
) -> None:
    """Keep the signed list note that a log was last described with."""
    statement = update(_logs).where(_logs.c.log_id == log_id)
    connection.execute(statement.values(list_note=note, list_note_version=version))


def read_tile(
    connection: Connection, log_id: int, level: int, index: int
) -> bytes | None:
    """Read a tile as wide as it is stored; narrower ones are prefixes of it."""
    wanted = {"log": log_id, "at_level": level, "at": index}
    return connection.execute(_TILE, wanted).scalar()


def tile_fetcher(connection: Connection, log_id: int) -> Callable[[int, int], bytes]:
    """Give a reader of one log's tiles that remembers what it has read.

    It raises MissingTileError for a tile that is not stored. Use it within the
    transaction of `connection`.
    """
    known: dict[tuple[int, int], bytes] = {}

    def fetch(level: int, index: int) -> bytes:
        tile = known.get((level, index))
        if tile is None:
            tile = read_tile(connection, log_id, level, index)
            if tile is None:
                raise MissingTileError(level, index)
            known[level, index] = tile
        return tile

    return fetch


def read_entry_bundle(
    connection: Connection, log_id: int, bundle_index: int, width: int
) -> bytes | None:
    """Read the first entries of a bundle as they go over the wire.

    Args:
        connection: In a transaction.
        log_id: The log.
        bundle_index: Its first entry is leaf `bundle_index * 256`.
        width: Entries wanted, 1 to 256.

    Returns:
        None if so many are not stored.
    """
    stored = _stored_bundle(connection, log_id, bundle_index)
    if stored is None:
        return None
    raw, stored_width = stored
    if width >= stored_width:
        return raw if width == stored_width else None
    return encode_entry_bundle(parse_entry_bundle(raw, stored_width)[:width])


def read_entry(connection: Connection, log_id: int, leaf_index: int) -> bytes | None:
    """Read one encoded entry, None if the log does not reach so far."""
    bundle_index, offset = divmod(leaf_index, TILE_WIDTH)
    stored = _stored_bundle(connection, log_id, bundle_index)
    if stored is None or offset >= stored[1]:
        return None
    return parse_entry_bundle(*stored)[offset]


def read_entries_at(
    connection: Connection, log_id: int, leaf_indexes: Iterable[int]
) -> dict[int, bytes]:
    """Read encoded entries, each bundle once; those beyond the log are left out."""
    found: dict[int, bytes] = {}
    by_bundle: dict[int, list[int]] = {}
    for leaf_index in leaf_indexes:
        by_bundle.setdefault(leaf_index // TILE_WIDTH, []).append(leaf_index)
    for bundle_index, wanted in by_bundle.items():
        stored = _stored_bundle(connection, log_id, bundle_index)
        if stored is not None:
            entries = parse_entry_bundle(*stored)
            for leaf_index in wanted:
                if leaf_index % TILE_WIDTH < len(entries):
                    found[leaf_index] = entries[leaf_index % TILE_WIDTH]
    return found


def _find_newest(
    connection: Connection, role: Role, node: str, list_name: str
) -> Log | None:
    wanted = {"of_role": role.value, "of_node": node, "of_list": list_name}
    row = connection.execute(_NEWEST, wanted).one_or_none()
    return None if row is None else _log_of(row)


def _reload(connection: Connection, log: Log) -> Log:
    return _log_of(connection.execute(_BY_ID, {"wanted": log.log_id}).one())


def _log_of(row: Row[Any]) -> Log:
    values = dict(row._mapping)  # noqa: SLF001 - public despite its name
    del values["origin_hash"]
    values["role"] = Role(values["role"])
    values["state"] = LogState(values["state"])
    values["meta"] = json.loads(values["meta"])
    return Log(**values)


def _stored_bundle(
    connection: Connection, log_id: int, bundle_index: int
) -> tuple[bytes, int] | None:
    wanted = {"log": log_id, "at": bundle_index}
    row = connection.execute(_BUNDLE, wanted).one_or_none()
    if row is None:
        return None
    return row.entries, min(TILE_WIDTH, row.tree_size - bundle_index * TILE_WIDTH)


def _append_bundles(connection: Connection, log: Log, entries: Sequence[bytes]) -> None:
    index, offset = divmod(log.tree_size, TILE_WIDTH)
    rows: list[dict[str, object]] = []
    start = 0
    while start < len(entries):
        end = start + TILE_WIDTH - offset
        raw = encode_entry_bundle(entries[start:end])
        if offset:
            # The encoding is a plain sequence, so a bundle grows at its end.
            raw = _read_bundle(connection, log.log_id, index) + raw
        rows.append({"log_id": log.log_id, "bundle_index": index, "entries": raw})
        index, offset, start = index + 1, 0, end
    statement = upsert(connection, _bundles)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[_bundles.c.log_id, _bundles.c.bundle_index],
            set_={"entries": statement.excluded.entries},
        ),
        rows,
    )


def _read_bundle(connection: Connection, log_id: int, bundle_index: int) -> bytes:
    query = select(_bundles.c.entries).where(
        _bundles.c.log_id == log_id, _bundles.c.bundle_index == bundle_index
    )
    raw: bytes = connection.execute(query).scalar_one()
    return raw


def _save_tiles(
    connection: Connection, log_id: int, tiles: Mapping[tuple[int, int], bytes]
) -> None:
    statement = upsert(connection, _tiles)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[_tiles.c.log_id, _tiles.c.level, _tiles.c.tile_index],
            set_={"hashes": statement.excluded.hashes},
        ),
        [
            {"log_id": log_id, "level": level, "tile_index": index, "hashes": hashes}
            for (level, index), hashes in tiles.items()
        ],
    )
