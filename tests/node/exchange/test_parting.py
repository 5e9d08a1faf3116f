"""Where two histories of one log part is found, wherever that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hashlight_node.exchange.errors import RolledBackError, UnconfirmedError
from hashlight_node.exchange.logs.signing import LogSigning
from hashlight_node.exchange.publishing.parting import common_size
from hashlight_node.last_signed import LastSigned
from hashlight_node.peers.errors import PeerMisbehavedError
from hashlight_node.store import logs
from hashlight_protocol import (
    TILE_WIDTH,
    Checkpoint,
    EntryBundleId,
    encode_tile_path,
    needed_tiles,
    open_checkpoint,
    origin_hash,
    parse_entry_bundle,
    sign_checkpoint,
)
from support.log_simulator import LogSimulator
from support.made_records import indicators

if TYPE_CHECKING:
    from pathlib import Path

    from hashlight_node.store.database import Connection
    from support.exchange_node import ExchangeNode
    from support.peer_simulator import PeerSimulator

ORIGIN = "alpha.example/hsf/v1/log/ours/1"
PREFIX = f"/hsf/v1/mirror/{origin_hash(ORIGIN)}"
SIZE = 700


def all_entries(conn: Connection) -> list[bytes]:
    log = logs.find_log(conn, ORIGIN)
    assert log is not None
    entries: list[bytes] = []
    for index in range(-(-log.tree_size // TILE_WIDTH)):
        width = min(TILE_WIDTH, log.tree_size - index * TILE_WIDTH)
        raw = logs.read_entry_bundle(conn, log.log_id, index, width)
        assert raw is not None
        entries += parse_entry_bundle(raw, width)
    return entries


async def copy_of(alpha: ExchangeNode, common: int, further: int) -> LogSimulator:
    """Make a copy that begins with some of our entries and goes on otherwise."""
    entries = await alpha.read(all_entries)
    theirs = LogSimulator(ORIGIN)
    for entry in entries[1:common]:
        theirs.append_raw(entry)
    theirs.publish(indicators(further, first=5_000))
    return theirs


def show(shield: PeerSimulator, copy: LogSimulator) -> None:
    """Let a peer have the copy."""
    for tile in needed_tiles(0, copy.size):
        raw = copy.tile(tile.level, tile.index, tile.width)
        shield.copies[f"{PREFIX}/{encode_tile_path(tile)}"] = raw
    for index in range(-(-copy.size // TILE_WIDTH)):
        width = min(TILE_WIDTH, copy.size - index * TILE_WIDTH)
        path = f"{PREFIX}/{encode_tile_path(EntryBundleId(index, width))}"
        shield.copies[path] = copy.entry_bundle(index, width)


@pytest.fixture
async def ours(alpha: ExchangeNode, shield: PeerSimulator) -> ExchangeNode:
    await alpha.peering.add_peer(shield.base, shield.vkey)
    await alpha.publisher.create_list("ours", {})
    await alpha.publisher.publish("ours", indicators(SIZE - 1))
    return alpha


async def parting(alpha: ExchangeNode, copy: LogSimulator) -> int:
    key = alpha.keyring.log(ORIGIN)
    note = sign_checkpoint(copy.checkpoint(), [key])
    return await common_size(
        alpha.database,
        alpha.client,
        peer=await alpha.peer("shield.example"),
        log=await alpha.log(ORIGIN),
        signed=open_checkpoint(note, [key.key], origin=ORIGIN),
    )


async def test_the_common_size_is_where_the_histories_part(
    ours: ExchangeNode, shield: PeerSimulator
) -> None:
    for common in (1, 255, 256, 257, 511, 512, 600, 699, 700):
        for further in (0, 1, 300):
            shield.copies.clear()
            copy = await copy_of(ours, common, further)
            show(shield, copy)
            assert await parting(ours, copy) == common


async def test_a_copy_cannot_lie_about_where_it_parts(
    ours: ExchangeNode, shield: PeerSimulator
) -> None:
    copy = await copy_of(ours, 600, 50)
    show(shield, copy)
    path = f"{PREFIX}/{encode_tile_path(EntryBundleId(2, 138))}"
    shield.copies[path] = LogSimulator(ORIGIN).entry_bundle(0, 1)
    with pytest.raises(PeerMisbehavedError):
        await parting(ours, copy)


async def test_what_was_learnt_a_moment_ago_counts_at_once(ours: ExchangeNode) -> None:
    """Between the proof and the next signature no state is read twice."""
    newest = Checkpoint(ORIGIN, SIZE + 9, bytes(32))
    note = sign_checkpoint(newest, [ours.keyring.log(ORIGIN)])
    ours.last_signed.learn(note)
    with pytest.raises(RolledBackError):
        await ours.publisher.publish("ours", indicators(1, first=9_000))


async def test_a_store_that_knows_nothing_lets_no_old_log_grow(
    ours: ExchangeNode, tmp_path: Path
) -> None:
    empty = LastSigned.open(tmp_path / "other")
    signing = LogSigning(ours.keyring, empty)
    log = await ours.log(ORIGIN)
    grown = Checkpoint(ORIGIN, SIZE + 1, bytes(32))
    with pytest.raises(UnconfirmedError):
        await ours.database.write(lambda conn: signing.sign(conn, log, grown))
    assert empty.prepared(ORIGIN) is None
    empty.close()
