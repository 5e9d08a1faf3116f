"""What peers are given, and what nobody learns anything from."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from hashlight_node.exchange.answering.serve import matches_etag
from hashlight_node.exchange.errors import (
    ErasedError,
    NotServedError,
    UnknownLogError,
    WithheldError,
)
from hashlight_node.exchange.logs.representations import etag_of
from hashlight_node.model import Peer
from hashlight_protocol import (
    Body,
    BodyBundleId,
    BodyStatus,
    EntryBundleId,
    Reason,
    Ref,
    TileId,
    leaf_hashes,
    open_checkpoint,
    open_receipt,
    origin_hash,
    parse_body_bundle,
    parse_entry_bundle,
    verify_cosignature,
)
from support.exchange_node import ExchangeNode
from support.made_records import indicator, indicators
from support.peer_simulator import PeerSimulator

ORIGIN = "alpha.example/hsf/v1/log/ours/1"
Ask = Callable[[ExchangeNode, Peer, str, int], Awaitable[object]]

QUESTIONS: dict[str, Ask] = {
    "checkpoint": lambda n, p, name, e: n.serving.checkpoint(p, name, e),
    "wait": lambda n, p, name, e: n.serving.wait_checkpoint(
        p, name, e, etag=None, seconds=0
    ),
    "tile": lambda n, p, name, e: n.serving.tile(p, name, e, TileId(0, 0, 1)),
    "entries": lambda n, p, name, e: n.serving.entries(p, name, e, EntryBundleId(0, 1)),
    "bodies": lambda n, p, name, e: n.serving.bodies(p, name, e, BodyBundleId(0, 1)),
    "receipt": lambda n, p, name, e: n.serving.receipt(p, name, e, 1),
    "list-note": lambda n, p, name, _: n.serving.list_note(p, name),
}


@pytest.fixture
async def served(
    following: tuple[ExchangeNode, PeerSimulator],
) -> tuple[ExchangeNode, Peer]:
    """Let alpha publish 300 records in a list that shield may have."""
    alpha, _ = following
    await alpha.publisher.create_list("ours", {})
    await alpha.publisher.create_list("secret", {})
    await alpha.publisher.publish("ours", indicators(300))
    await alpha.publisher.publish("secret", indicators(1))
    await alpha.peering.grant("shield.example", "ours")
    return alpha, await alpha.peer("shield.example")


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize(
    ("list_name", "epoch"),
    [
        ("secret", 1),
        ("nothing", 1),
        ("ours", 2),
        ("ours", 2**63),
        ("-", 1),
        ("ncii", 1),
    ],
)
async def test_not_granted_and_not_there_are_one_answer(
    served: tuple[ExchangeNode, Peer], question: str, list_name: str, epoch: int
) -> None:
    alpha, shield = served
    if question == "list-note" and list_name == "ours":
        return
    with pytest.raises(UnknownLogError) as caught:
        await QUESTIONS[question](alpha, shield, list_name, epoch)
    assert str(caught.value) == str(UnknownLogError())
    assert vars(caught.value) == {}


@pytest.mark.parametrize("question", QUESTIONS)
async def test_a_grant_opens_every_question_and_its_end_closes_them(
    served: tuple[ExchangeNode, Peer], question: str
) -> None:
    alpha, shield = served
    assert await QUESTIONS[question](alpha, shield, "ours", 1)
    await alpha.peering.revoke("shield.example", "ours")
    with pytest.raises(UnknownLogError):
        await QUESTIONS[question](alpha, shield, "ours", 1)


@pytest.mark.parametrize("question", QUESTIONS)
async def test_a_peer_in_quarantine_gets_nothing(
    served: tuple[ExchangeNode, Peer], question: str
) -> None:
    alpha, _ = served
    shield = await alpha.peering.quarantine("shield.example")
    with pytest.raises(UnknownLogError):
        await QUESTIONS[question](alpha, shield, "ours", 1)


async def test_everything_served_verifies_against_the_checkpoint(
    served: tuple[ExchangeNode, Peer],
) -> None:
    alpha, shield = served
    serving = alpha.serving
    note = await serving.checkpoint(shield, "ours", 1)
    key = alpha.keyring.log(ORIGIN).key
    size = open_checkpoint(note, [key], origin=ORIGIN).checkpoint.tree_size
    assert size == 301
    for index, width in ((0, 256), (1, 45)):
        tile = await serving.tile(shield, "ours", 1, TileId(0, index, width))
        raw = await serving.entries(shield, "ours", 1, EntryBundleId(index, width))
        entries = parse_entry_bundle(raw, width)
        assert b"".join(leaf_hashes(entries)) == tile
        bodies = await serving.bodies(shield, "ours", 1, BodyBundleId(index, width))
        assert len(parse_body_bundle(bodies, width)) == width
    upper = await serving.tile(shield, "ours", 1, TileId(1, 0, 1))
    assert len(upper) == 32


@pytest.mark.parametrize(
    "tile",
    [
        TileId(0, 1, 46),
        TileId(0, 1, 256),
        TileId(0, 2, 1),
        TileId(1, 0, 2),
        TileId(1, 1, 1),
        TileId(2, 0, 1),
        TileId(63, 0, 1),
        TileId(0, 2**62, 1),
    ],
)
async def test_no_tile_reaches_beyond_the_checkpoint(
    served: tuple[ExchangeNode, Peer], tile: TileId
) -> None:
    alpha, shield = served
    with pytest.raises(NotServedError):
        await alpha.serving.tile(shield, "ours", 1, tile)


@pytest.mark.parametrize(("index", "width"), [(1, 46), (1, 256), (2, 1), (2**62, 1)])
async def test_no_bundle_reaches_beyond_the_checkpoint(
    served: tuple[ExchangeNode, Peer], index: int, width: int
) -> None:
    alpha, shield = served
    with pytest.raises(NotServedError):
        await alpha.serving.entries(shield, "ours", 1, EntryBundleId(index, width))
    with pytest.raises(NotServedError):
        await alpha.serving.bodies(shield, "ours", 1, BodyBundleId(index, width))


async def test_narrower_widths_of_earlier_sizes_are_still_served(
    served: tuple[ExchangeNode, Peer],
) -> None:
    alpha, shield = served
    wide = await alpha.serving.tile(shield, "ours", 1, TileId(0, 0, 256))
    assert (
        await alpha.serving.tile(shield, "ours", 1, TileId(0, 0, 7)) == wide[: 7 * 32]
    )
    raw = await alpha.serving.entries(shield, "ours", 1, EntryBundleId(0, 7))
    assert len(parse_entry_bundle(raw, 7)) == 7


async def test_retracted_bodies_are_served_and_erased_ones_are_gone(
    served: tuple[ExchangeNode, Peer],
) -> None:
    alpha, shield = served
    await alpha.publisher.withdraw(Ref(ORIGIN, 1), "retract", Reason.WITHDRAWN)
    await alpha.publisher.withdraw(Ref(ORIGIN, 2), "erase", Reason.WITHDRAWN)
    raw = await alpha.serving.bodies(shield, "ours", 1, BodyBundleId(0, 4))
    bodies = parse_body_bundle(raw, 4)
    assert [body.status for body in bodies] == [
        BodyStatus.NONE,
        BodyStatus.PRESENT,
        BodyStatus.ERASED,
        BodyStatus.PRESENT,
    ]
    assert bodies[1].body == indicator(0)
    assert bodies[2] == Body(BodyStatus.ERASED)


async def test_a_receipt_verifies_and_ends_with_the_record(
    served: tuple[ExchangeNode, Peer],
) -> None:
    alpha, shield = served
    raw = await alpha.serving.receipt(shield, "ours", 1, 2)
    verified = open_receipt(raw, [alpha.keyring.log(ORIGIN).key])
    assert verified.body == indicator(1)

    await alpha.publisher.withdraw(Ref(ORIGIN, 2), "erase", Reason.WITHDRAWN)
    with pytest.raises(ErasedError):
        await alpha.serving.receipt(shield, "ours", 1, 2)
    for index in (0, 301, 302, 2**62):
        with pytest.raises(NotServedError):
            await alpha.serving.receipt(shield, "ours", 1, index)


async def test_a_long_poll_returns_when_the_log_grows(
    served: tuple[ExchangeNode, Peer],
) -> None:
    alpha, shield = served
    note = await alpha.serving.checkpoint(shield, "ours", 1)
    poll = asyncio.create_task(
        alpha.serving.wait_checkpoint(shield, "ours", 1, etag=etag_of(note), seconds=20)
    )
    await asyncio.sleep(0.05)
    assert not poll.done()
    await alpha.publisher.publish("ours", indicators(1, first=900))
    news = await asyncio.wait_for(poll, timeout=5)
    assert news == await alpha.serving.checkpoint(shield, "ours", 1)
    assert news != note


async def test_a_long_poll_ends_without_news(
    served: tuple[ExchangeNode, Peer],
) -> None:
    alpha, shield = served
    note = await alpha.serving.checkpoint(shield, "ours", 1)
    etag = etag_of(note)
    for seconds in (0, 1):
        waited = await alpha.serving.wait_checkpoint(
            shield, "ours", 1, etag=etag, seconds=seconds
        )
        assert waited is None


async def test_a_long_poll_of_an_old_version_is_answered_at_once(
    served: tuple[ExchangeNode, Peer],
) -> None:
    alpha, shield = served
    note = await alpha.serving.wait_checkpoint(
        shield, "ours", 1, etag='"other"', seconds=30
    )
    assert note == await alpha.serving.checkpoint(shield, "ours", 1)


async def test_a_revoked_grant_ends_a_long_poll_with_nothing(
    served: tuple[ExchangeNode, Peer],
) -> None:
    alpha, shield = served
    note = await alpha.serving.checkpoint(shield, "ours", 1)
    poll = asyncio.create_task(
        alpha.serving.wait_checkpoint(shield, "ours", 1, etag=etag_of(note), seconds=20)
    )
    await asyncio.sleep(0.05)
    await alpha.peering.revoke("shield.example", "ours")
    await alpha.publisher.publish("ours", indicators(1, first=900))
    with pytest.raises(UnknownLogError):
        await asyncio.wait_for(poll, timeout=5)


@pytest.mark.parametrize(
    ("header", "matches"),
    [
        (None, False),
        ("", False),
        ("*", True),
        (etag_of(b"x"), True),
        (f"W/{etag_of(b'x')}", True),
        (f'"a", {etag_of(b"x")}', True),
        (etag_of(b"y"), False),
    ],
)
def test_versions_are_compared_as_rfc_9110_says(
    header: str | None, *, matches: bool
) -> None:
    assert matches_etag(header, b"x") is matches


async def test_peers_see_their_own_grants_only(
    served: tuple[ExchangeNode, Peer],
) -> None:
    alpha, shield = served
    answer = await alpha.serving.grants(shield)
    lists = "alpha.example/hsf/v1/log"
    assert [grant.list_id for grant in answer.grants] == [f"{lists}/ours"]

    await alpha.peering.grant("shield.example", "secret")
    wider = await alpha.serving.grants(shield)
    assert {grant.list_id for grant in wider.grants} == {
        f"{lists}/ours",
        f"{lists}/secret",
    }
    assert wider.version > answer.version

    quarantined = await alpha.peering.quarantine("shield.example")
    assert (await alpha.serving.grants(quarantined)).grants == ()


async def test_the_origin_collects_its_acknowledgement(
    following: tuple[ExchangeNode, PeerSimulator],
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    peer = await alpha.peer("shield.example")
    log.publish(indicators(2))
    await alpha.follower.sync("shield.example", "ncii")

    note = await alpha.mirroring.checkpoint(
        peer, origin_hash(log.origin), etag=None, seconds=0
    )
    assert note is not None
    assert verify_cosignature(note, alpha.keyring.mirror.key) == alpha.clock.now

    poll = asyncio.create_task(
        alpha.mirroring.checkpoint(
            peer, origin_hash(log.origin), etag=etag_of(note), seconds=20
        )
    )
    await asyncio.sleep(0.05)
    log.erase(1)
    await alpha.follower.sync("shield.example", "ncii")
    news = await asyncio.wait_for(poll, timeout=5)
    assert news is not None
    assert (
        open_checkpoint(news, [log.signer.key], origin=log.origin).head.tree_size == 4
    )


async def test_the_first_acknowledgement_can_be_waited_for(
    following: tuple[ExchangeNode, PeerSimulator],
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    peer = await alpha.peer("shield.example")
    raw = b"old 0\n\n" + log.note()
    await alpha.witness.add_checkpoint(peer, raw)
    digest = origin_hash(log.origin)
    with pytest.raises(UnknownLogError):
        await alpha.mirroring.checkpoint(peer, digest, etag=None, seconds=0)
    poll = asyncio.create_task(
        alpha.mirroring.checkpoint(peer, digest, etag='"none"', seconds=20)
    )
    await asyncio.sleep(0.05)
    await alpha.follower.sync("shield.example", "ncii")
    assert await asyncio.wait_for(poll, timeout=5) is not None


async def test_only_the_origin_reads_what_we_witnessed_and_mirrored(
    following: tuple[ExchangeNode, PeerSimulator], beta: PeerSimulator
) -> None:
    alpha, shield = following
    await alpha.follower.sync("shield.example", "ncii")
    await alpha.publisher.create_list("ours", {})
    await alpha.peering.add_peer(beta.base, beta.vkey)
    stranger = await alpha.peer("beta.example")
    origin = shield.logs["ncii"].origin
    for digest in (
        origin_hash(origin),
        origin_hash(ORIGIN),
        origin_hash("x"),
        "0" * 64,
    ):
        with pytest.raises(UnknownLogError):
            await alpha.serving.witness_checkpoint(stranger, digest)
        with pytest.raises(UnknownLogError):
            await alpha.mirroring.checkpoint(
                stranger, digest, etag='"none"', seconds=30
            )
    owner = await alpha.peer("shield.example")
    note = await alpha.serving.witness_checkpoint(owner, origin_hash(origin))
    assert verify_cosignature(note, alpha.keyring.witness.key) == alpha.clock.now


async def test_a_body_we_were_not_given_is_withheld_in_receipts(
    following: tuple[ExchangeNode, PeerSimulator],
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    (index,) = log.publish([indicator(1)])
    log.bodies[index] = Body(BodyStatus.WITHHELD)
    await alpha.follower.sync("shield.example", "ncii")
    with pytest.raises(WithheldError):
        await alpha.inspect.receipt(Ref(log.origin, index))


async def test_a_long_poll_that_is_open_ends_with_the_peering(
    served: tuple[ExchangeNode, Peer],
) -> None:
    alpha, shield = served
    note = await alpha.serving.checkpoint(shield, "ours", 1)
    poll = asyncio.create_task(
        alpha.serving.wait_checkpoint(shield, "ours", 1, etag=etag_of(note), seconds=30)
    )
    await asyncio.sleep(0.1)
    await alpha.peering.quarantine("shield.example")
    await alpha.publisher.publish("ours", indicators(1, first=500))
    with pytest.raises(UnknownLogError):
        await poll
    # Its state when the request came in is not asked.
    assert (await alpha.serving.grants(shield)).grants == ()


async def test_nothing_is_kept_for_lists_that_are_not_there(
    served: tuple[ExchangeNode, Peer],
) -> None:
    alpha, shield = served
    before = len(alpha.notices._events)  # noqa: SLF001 -- nothing else shows it
    for epoch in range(1, 20):
        with pytest.raises(UnknownLogError):
            await alpha.serving.wait_checkpoint(
                shield, "nothing", epoch, etag='"x"', seconds=30
            )
    assert len(alpha.notices._events) == before  # noqa: SLF001 -- ditto


async def test_whoever_waits_for_the_first_acknowledgement_is_woken(
    following: tuple[ExchangeNode, PeerSimulator],
) -> None:
    alpha, shield = following
    peer = await alpha.peer("shield.example")
    log = shield.logs["ncii"]
    raw = b"old 0\n\n" + log.note()
    await alpha.witness.add_checkpoint(peer, raw)
    poll = asyncio.create_task(
        alpha.mirroring.checkpoint(peer, origin_hash(log.origin), etag=None, seconds=30)
    )
    await alpha.follower.sync("shield.example", "ncii")
    assert await asyncio.wait_for(poll, 5) is not None
