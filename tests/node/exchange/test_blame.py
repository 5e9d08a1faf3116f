"""Whoever lied is blamed: a relay's lie is not its owner's, nor the reverse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from hashlight_node.exchange.following.sources import stop_list
from hashlight_node.model import FollowState, LogState
from hashlight_node.peers.errors import PeerMisbehavedError
from hashlight_node.store import forks
from hashlight_protocol import (
    AddEntries,
    MalformedError,
    encode_add_entries,
    list_id,
    origin_hash,
    parse_policy,
)
from support.exchange_node import ExchangeNode, open_exchange_node
from support.log_simulator import LogSimulator
from support.made_records import indicators
from support.peer_simulator import PeerSimulator

from .test_quorum import ORIGIN, WITNESSES, claimed, policy_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.clock import ManualClock

_PREFIX = f"/hsf/v1/mirror/{origin_hash(ORIGIN)}"


def relay(beta: PeerSimulator, shield: PeerSimulator, log: LogSimulator) -> None:
    """Let beta serve a log of one bundle as an honest copy of shield's."""
    beta.acknowledge(log.note())
    listed = f"/hsf/v1/mirror/{origin_hash(list_id(shield.name, 'ncii'))}"
    width = log.size
    beta.copies = {
        f"{listed}/list-note": shield.list_note("ncii"),
        f"{listed}/owner": shield.descriptor(),
        f"{_PREFIX}/tile/0/000.p/{width}": log.tile(0, 0, width),
        f"{_PREFIX}/tile/entries/000.p/{width}": log.entry_bundle(0, width),
        f"{_PREFIX}/bodies/000.p/{width}": log.body_bundle(0, width),
    }


async def follow_through(
    node: ExchangeNode, beta: PeerSimulator, shield: PeerSimulator
) -> None:
    await node.peering.add_peer(beta.base, beta.vkey)
    await node.peering.follow(shield.name, "ncii", via=beta.name)


async def blamed(node: ExchangeNode) -> set[tuple[str, str]]:
    return {(one.peer_name, one.code) for one in await node.inspect.evidence()}


async def test_a_relay_that_adds_a_false_cosignature_convicts_itself(
    tmp_path: Path, clock: ManualClock, shield: PeerSimulator, beta: PeerSimulator
) -> None:
    log = shield.logs["ncii"]
    log.publish(indicators(2))
    relay(beta, shield, log)
    beta.tamper_body("mirror", lambda note: claimed(note, WITNESSES[1]))
    policy = parse_policy(policy_text())
    async with open_exchange_node(
        tmp_path / "alpha", "alpha.example", clock, policy
    ) as alpha:
        await alpha.peering.add_peer(shield.base, shield.vkey)
        await follow_through(alpha, beta, shield)
        with pytest.raises(PeerMisbehavedError) as caught:
            await alpha.follower.sync("shield.example", "ncii")
        assert (caught.value.peer, caught.value.code) == (beta.name, "bad-signature")
        assert await blamed(alpha) == {(beta.name, "bad-signature")}
        assert (await alpha.log(ORIGIN)).state is LogState.ACTIVE


async def test_a_fork_that_an_honest_relay_shows_is_the_owners(
    following: tuple[ExchangeNode, PeerSimulator], beta: PeerSimulator
) -> None:
    alpha, shield = following
    shield.logs["ncii"].publish(indicators(2))
    await alpha.follower.sync("shield.example", "ncii")
    other = LogSimulator(ORIGIN)
    other.signer = shield.logs["ncii"].signer
    other.publish(indicators(4, first=10))
    relay(beta, shield, other)
    await follow_through(alpha, beta, shield)
    shield.play("tile", _silence)  # What links the two, only the relay shows.
    with pytest.raises(PeerMisbehavedError) as caught:
        await alpha.follower.sync("shield.example", "ncii")
    assert (caught.value.peer, caught.value.code) == (shield.name, "split-view")
    assert await blamed(alpha) == {(shield.name, "split-view")}
    assert await alpha.read(lambda conn: forks.is_forked(conn, ORIGIN))
    assert (await alpha.log(ORIGIN)).state is LogState.QUARANTINED
    assert await alpha.matches(10) == 0


async def test_the_lie_of_a_relay_that_is_asked_no_more_is_not_the_owners(
    following: tuple[ExchangeNode, PeerSimulator], beta: PeerSimulator
) -> None:
    alpha, shield = following
    await alpha.follower.sync("shield.example", "ncii")
    await alpha.peering.add_peer(beta.base, beta.vkey)
    owner = await alpha.peer(shield.name)
    lie = PeerMisbehavedError(
        beta.name, "list note", MalformedError("list note", "it is none"), b"lie"
    )
    await alpha.database.write(lambda conn: stop_list(conn, owner, "ncii", lie, now=1))
    assert await blamed(alpha) == {(beta.name, "malformed")}
    assert (await alpha.log(ORIGIN)).state is LogState.ACTIVE
    follow = await alpha.follow(shield.name, "ncii")
    assert follow.state is FollowState.ACTIVE


async def test_the_lie_of_a_relay_is_not_its_owners_who_brings_the_list_itself(
    following: tuple[ExchangeNode, PeerSimulator], beta: PeerSimulator
) -> None:
    alpha, shield = following
    await follow_through(alpha, beta, shield)
    hashed = origin_hash(list_id(shield.name, "ncii"))
    beta.copies[f"/hsf/v1/mirror/{hashed}/list-note"] = b"no note"

    async def pieces() -> AsyncIterator[bytes]:
        yield encode_add_entries(AddEntries(ORIGIN, 0, 0))

    with pytest.raises(MalformedError):
        await alpha.receiver.add_entries(await alpha.peer(shield.name), pieces())
    assert await blamed(alpha) == {(beta.name, "malformed")}
    follow = await alpha.follow(shield.name, "ncii")
    assert (follow.via, follow.state) == (beta.name, FollowState.QUARANTINED)


async def _silence(_: web.Request) -> web.StreamResponse:
    return web.Response(status=503)
