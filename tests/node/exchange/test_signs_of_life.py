"""A relayed copy is as fresh as the last sign of life of its owner on it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from hashlight_node.exchange.following.life import (
    RENEW_SECONDS,
    SignsOfLife,
    read_sign,
    sign_time,
)
from hashlight_node.exchange.following.sealing import seal_copy
from hashlight_node.exchange.following.sources import Source
from hashlight_node.exchange.logs.cosigning import bare_note
from hashlight_node.model import FollowState, Peer, PeerState
from hashlight_node.peers.errors import PeerMisbehavedError
from hashlight_node.store import logs
from hashlight_protocol import (
    COSIGNATURE,
    Ed25519Signer,
    SignedCheckpoint,
    append_signatures,
    cosign,
    open_checkpoint,
    verify_cosignature,
)
from support.clock import START, ManualClock
from support.log_simulator import LogSimulator
from support.made_records import shared
from support.peer_simulator import Answer, PeerSimulator

if TYPE_CHECKING:
    from support.exchange_node import ExchangeNode

ORIGIN = "shield.example/hsf/v1/log/ncii/1"
WITNESS = Ed25519Signer("shield.example/hsf/v1/witness", COSIGNATURE, bytes(32))
MIRROR = Ed25519Signer("alpha.example/hsf/v1/mirror", COSIGNATURE, b"m" * 32)
RELAY = Peer(9, "beta.example", "", "", b"", 1, PeerState.ACTIVE, START, None)
OWNER = replace(RELAY, peer_id=1, name="shield.example")


@pytest.fixture
def log() -> LogSimulator:
    made = LogSimulator(ORIGIN)
    made.publish([shared(1)])
    return made


def opened(log: LogSimulator, note: bytes) -> SignedCheckpoint:
    return open_checkpoint(note, [log.signer.key], origin=ORIGIN)


def test_a_sign_keeps_for_a_while_and_is_then_made_anew(log: LogSimulator) -> None:
    clock = ManualClock()
    life = SignsOfLife(signer=WITNESS, clock=clock)
    first = life.add(ORIGIN, log.note())
    assert verify_cosignature(first, WITNESS.key) == START
    clock.now += RENEW_SECONDS - 1
    assert life.add(ORIGIN, log.note()) == first
    clock.now += 1
    second = life.add(ORIGIN, log.note())
    assert verify_cosignature(second, WITNESS.key) == clock.now
    # A clock that was set back does not keep one for longer.
    clock.now = START
    assert verify_cosignature(life.add(ORIGIN, log.note()), WITNESS.key) == START


def test_a_new_checkpoint_has_a_sign_of_its_own(log: LogSimulator) -> None:
    clock = ManualClock()
    life = SignsOfLife(signer=WITNESS, clock=clock)
    life.add(ORIGIN, log.note())
    clock.now += 1
    log.publish([shared(2)])
    note = life.add(ORIGIN, log.note())
    assert verify_cosignature(note, WITNESS.key) == START + 1


def test_only_the_owners_own_sign_counts(log: LogSimulator) -> None:
    bare = log.note()
    relayed = append_signatures(bare, cosign(bare, MIRROR, now=START))
    signed = opened(log, relayed)
    assert read_sign(signed, bare_note(signed), WITNESS.key, now=START) is None
    other = LogSimulator(ORIGIN)
    other.publish([shared(3)])
    # A sign on another checkpoint, put below this one.
    stolen = cosign(other.note(), WITNESS, now=START)
    signed = opened(log, append_signatures(bare, stolen))
    assert read_sign(signed, bare_note(signed), WITNESS.key, now=START) is None


@pytest.mark.parametrize(("ahead", "at"), [(0, 0), (-50, -50), (300, 0), (301, None)])
def test_a_sign_from_the_future_makes_nothing_fresher_than_now(
    log: LogSimulator, ahead: int, at: int | None
) -> None:
    bare = log.note()
    signed = opened(
        log, append_signatures(bare, cosign(bare, WITNESS, now=START + ahead))
    )
    sign = read_sign(signed, bare_note(signed), WITNESS.key, now=START)
    found = None if sign is None else sign.at - START
    assert found == at


def test_the_newest_sign_of_several_is_read(log: LogSimulator) -> None:
    note = log.note()
    assert sign_time(note, WITNESS.key) == 0
    for at in (START, START + 9, START + 3):
        note = append_signatures(note, cosign(log.note(), WITNESS, now=at))
    assert sign_time(note, WITNESS.key) == START + 9


def test_a_relay_without_a_sign_of_life_raises_doubt(log: LogSimulator) -> None:
    seal = seal_copy(Source(OWNER, RELAY), opened(log, log.note()), MIRROR, now=START)
    assert "no sign of life of shield.example" in (seal.doubt or "")
    assert not seal.is_newer_than(None)
    assert verify_cosignature(seal.mirrored, MIRROR.key) == START
    direct = seal_copy(Source(OWNER, OWNER), opened(log, log.note()), MIRROR, now=START)
    assert direct.doubt is None


async def test_a_silence_of_hours_is_told_and_ends(
    following: tuple[ExchangeNode, PeerSimulator],
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    await alpha.follower.sync("shield.example", "ncii")
    owner = await alpha.peer("shield.example")
    bare = log.note()
    key = shield.witness
    note = append_signatures(bare, cosign(bare, key, now=START))
    source = Source(owner, RELAY)
    for passed in (0, 3 * 3600 - 1):
        seal = seal_copy(source, opened(log, note), MIRROR, now=START + passed)
        assert seal.doubt is None
    late = seal_copy(source, opened(log, note), MIRROR, now=START + 3 * 3600)
    assert "for 10800 s" in (late.doubt or "")


async def test_a_sign_moves_what_we_acknowledged_and_an_older_one_does_not(
    following: tuple[ExchangeNode, PeerSimulator],
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    await alpha.follower.sync("shield.example", "ncii")
    source = Source(await alpha.peer("shield.example"), RELAY)
    copy = await alpha.log(ORIGIN)
    bare = log.note()

    async def fresh_after(at: int) -> tuple[bool, int | None]:
        note = append_signatures(bare, cosign(bare, shield.witness, now=at))
        seal = seal_copy(source, opened(log, note), MIRROR, now=START + 100)
        before = await alpha.log(ORIGIN)
        await alpha.database.write(
            lambda conn: seal.save_freshness(conn, copy, before.verified_at)
        )
        newer = seal.is_newer_than(
            append_signatures(bare, cosign(bare, shield.witness, now=START))
        )
        return newer, (await alpha.log(ORIGIN)).verified_at

    assert await fresh_after(START + 50) == (True, START + 50)
    assert await fresh_after(START - 50) == (False, START + 50)
    unknown = seal_copy(source, opened(log, bare), MIRROR, now=START)
    await alpha.database.write(lambda conn: unknown.save_freshness(conn, copy, None))
    assert (await alpha.log(ORIGIN)).verified_at is None
    status = await alpha.inspect.lists()
    assert [one.lag_seconds for one in status] == [None]


async def test_the_relay_is_asked_who_the_owner_is_and_cannot_lie_about_it(
    following: tuple[ExchangeNode, PeerSimulator], beta: PeerSimulator
) -> None:
    alpha, _ = following
    await alpha.peering.add_peer(beta.base, beta.vkey)
    await alpha.peering.follow("shield.example", "ncii", via="beta.example")
    lie = Answer("owner", beta.descriptor())
    beta.tamper("nothing", lambda _: lie)
    with pytest.raises(PeerMisbehavedError) as caught:
        await alpha.follower.sync("shield.example", "ncii")
    assert (caught.value.peer, caught.value.code) == ("beta.example", "unknown-key")
    follow = await alpha.follow("shield.example", "ncii")
    assert (follow.via, follow.state) == ("beta.example", FollowState.QUARANTINED)
    assert await alpha.read(lambda conn: logs.find_log(conn, ORIGIN)) is None


async def test_a_relay_with_an_older_descriptor_of_the_owner_is_no_liar(
    following: tuple[ExchangeNode, PeerSimulator], beta: PeerSimulator
) -> None:
    alpha, shield = following
    old = Answer("owner", shield.descriptor())
    shield.version += 1
    await alpha.peering.refresh_descriptor("shield.example")
    await alpha.peering.add_peer(beta.base, beta.vkey)
    source = Source(
        await alpha.peer("shield.example"), await alpha.peer("beta.example")
    )
    beta.tamper("nothing", lambda _: old)
    owners = alpha.follower._owners  # noqa: SLF001 -- nothing else asks for it alone
    kept = await owners.introduce(source, "ncii")
    assert kept.owner.descriptor == shield.descriptor()
    # And is not asked again at once.
    beta.tamper("nothing", lambda _: Answer("owner", b"nonsense"))
    assert await owners.introduce(kept, "ncii") == kept
