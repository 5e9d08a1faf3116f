"""Logs: appending, compare-and-swap, and reading tiles and entries back."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from hashlight_node.model import Log, LogState, Role
from hashlight_node.store import logs, sqlite
from hashlight_node.store.errors import (
    LogExistsError,
    LogMovedError,
    MissingTileError,
    StoreError,
)
from hashlight_protocol import (
    EMPTY_ROOT,
    MalformedError,
    UnknownEntry,
    encode_entry,
    encode_entry_bundle,
    frontier_from_tiles,
    leaf_hashes,
    tile_ids,
)
from support.clock import START
from support.stored_log import ORIGIN, StoredLog, present

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from hashlight_node.store.database import Database


def _insert(conn: Connection, origin: str = ORIGIN, role: Role = Role.OWN) -> Log:
    return logs.insert_log(
        conn, origin=origin, role=role, meta={"kind": "image"}, created_at=START
    )


def test_a_new_log_is_empty(conn: Connection) -> None:
    log = _insert(conn)
    assert log == Log(
        log_id=log.log_id,
        origin=ORIGIN,
        node="shield.example",
        list_name="ncii",
        epoch=1,
        role=Role.OWN,
        state=LogState.ACTIVE,
        tree_size=0,
        root_hash=EMPTY_ROOT,
        checkpoint=None,
        checkpoint_size=0,
        mirror_checkpoint=None,
        verified_at=None,
        created_at=START,
        list_note=None,
        list_note_version=0,
        meta={"kind": "image"},
        error=None,
    )


def test_an_origin_is_taken_once(conn: Connection) -> None:
    _insert(conn)
    with pytest.raises(LogExistsError, match=ORIGIN):
        _insert(conn, role=Role.FOLLOWED)


def test_what_is_no_origin_is_no_log(conn: Connection) -> None:
    with pytest.raises(MalformedError):
        _insert(conn, "shield.example")


def test_logs_are_found_by_origin_and_by_list(conn: Connection) -> None:
    first = _insert(conn)
    second = _insert(conn, ORIGIN[:-1] + "2")
    theirs = _insert(conn, ORIGIN.replace("shield", "alpha"), Role.FOLLOWED)
    assert logs.find_log(conn, ORIGIN) == first
    assert logs.find_log(conn, ORIGIN + "0") is None
    assert logs.find_own_log(conn, "shield.example", "ncii") == second
    assert logs.find_own_log(conn, "alpha.example", "ncii") is None
    assert logs.find_followed_log(conn, "alpha.example", "ncii") == theirs
    assert logs.find_followed_log(conn, "shield.example", "ncii") is None
    assert logs.list_logs(conn) == [theirs, first, second]
    assert logs.list_logs(conn, Role.OWN) == [first, second]


@pytest.mark.parametrize("batches", [[1] * 9, [255, 1, 1], [256, 300, 7], [800]])
def test_what_was_appended_reads_back_in_every_width(
    conn: Connection, batches: list[int]
) -> None:
    log = StoredLog(conn)
    for batch in batches:
        log.append(
            conn, *(present(b"%d" % n) for n in range(log.size, log.size + batch))
        )
    log_id = log.log.log_id
    for index in range(-(-log.size // 256)):
        part = log.entries[index * 256 : index * 256 + 256]
        for width in {1, len(part) - 1, len(part)} - {0}:
            raw = logs.read_entry_bundle(conn, log_id, index, width)
            assert raw == encode_entry_bundle(part[:width])
        if len(part) < 256:
            assert logs.read_entry_bundle(conn, log_id, index, len(part) + 1) is None
    assert logs.read_entry_bundle(conn, log_id, log.size // 256 + 1, 1) is None
    for leaf_index in (0, log.size // 2, log.size - 1):
        assert logs.read_entry(conn, log_id, leaf_index) == log.entries[leaf_index]
    assert logs.read_entry(conn, log_id, log.size) is None
    assert logs.read_entry(conn, log_id, log.size + 256) is None


@pytest.mark.parametrize("batches", [[1] * 9, [255, 1, 1], [256, 300, 7]])
def test_tiles_are_those_of_the_whole_tree(
    conn: Connection, batches: list[int]
) -> None:
    log = StoredLog(conn)
    for batch in batches:
        log.append(
            conn, *(present(b"%d" % n) for n in range(log.size, log.size + batch))
        )
    fetch = logs.tile_fetcher(conn, log.log.log_id)
    assert frontier_from_tiles(fetch, log.size) == log.frontier
    leaves = b"".join(leaf_hashes(log.entries))
    for tile in tile_ids(log.size):
        stored = logs.read_tile(conn, log.log.log_id, tile.level, tile.index)
        assert stored is not None
        assert len(stored) == 32 * tile.width
        if tile.level == 0:
            assert stored == leaves[tile.index * 8192 :][:8192]


def test_a_tile_that_is_missing_is_damage_and_not_emptiness(conn: Connection) -> None:
    log = StoredLog(conn)
    assert logs.read_tile(conn, log.log.log_id, 0, 1) is None
    with pytest.raises(MissingTileError, match="tile 1 of level 0"):
        logs.tile_fetcher(conn, log.log.log_id)(0, 1)


def test_appending_to_what_another_has_changed_is_refused(conn: Connection) -> None:
    log = StoredLog(conn)
    before = log.log
    log.append(conn, present(b"1"))
    entry = log.entries[1]
    with pytest.raises(LogMovedError, match=ORIGIN):
        logs.append_verified(
            conn, before, [entry], leaf_hashes([entry]), root_hash=bytes(32)
        )
    assert logs.find_log(conn, ORIGIN) == log.log


async def test_of_those_who_append_at_once_one_wins(database: Database) -> None:
    log = await database.write(StoredLog)
    before, entry = log.log, log.entries[0]

    def append(conn: Connection) -> Log:
        return logs.append_verified(
            conn, before, [entry], leaf_hashes([entry]), root_hash=bytes(32)
        )

    outcomes = await asyncio.gather(
        *(database.write(append) for _ in range(20)), return_exceptions=True
    )
    assert sum(isinstance(it, Log) for it in outcomes) == 1
    assert sum(isinstance(it, LogMovedError) for it in outcomes) == 19


@pytest.mark.sqlite
def test_two_connections_that_append_in_turn_lose_nothing(url: str) -> None:
    path = sqlite.database_path(url)
    engines = [sqlite.writer_engine(path) for _ in range(2)]
    with engines[0].begin() as connection:
        StoredLog(connection)
    entry = encode_entry(UnknownEntry(0x04, b"\x04"))

    def append(engine: Engine) -> None:
        for _ in range(60):
            with engine.begin() as connection:
                log = logs.find_log(connection, ORIGIN)
                assert log is not None
                logs.append_verified(
                    connection, log, [entry], leaf_hashes([entry]), root_hash=bytes(32)
                )

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(append, engines))
    with engines[0].begin() as connection:
        log = logs.find_log(connection, ORIGIN)
        assert log is not None
        assert log.tree_size == 121
        assert logs.read_entry(connection, log.log_id, 120) == entry
    for engine in engines:
        engine.dispose()


def test_a_checkpoint_is_replaced_by_one_as_large_or_larger(conn: Connection) -> None:
    log = StoredLog(conn)
    log.append(conn, present(b"1"))
    stored = logs.set_checkpoint(
        conn, log.log, b"one", 1, mirror_checkpoint=b"seen", verified_at=START
    )
    assert (stored.checkpoint, stored.mirror_checkpoint) == (b"one", b"seen")
    assert (stored.checkpoint_size, stored.verified_at) == (1, START)
    for note in (b"two", b"two again"):
        stored = logs.set_checkpoint(
            conn, stored, note, 2, mirror_checkpoint=None, verified_at=START + 1
        )
        assert (stored.checkpoint, stored.mirror_checkpoint) == (note, None)


@pytest.mark.parametrize("size", [1, 4])
def test_a_checkpoint_never_goes_back_nor_ahead_of_the_tree(
    conn: Connection, size: int
) -> None:
    log = StoredLog(conn)
    log.append(conn, present(b"1"), present(b"2"))
    stored = logs.set_checkpoint(
        conn, log.log, b"two", 2, mirror_checkpoint=None, verified_at=START
    )
    with pytest.raises(LogMovedError):
        logs.set_checkpoint(
            conn, stored, b"other", size, mirror_checkpoint=None, verified_at=START
        )
    assert logs.find_log(conn, ORIGIN) == stored


def test_state_and_list_note_are_kept(conn: Connection) -> None:
    log_id = _insert(conn).log_id
    logs.set_log_state(conn, log_id, LogState.QUARANTINED, "split view")
    logs.set_list_note(conn, log_id, b"note", 3)
    log = logs.find_log(conn, ORIGIN)
    assert log is not None
    assert (log.state, log.error) == (LogState.QUARANTINED, "split view")
    assert (log.list_note, log.list_note_version) == (b"note", 3)


def test_what_the_store_refuses_has_one_family() -> None:
    assert issubclass(LogMovedError, StoreError)
