"""Where two histories of one log part is found, wherever that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hashlight_node.exchange.errors import RolledBackError, UnconfirmedError
from hashlight_node.exchange.parting import common_size
from hashlight_node.exchange.signing import LogSigning
from hashlight_node.last_signed import LastSigned
from hashlight_node.peers.errors import PeerMisbehavedError
from hashlight_node.store import logs
from hashlight_protocol import (
    TILE_WIDTH,
    Checkpoint,
    open_checkpoint,
    parse_entry_bundle,
    sign_checkpoint,
)
from support.log_simulator import LogSimulator
from support.made_records import indicators

if TYPE_CHECKING:
    from pathlib import Path

    from hashlight_node.model import Peer
    from hashlight_node.store.database import Connection
    from hashlight_protocol import BodyBundleId, EntryBundleId, TileId
    from support.exchange_node import ExchangeNode
    from support.peer_simulator import PeerSimulator

ORIGIN = "alpha.example/hsf/v1/log/ours/1"
SIZE = 700


class Copy:
    """A peer's copy of a log."""

    def __init__(self, log: LogSimulator) -> None:
        self.log = log
        self.entries_lie = b""

    async def fetch_tile(self, peer: Peer, origin: str, tile: TileId) -> bytes:
        del peer, origin
        return self.log.tile(tile.level, tile.index, tile.width)

    async def fetch_entries(
        self, peer: Peer, origin: str, bundle: EntryBundleId
    ) -> bytes:
        del peer, origin
        return self.entries_lie or self.log.entry_bundle(bundle.index, bundle.width)

    async def fetch_bodies(
        self, peer: Peer, origin: str, bundle: BodyBundleId
    ) -> bytes:
        del peer, origin
        return self.log.body_bundle(bundle.index, bundle.width)


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


async def copy_of(alpha: ExchangeNode, common: int, further: int) -> Copy:
    """Make a copy that begins with some of our entries and goes on otherwise."""
    entries = await alpha.read(all_entries)
    theirs = LogSimulator(ORIGIN)
    for entry in entries[1:common]:
        theirs.append_raw(entry)
    theirs.publish(indicators(further, first=5_000))
    return Copy(theirs)


@pytest.fixture
async def ours(alpha: ExchangeNode, shield: PeerSimulator) -> ExchangeNode:
    await alpha.peering.add_peer(shield.base, shield.vkey)
    await alpha.publisher.create_list("ours", {})
    await alpha.publisher.publish("ours", indicators(SIZE - 1))
    return alpha


async def parting(alpha: ExchangeNode, copy: Copy) -> int:
    key = alpha.keyring.log(ORIGIN)
    note = sign_checkpoint(copy.log.checkpoint(), [key])
    return await common_size(
        alpha.database,
        copy,
        peer=await alpha.peer("shield.example"),
        log=await alpha.log(ORIGIN),
        signed=open_checkpoint(note, [key.key], origin=ORIGIN),
    )


@pytest.mark.parametrize("further", [0, 1, 300])
@pytest.mark.parametrize("common", [1, 255, 256, 257, 511, 512, 600, 699, 700])
async def test_the_common_size_is_where_the_histories_part(
    ours: ExchangeNode, common: int, further: int
) -> None:
    assert await parting(ours, await copy_of(ours, common, further)) == common


async def test_a_copy_cannot_lie_about_where_it_parts(ours: ExchangeNode) -> None:
    copy = await copy_of(ours, 600, 50)
    copy.entries_lie = LogSimulator(ORIGIN).entry_bundle(0, 1)
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
