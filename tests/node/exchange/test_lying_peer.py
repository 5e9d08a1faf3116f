"""Attacks by name: a peer that lies is refused, remembered, and harms nothing.

What was verified before goes on matching in every one of these tests.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
import zstandard
from aiohttp import web

from hashlight_node.exchange.errors import FollowQuarantinedError
from hashlight_node.model import FollowState, Log, LogState, Role
from hashlight_node.peers.errors import PeerMisbehavedError, PeerRefusedError
from hashlight_node.store import logs
from hashlight_node.store.database import Connection
from hashlight_protocol import (
    BadBundleError,
    BadCommitmentError,
    BadProofError,
    Body,
    BodyStatus,
    MalformedError,
    Meta,
    ProtocolError,
    Retract,
    RollbackError,
    SplitViewError,
    StaleVersionError,
    TileId,
    TooLargeError,
    encode_entry,
    parse_fork_evidence,
)
from support.exchange_node import ExchangeNode
from support.log_simulator import LogSimulator
from support.made_records import indicator, indicators
from support.peer_simulator import Answer, PeerSimulator

Pair = tuple[ExchangeNode, PeerSimulator]
KNOWN = 5
"""Records that were verified before the peer began to lie: numbers 0 to 4."""


@pytest.fixture
async def verified(following: Pair) -> Pair:
    alpha, shield = following
    shield.logs["ncii"].publish(indicators(KNOWN))
    await alpha.follower.sync("shield.example", "ncii")
    return following


async def refused(alpha: ExchangeNode, list_name: str = "ncii") -> PeerMisbehavedError:
    """Sync, expect the lie to be refused, and check that it did no harm."""
    before = [
        (log.tree_size, log.root_hash) for log in await alpha.read(_followed_logs)
    ]
    with pytest.raises(PeerMisbehavedError) as caught:
        await alpha.follower.sync("shield.example", list_name)
    error = caught.value

    follow = await alpha.follow("shield.example", list_name)
    assert follow.state is FollowState.QUARANTINED
    assert follow.error == str(error)
    after = [(log.tree_size, log.root_hash) for log in await alpha.read(_followed_logs)]
    assert after[: len(before)] == before
    assert [await alpha.matches(n) for n in range(KNOWN)] == [1] * KNOWN
    codes = {(item.list_name, item.code) for item in await alpha.evidence()}
    assert (list_name, error.code) in codes
    with pytest.raises(FollowQuarantinedError):
        await alpha.follower.sync("shield.example", list_name)
    return error


def _followed_logs(conn: Connection) -> list[Log]:
    return logs.list_logs(conn, Role.FOLLOWED)


def flipped(raw: bytes, position: int) -> bytes:
    changed = bytearray(raw)
    changed[position] ^= 1 << position % 8
    return bytes(changed)


def recoded(trick: Callable[[bytes], bytes]) -> Callable[[Answer], Answer]:
    """Apply a trick to a body bundle as it is before compression."""

    def act(answer: Answer) -> Answer:
        raw = zstandard.ZstdDecompressor().decompress(answer.body)
        return replace(answer, body=zstandard.ZstdCompressor().compress(trick(raw)))

    return act


@pytest.mark.parametrize("kind", ["checkpoint", "tile", "entries", "bodies"])
async def test_a_flipped_bit_anywhere_is_refused(verified: Pair, kind: str) -> None:
    alpha, shield = verified
    log = shield.logs["ncii"]
    log.publish(indicators(2, first=KNOWN))
    length = {
        "checkpoint": len(log.note()),
        "tile": len(log.tile(0, 0, log.size)),
        "entries": len(log.entry_bundle(0, log.size)),
        "bodies": len(log.body_bundle(0, log.size)),
    }[kind]
    for position in range(0, length, 23 if kind == "bodies" else 2):
        shield.honest()
        # Keys of a log may change, so a list note is believed for a minute at most.
        alpha.clock.advance(61)
        if kind == "bodies":
            shield.tamper(kind, recoded(lambda raw, p=position: flipped(raw, p)))  # type: ignore[misc]
        else:
            shield.tamper_body(kind, lambda raw, p=position: flipped(raw, p))  # type: ignore[misc]
        with pytest.raises(PeerMisbehavedError) as caught:
            await alpha.follower.sync("shield.example", "ncii")
        assert kind in str(caught.value), position
        assert "shield.example/hsf/v1/log/ncii/1" in str(caught.value)
        assert (await alpha.log(log.origin)).tree_size == KNOWN + 1
        await alpha.peering.follow("shield.example", "ncii")
    assert [await alpha.matches(n) for n in range(KNOWN + 2)] == [1] * KNOWN + [0, 0]

    shield.honest()
    report = await alpha.follower.sync("shield.example", "ncii")
    assert report.new_size == log.size


async def test_a_flipped_bit_in_a_list_note_is_refused(following: Pair) -> None:
    alpha, shield = following
    note = shield.list_note("ncii")
    for position in range(0, len(note), 3):
        shield.honest()
        shield.tamper_body("list-note", lambda raw, p=position: flipped(raw, p))  # type: ignore[misc]
        with pytest.raises(PeerMisbehavedError, match="list note of ncii"):
            await alpha.follower.sync("shield.example", "ncii")
        await alpha.peering.follow("shield.example", "ncii")
    assert await alpha.read(_followed_logs) == []


async def test_a_flipped_bit_in_a_descriptor_is_refused(
    alpha: ExchangeNode, shield: PeerSimulator
) -> None:
    raw = shield.descriptor()
    for position in range(0, len(raw), 3):
        shield.honest()
        shield.tamper_body("descriptor", lambda raw, p=position: flipped(raw, p))  # type: ignore[misc]
        with pytest.raises(PeerMisbehavedError, match="descriptor"):
            await alpha.peering.add_peer(shield.base, shield.vkey)
    assert await alpha.inspect.peers() == ()


async def test_a_flipped_bit_in_compressed_bodies_never_gets_through(
    verified: Pair,
) -> None:
    alpha, shield = verified
    log = shield.logs["ncii"]
    log.publish(indicators(2, first=KNOWN))
    coded = zstandard.ZstdCompressor().compress(log.body_bundle(0, log.size))
    for position in range(0, len(coded), 13):
        shield.honest()
        shield.tamper_body("bodies", lambda raw, p=position: flipped(raw, p))  # type: ignore[misc]
        with suppress(PeerMisbehavedError):
            await alpha.follower.sync("shield.example", "ncii")
        if (await alpha.log(log.origin)).tree_size == log.size:
            break  # The bit had no meaning in the frame: what came out was right.
        follow = await alpha.follow("shield.example", "ncii")
        assert follow.error is not None
        assert "bodies 0" in follow.error
        await alpha.peering.follow("shield.example", "ncii")
    copy = await alpha.log(log.origin)
    assert copy.root_hash in {log.root(KNOWN + 1), log.root()}


async def test_a_truncated_answer_is_refused(verified: Pair) -> None:
    alpha, shield = verified
    shield.logs["ncii"].publish(indicators(300, first=KNOWN))
    for kind in ("tile", "entries"):
        for cut in (1, 31, 32, 33, 100):
            shield.honest()
            shield.tamper_body(kind, lambda raw, n=cut: raw[:-n])  # type: ignore[misc]
            with pytest.raises(PeerMisbehavedError, match=kind):
                await alpha.follower.sync("shield.example", "ncii")
            await alpha.peering.follow("shield.example", "ncii")


async def test_wrong_widths_are_refused(verified: Pair) -> None:
    alpha, shield = verified
    log = shield.logs["ncii"]
    log.publish(indicators(20, first=KNOWN))
    lies: list[tuple[str, bytes]] = [
        ("tile", log.tile(0, 0, log.size - 1)),
        ("tile", log.tile(0, 0, log.size) + bytes(32)),
        ("entries", log.entry_bundle(0, log.size - 1)),
        ("entries", log.entry_bundle(0, log.size) + b"\0\1\1"),
        ("tile", b""),
        ("entries", b""),
    ]
    for kind, body in lies:
        shield.honest()
        shield.tamper_body(kind, lambda _, b=body: b)  # type: ignore[misc]
        with pytest.raises(PeerMisbehavedError, match=kind):
            await alpha.follower.sync("shield.example", "ncii")
        await alpha.peering.follow("shield.example", "ncii")


async def test_bodies_of_the_wrong_number_are_refused(verified: Pair) -> None:
    alpha, shield = verified
    log = shield.logs["ncii"]
    log.publish(indicators(2, first=KNOWN))
    shield.tamper("bodies", recoded(lambda _: log.body_bundle(0, log.size - 1)))
    error = await refused(alpha)
    assert isinstance(error.cause, MalformedError)


async def test_a_wrong_body_is_refused_and_no_body_is_kept(
    verified: Pair,
) -> None:
    alpha, shield = verified
    log = shield.logs["ncii"]
    honest, wrong = log.publish([indicator(50, kind="the-honest"), indicator(51)])
    salt = log.bodies[wrong].salt
    lie = indicator(52, kind="the-wrong")
    log.bodies[wrong] = Body(BodyStatus.PRESENT, salt, lie)

    error = await refused(alpha)

    assert isinstance(error.cause, BadCommitmentError)
    assert f"leaf {wrong}" in str(error)
    (evidence,) = await alpha.evidence()
    assert log.note() in evidence.payload
    assert log.entries[wrong] in evidence.payload
    assert b"SHA-256" in evidence.payload
    # One wrong byte makes a real body a wrong one, and evidence outlives its ERASE.
    assert b"the-wrong" not in evidence.payload
    assert b"the-honest" not in evidence.payload
    assert log.bodies[honest].salt not in evidence.payload


async def test_a_swapped_body_is_refused(verified: Pair) -> None:
    alpha, shield = verified
    log = shield.logs["ncii"]
    one, other = log.publish([indicator(50), indicator(51)])
    log.bodies[one], log.bodies[other] = log.bodies[other], log.bodies[one]
    assert isinstance((await refused(alpha)).cause, BadCommitmentError)


async def test_a_body_beside_an_entry_that_has_none_is_refused(verified: Pair) -> None:
    alpha, shield = verified
    log = shield.logs["ncii"]
    log.append(Retract(1, 1, 0), Body(BodyStatus.PRESENT, bytes(16), b"x"))
    assert isinstance((await refused(alpha)).cause, BadBundleError)


async def test_rollback_is_refused(verified: Pair) -> None:
    alpha, shield = verified
    log = shield.logs["ncii"]
    shield.tamper_body("checkpoint", lambda _: log.note(log.size - 1))
    error = await refused(alpha)
    assert isinstance(error.cause, RollbackError)
    (evidence,) = await alpha.evidence()
    assert log.note(log.size - 1) in evidence.payload


async def test_a_split_view_of_the_same_size_is_refused(verified: Pair) -> None:
    alpha, shield = verified
    log = shield.logs["ncii"]
    other = forked(log, log.size - 1)
    other.publish([indicator(99)])
    assert other.size == log.size
    shield.tamper_body("checkpoint", lambda _: other.note())
    error = await refused(alpha)
    assert isinstance(error.cause, SplitViewError)
    (evidence,) = await alpha.evidence()
    assert parse_fork_evidence(evidence.payload).newer == other.note()


async def test_a_larger_log_with_another_past_is_refused(verified: Pair) -> None:
    alpha, shield = verified
    log = shield.logs["ncii"]
    other = forked(log, 3)
    other.publish(indicators(300, first=900))
    shield.logs["ncii"] = other
    error = await refused(alpha)
    assert isinstance(error.cause, BadBundleError | BadProofError | SplitViewError)
    assert await alpha.matches(900) == 0


async def test_a_second_view_of_what_was_announced_is_refused(verified: Pair) -> None:
    """The first view is only witnessed, its entries were never fetched."""
    alpha, shield = verified
    log = shield.logs["ncii"]
    announced = forked(log, log.size)
    announced.publish(indicators(10, first=100))
    raw = (
        f"old {log.size}\n".encode()
        + "".join(
            f"{base64.b64encode(one).decode()}\n"
            for one in announced.proof(log.size, announced.size)
        ).encode()
        + b"\n"
        + announced.note()
    )
    await alpha.witness.add_checkpoint(await alpha.peer("shield.example"), raw)

    other = forked(log, log.size)
    other.publish(indicators(20, first=200))
    shield.logs["ncii"] = other
    error = await refused(alpha)
    assert isinstance(error.cause, SplitViewError)


async def test_a_peer_cannot_go_back_on_a_checkpoint_it_showed(verified: Pair) -> None:
    """The first transfer breaks off; what it was about to copy is remembered."""
    alpha, shield = verified
    log = shield.logs["ncii"]
    shown = forked(log, log.size)
    shown.publish(indicators(10, first=100))
    shield.logs["ncii"] = shown

    async def cut(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    shield.play("entries", cut)
    with pytest.raises(Exception, match="unavailable"):
        await alpha.follower.sync("shield.example", "ncii")

    shield.honest()
    other = forked(log, log.size)
    other.publish(indicators(20, first=200))
    shield.logs["ncii"] = other
    assert isinstance((await refused(alpha)).cause, SplitViewError)


async def test_a_checkpoint_signed_by_a_stranger_is_refused(verified: Pair) -> None:
    alpha, shield = verified
    log = shield.logs["ncii"]
    stranger = LogSimulator(log.origin)
    stranger.publish(indicators(20))
    shield.tamper_body("checkpoint", lambda _: stranger.note())
    error = await refused(alpha)
    assert "checkpoint" in str(error)


async def test_a_checkpoint_of_another_log_is_refused(verified: Pair) -> None:
    alpha, shield = verified
    other = shield.create_list("other")
    other.publish(indicators(20))
    shield.tamper_body("checkpoint", lambda _: other.note())
    assert isinstance(await refused(alpha), PeerMisbehavedError)


async def test_a_replayed_list_note_is_refused(verified: Pair) -> None:
    alpha, shield = verified
    old = shield.list_note("ncii")
    shield.list_versions["ncii"] = 2
    alpha.clock.advance(3600)
    await alpha.follower.sync("shield.example", "ncii")
    alpha.clock.advance(3600)
    shield.tamper_body("list-note", lambda _: old)
    assert isinstance((await refused(alpha)).cause, StaleVersionError)


async def test_a_replayed_descriptor_is_refused(verified: Pair) -> None:
    alpha, shield = verified
    old = shield.descriptor()
    shield.version = 2
    await alpha.peering.refresh_descriptor("shield.example")
    shield.tamper_body("descriptor", lambda _: old)
    with pytest.raises(PeerMisbehavedError) as caught:
        await alpha.peering.refresh_descriptor("shield.example")
    assert isinstance(caught.value.cause, StaleVersionError)
    assert (await alpha.peer("shield.example")).descriptor_version == 2
    assert [item.code for item in await alpha.evidence()] == ["stale-version"]


async def test_a_list_note_about_another_list_is_refused(verified: Pair) -> None:
    alpha, shield = verified
    shield.create_list("other")
    other = shield.list_note("other")
    alpha.clock.advance(3600)
    shield.tamper_body("list-note", lambda _: other)
    assert isinstance((await refused(alpha)).cause, MalformedError)


@pytest.mark.parametrize("kind", ["checkpoint", "tile", "entries", "bodies"])
async def test_an_endless_body_is_refused(verified: Pair, kind: str) -> None:
    alpha, shield = verified
    shield.logs["ncii"].publish(indicators(2, first=KNOWN))

    async def act(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(65_536))

    shield.play(kind, act)
    assert isinstance((await refused(alpha)).cause, TooLargeError)


async def test_a_decompression_bomb_is_refused(verified: Pair) -> None:
    alpha, shield = verified
    shield.logs["ncii"].publish(indicators(2, first=KNOWN))
    shield.tamper("bodies", recoded(lambda _: bytes(200 * 1024 * 1024)))
    assert isinstance((await refused(alpha)).cause, TooLargeError)


async def test_a_redirect_is_not_followed(verified: Pair) -> None:
    alpha, shield = verified
    shield.logs["ncii"].publish(indicators(2, first=KNOWN))

    async def act(_: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": "http://127.0.0.1:1/"})

    shield.play("entries", act)
    report = await alpha.follower.sync("shield.example", "ncii")
    assert report.error is not None
    assert "redirect" in report.error


async def test_what_a_list_withholds_stops_the_copy_without_an_accusation(
    verified: Pair,
) -> None:
    alpha, shield = verified
    shield.logs["ncii"].publish(indicators(2, first=KNOWN))

    async def act(_: web.Request) -> web.Response:
        return web.Response(status=404)

    shield.play("tile", act)
    report = await alpha.follower.sync("shield.example", "ncii")
    assert report.state is FollowState.WAITING
    assert await alpha.evidence() == []
    assert (await alpha.log(shield.logs["ncii"].origin)).state is LogState.ACTIVE
    with pytest.raises(PeerRefusedError):
        await alpha.client.fetch_tile(
            await alpha.peer("shield.example"),
            shield.logs["ncii"].origin,
            TileId(0, 0, 1),
        )


@pytest.mark.parametrize(
    "entry",
    [
        b"\x01short",
        b"\x02" + bytes(8) + b"\0\0\0\0" + b"\0",
        b"\x03" + (1_000).to_bytes(8, "big") + b"\0\0\0\1" + b"\0",
        b"\x00" + b'{"hsf":1}',
        encode_entry(Meta("shield.example/hsf/v1/log/ncii/1")),
    ],
    ids=["record", "empty-range", "range-ahead", "meta", "second-meta"],
)
async def test_an_entry_that_breaks_the_rules_is_refused(
    verified: Pair, entry: bytes
) -> None:
    alpha, shield = verified
    shield.logs["ncii"].append_raw(entry)
    error = await refused(alpha)
    assert isinstance(error.cause, ProtocolError)
    assert "entries 0" in str(error)


async def test_a_log_that_begins_with_the_meta_of_another_is_refused(
    verified: Pair,
) -> None:
    alpha, shield = verified
    log = shield.create_list("second")
    log.entries.clear()
    log.bodies.clear()
    log.leaves.clear()
    log.append(Meta("shield.example/hsf/v1/log/ncii/1"))
    await alpha.peering.follow("shield.example", "second")
    error = await refused(alpha, "second")
    assert "names another log" in str(error)


async def test_evidence_is_kept_once_per_list_and_rule(verified: Pair) -> None:
    alpha, shield = verified
    log = shield.logs["ncii"]
    for size in (1, 2, 3):
        shield.honest()
        shield.tamper_body("checkpoint", lambda _, n=size: log.note(n))  # type: ignore[misc]
        with pytest.raises(PeerMisbehavedError):
            await alpha.follower.sync("shield.example", "ncii")
        await alpha.peering.follow("shield.example", "ncii")
    assert [item.code for item in await alpha.evidence()] == ["rollback"]


def forked(log: LogSimulator, size: int) -> LogSimulator:
    """Make a second log of the same name and key that shares only a beginning."""
    other = LogSimulator(log.origin)
    other.signer = log.signer
    other.entries = log.entries[:size]
    other.bodies = log.bodies[:size]
    other.leaves = log.leaves[:size]
    return other
