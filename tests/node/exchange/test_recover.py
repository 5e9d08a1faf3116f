"""Recovery from peers that lie, fail, or have little: what comes back is what was."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from hashlight_node.exchange.errors import UnknownListError
from hashlight_node.last_signed import LastSignedError
from hashlight_node.model import LogState
from hashlight_node.store import logs, records
from hashlight_protocol import (
    Body,
    BodyBundleId,
    BodyStatus,
    EntryBundleId,
    KnownHead,
    TileId,
    encode_body_bundle,
    encode_tile_path,
    origin_hash,
    parse_body_bundle,
)
from support.exchange_node import ExchangeNode, open_exchange_node
from support.made_records import indicators
from support.stores import back_up, restore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from hashlight_node.store.database import Connection
    from support.clock import ManualClock
    from support.peer_simulator import PeerSimulator

ORIGIN = "alpha.example/hsf/v1/log/ours/1"
SIZE = 41
PREFIX = f"/hsf/v1/mirror/{origin_hash(ORIGIN)}"
TILE = f"{PREFIX}/{encode_tile_path(TileId(0, 0, SIZE))}"
ENTRIES = f"{PREFIX}/{encode_tile_path(EntryBundleId(0, SIZE))}"
BODIES = f"{PREFIX}/{encode_tile_path(BodyBundleId(0, SIZE))}"


@pytest.fixture
def where(tmp_path: Path) -> Path:
    return tmp_path / "restored"


@asynccontextmanager
async def node_at(where: Path, clock: ManualClock) -> AsyncIterator[ExchangeNode]:
    async with open_exchange_node(where, "alpha.example", clock) as node:
        yield node


@pytest.fixture
async def alpha(
    where: Path, shield: PeerSimulator, clock: ManualClock
) -> AsyncIterator[ExchangeNode]:
    """Give a node that was restored, whose list `shield` has a copy of."""
    async with node_at(where, clock) as node:
        await node.publisher.create_list("ours", {})
        await node.peering.add_peer(shield.base, shield.vkey)
        await node.peering.grant("shield.example", "ours")
        await node.publisher.publish("ours", indicators(10))
    back_up(where)
    async with node_at(where, clock) as node:
        await node.publisher.publish("ours", indicators(30, first=10))
        await copy_to(shield, node)
    restore(where)
    async with node_at(where, clock) as node:
        yield node


async def copy_to(shield: PeerSimulator, alpha: ExchangeNode) -> None:
    log = await alpha.log(ORIGIN)
    assert (log.tree_size, log.checkpoint is None) == (SIZE, False)
    shield.acknowledge(log.checkpoint or b"")
    shield.cosigned[ORIGIN] = log.checkpoint or b""

    def read(conn: Connection) -> dict[str, bytes]:
        tile = logs.read_tile(conn, log.log_id, 0, 0)
        entries = logs.read_entry_bundle(conn, log.log_id, 0, SIZE)
        assert tile is not None
        assert entries is not None
        bodies = encode_body_bundle(records.read_bodies(conn, log.log_id, 0, SIZE))
        return {TILE: tile, ENTRIES: entries, BODIES: bodies}

    shield.copies |= await alpha.read(read)


async def test_what_was_lost_comes_back(
    alpha: ExchangeNode, shield: PeerSimulator
) -> None:
    assert (await alpha.log(ORIGIN)).state is LogState.ROLLED_BACK
    (recovered,) = await alpha.recovery.recover("ours")
    assert recovered.state is LogState.ACTIVE
    assert [await alpha.matches(n) for n in (0, 9, 10, 39, 40)] == [1, 1, 1, 1, 0]
    newest = alpha.last_signed.newest(ORIGIN)
    log = await alpha.log(ORIGIN)
    assert newest is not None
    assert newest.head == KnownHead(log.tree_size, log.root_hash)
    assert shield.kinds_asked().count("copy") == 3
    await alpha.publisher.publish("ours", indicators(1, first=40))


@pytest.mark.parametrize("path", [TILE, ENTRIES, BODIES])
@pytest.mark.parametrize("lie", ["altered", "cut-off", "empty", "away"])
async def test_a_copy_that_is_not_what_we_signed_is_refused(
    alpha: ExchangeNode, shield: PeerSimulator, path: str, lie: str
) -> None:
    true = shield.copies[path]
    lies = {
        "altered": true[:-1] + bytes([true[-1] ^ 1]),
        "cut-off": true[: len(true) // 2],
        "empty": b"",
    }
    if lie == "away":
        del shield.copies[path]
    else:
        shield.copies[path] = lies[lie]
    (recovered,) = await alpha.recovery.recover("ours")
    assert recovered.state is LogState.ROLLED_BACK
    assert recovered.new_size == 11
    assert len(recovered.problems) == 2
    assert await alpha.matches(10) == 0
    shield.copies[path] = true
    (again,) = await alpha.recovery.recover("ours")
    assert again.state is LogState.ACTIVE


async def test_a_peer_that_only_saw_the_list_cannot_give_it_back(
    alpha: ExchangeNode, shield: PeerSimulator
) -> None:
    shield.mirrored.clear()
    (recovered,) = await alpha.recovery.recover("ours")
    assert recovered.state is LogState.ROLLED_BACK
    assert recovered.answered == ("shield.example",)
    assert "refuses: unknown-log" in recovered.problems[1]


async def test_a_smaller_copy_that_contradicts_nothing_changes_nothing(
    alpha: ExchangeNode, shield: PeerSimulator
) -> None:
    shield.acknowledge((await alpha.log(ORIGIN)).checkpoint or b"")
    (recovered,) = await alpha.recovery.recover("ours")
    assert (recovered.state, recovered.new_size) == (LogState.ROLLED_BACK, 11)
    assert recovered.signed_size == SIZE


async def test_the_content_of_a_record_comes_later_from_whoever_has_it(
    alpha: ExchangeNode, shield: PeerSimulator
) -> None:
    true = shield.copies[BODIES]
    nothing = encode_body_bundle(without_content(shield))
    shield.copies[BODIES] = nothing
    (recovered,) = await alpha.recovery.recover("ours")
    assert (recovered.state, recovered.missing_bodies) == (LogState.ACTIVE, 30)
    assert await alpha.matches(10) == 0
    shield.copies[BODIES] = b"\x07" * len(true)
    (refused,) = await alpha.recovery.recover("ours")
    assert (refused.missing_bodies, len(refused.problems)) == (30, 1)
    shield.copies[BODIES] = true
    (again,) = await alpha.recovery.recover("ours")
    assert again.missing_bodies == 0
    assert await alpha.matches(10) == 1


async def test_a_list_of_another_node_is_not_recovered(alpha: ExchangeNode) -> None:
    with pytest.raises(UnknownListError):
        await alpha.recovery.recover("ncii")
    with pytest.raises(UnknownListError):
        await alpha.recovery.vouch("ncii")


@pytest.mark.parametrize("byte", [60, 90])
async def test_a_bit_that_flipped_in_the_store_is_noticed_at_the_start(
    where: Path, alpha: ExchangeNode, byte: int
) -> None:
    """In the root, and in the signature."""
    path = where / "last-signed" / f"{origin_hash(ORIGIN)}.signed"
    raw = bytearray(path.read_bytes())
    raw[byte] = ord("A") if raw[byte] != ord("A") else ord("B")
    alpha.last_signed.learn(bytes(raw))
    with pytest.raises(LastSignedError, match="damaged"):
        await alpha.self_check.settle()


def without_content(shield: PeerSimulator) -> list[Body]:
    bodies = parse_body_bundle(shield.copies[BODIES], SIZE)
    withheld = Body(BodyStatus.WITHHELD)
    return [withheld if it.status is BodyStatus.PRESENT else it for it in bodies]
