"""What was taken back stays so where parts of the exchange meet."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from hashlight_node.exchange.following.copying import Batch, Copy
from hashlight_node.exchange.following.freshness import FreshnessKeeper, FreshnessRules
from hashlight_node.exchange.following.sources import Source
from hashlight_node.exchange.following.transfer import VerifiedBundle
from hashlight_node.exchange.logs.append import stored_frontier
from hashlight_node.exchange.logs.evidence import quarantine_list
from hashlight_node.exchange.publishing.epochs import Abandoned
from hashlight_node.model import FollowState, LogState, RecordState
from hashlight_node.peers.errors import PeerMisbehavedError
from hashlight_node.store import logs, records
from hashlight_node.store.errors import ScrubError
from hashlight_protocol import (
    WHOLE_LIST,
    GrantScope,
    KnownHead,
    MalformedError,
    Reason,
    Ref,
    append_signatures,
    cosign,
    leaf_hashes,
    open_checkpoint,
    parse_entry,
)
from support.made_records import indicators, labelled, opinion
from support.peer_simulator import Answer
from support.stores import reading

if TYPE_CHECKING:
    from pathlib import Path

    from support.exchange_node import ExchangeNode
    from support.log_simulator import LogSimulator
    from support.peer_simulator import PeerSimulator

Pair = tuple["ExchangeNode", "PeerSimulator"]

DAY = 86_400
RULES = FreshnessRules()
ADULT = GrantScope(frozenset({"ncii:adult"}), None, None)
NCII = GrantScope(frozenset({"ncii:*"}), None, None)
ONE = "shield.example/hsf/v1/log/ncii/1"
TWO = "shield.example/hsf/v1/log/ncii/2"


@pytest.fixture
async def copied(following: Pair) -> Pair:
    """Let alpha copy records 0 to 3, in leaves 1 to 4."""
    alpha, shield = following
    shield.logs["ncii"].publish(indicators(4))
    await alpha.follower.sync("shield.example", "ncii")
    return following


async def check_freshness(node: ExchangeNode) -> None:
    keeper = FreshnessKeeper(database=node.database, rules=RULES, clock=node.clock)
    await keeper.check()


async def relay(
    alpha: ExchangeNode, shield: PeerSimulator, log: LogSimulator, signed_at: int
) -> None:
    """Let a relay bring what is new of a log, with a sign of life of its owner."""
    owner = await alpha.peer("shield.example")
    source = Source(owner, replace(owner, peer_id=9, name="beta.example"))
    stored = await alpha.log(ONE)
    follow = await alpha.follow("shield.example", "ncii")
    bare = log.note()
    note = append_signatures(bare, cosign(bare, shield.witness, now=signed_at))
    signed = open_checkpoint(note, [log.signer.key], origin=ONE)
    copy = Copy(alpha.following, source=source, follow=follow, log=stored)
    if stored.tree_size == log.size:
        await copy.confirm(signed)
        return
    raw = log.entries[stored.tree_size :]
    entries = [
        parse_entry(one, leaf_index=at) for at, one in enumerate(raw, stored.tree_size)
    ]
    batch = Batch(stored.tree_size)
    batch.add(
        VerifiedBundle(
            stored.tree_size,
            tuple(raw),
            tuple(leaf_hashes(raw)),
            tuple(entries),
            tuple(log.bodies[stored.tree_size :]),
            None,
        )
    )
    frontier = await alpha.read(lambda conn: stored_frontier(conn, stored))
    await copy.finish(frontier, batch, signed)


async def test_a_stale_copy_that_a_relay_extends_is_stale_until_the_sign_is_young(
    copied: Pair,
) -> None:
    alpha, shield = copied
    log = shield.logs["ncii"]
    signed_at = alpha.clock.now
    alpha.clock.advance(31 * DAY)
    await check_freshness(alpha)
    assert await alpha.matches(0) == 0

    # The relay holds back that record 0 was taken back since.
    log.publish(indicators(1, first=7))
    await relay(alpha, shield, log, signed_at + 60)
    stale = await alpha.log(ONE)
    assert (stale.state, stale.checkpoint_size) == (LogState.STALE, log.size)
    assert stale.stale_at == alpha.clock.now
    assert [await alpha.matches(0), await alpha.matches(7)] == [0, 0]

    await relay(alpha, shield, log, signed_at + 120)
    assert await alpha.matches(0) == 0
    await relay(alpha, shield, log, alpha.clock.now - 60)
    assert (await alpha.log(ONE)).state is LogState.ACTIVE
    assert [await alpha.matches(0), await alpha.matches(7)] == [1, 1]


async def test_an_alarm_does_not_make_a_stale_copy_match(copied: Pair) -> None:
    alpha, shield = copied
    log = shield.logs["ncii"]
    signed_at = alpha.clock.now
    alpha.clock.advance(31 * DAY)
    await check_freshness(alpha)
    await alpha.database.write(
        lambda conn: logs.set_log_state(conn, 1, LogState.STALE, "an old alarm")
    )
    log.publish(indicators(1, first=7))
    await relay(alpha, shield, log, signed_at)
    assert (await alpha.log(ONE)).state is LogState.STALE


async def test_evidence_does_not_make_a_list_match_that_is_followed_no_more(
    copied: Pair,
) -> None:
    alpha, _ = copied
    await alpha.peering.unfollow("shield.example", "ncii")
    assert await alpha.matches(0) == 0
    peer = await alpha.peer("shield.example")
    wrong = MalformedError("checkpoint", "it is none")
    error = PeerMisbehavedError("shield.example", "checkpoint", wrong, b"proof")

    await alpha.database.write(
        lambda conn: quarantine_list(conn, peer, "ncii", error, now=alpha.clock.now)
    )

    assert (await alpha.log(ONE)).state is LogState.FROZEN
    assert await alpha.matches(0) == 0


async def test_an_abandoned_log_that_nothing_follows_stops_matching_in_the_end(
    copied: Pair,
) -> None:
    alpha, shield = copied
    old = shield.logs["ncii"]
    shield.abandoned["ncii"] = KnownHead(3, old.root(3))
    shield.list_versions["ncii"] = 2
    alpha.clock.advance(3600)
    report = await alpha.follower.sync("shield.example", "ncii")
    assert report.state is FollowState.WAITING
    assert await alpha.matches(0) == 1

    alpha.clock.advance(31 * DAY)
    await check_freshness(alpha)
    assert await alpha.matches(0) == 0

    # The next log makes what counts match again, and nothing else.
    del shield.abandoned["ncii"]
    new = shield.next_log("ncii", "abandoned", final=KnownHead(3, old.root(3)))
    new.reissue(old, [1])
    await alpha.follower.sync("shield.example", "ncii")
    assert [await alpha.matches(number) for number in range(4)] == [1, 0, 0, 0]
    assert (await alpha.log(ONE)).state is LogState.ABANDONED


@pytest.mark.parametrize("later", ["drop", "keep"])
async def test_an_erasure_beyond_the_end_of_a_log_is_said_again_in_the_next(
    alpha: ExchangeNode, later: str
) -> None:
    await alpha.publisher.create_list("ncii", {})
    refs = await alpha.publisher.publish("ncii", indicators(4))
    await alpha.publisher.withdraw(refs[0], "erase", Reason.FALSE_POSITIVE)
    final = (await alpha.log(refs[0].origin)).tree_size
    await alpha.publisher.withdraw(refs[1], "erase", Reason.WITHDRAWN)
    old = await alpha.log(refs[0].origin)

    # Followers undo what lies beyond the end, or never saw it.
    ending = Abandoned(final, "keep" if later == "keep" else "drop")
    begun = await alpha.epochs.begin_next("ncii", ending=ending)

    new = await alpha.log(begun.origin)
    places = (new.tree_size - 2, new.tree_size - 1)
    found = await alpha.read(
        lambda conn: logs.read_entries_at(conn, new.log_id, places)
    )
    said = [found[at] for at in places]
    first = await alpha.read(
        lambda conn: logs.read_entry(conn, old.log_id, refs[1].leaf_index)
    )
    assert said[0] == first
    erase = parse_entry(said[1], leaf_index=new.tree_size - 1)
    assert erase.first == new.tree_size - 2  # type: ignore[union-attr]
    assert erase.reason == Reason.WITHDRAWN  # type: ignore[union-attr]
    assert begun.reissued == 2
    # That is where its acknowledgements are looked for, and it is not said twice.
    report = await alpha.inspect.erasure(refs[1])
    assert (report.ref.origin, report.erased_by) == (new.origin, new.tree_size - 1)
    by = await alpha.publisher.withdraw(refs[1], "erase", Reason.WITHDRAWN)
    assert by == Ref(new.origin, new.tree_size - 1)


async def test_a_new_log_is_acknowledged_after_the_scrub_of_what_it_ended(
    copied: Pair, tmp_path: Path
) -> None:
    alpha, shield = copied
    old = shield.logs["ncii"]
    old.erase(1)
    new = shield.next_log("ncii")
    new.reissue(old, [2, 3])
    refused = Answer("checkpoint", b'{"type":"hsf:unknown-log","status":404}', 404)
    shield.tamper(
        "checkpoint",
        lambda answer: refused if answer.body.startswith(ONE.encode()) else answer,
    )
    alpha.clock.advance(3600)

    with reading(tmp_path / "alpha"), pytest.raises(ScrubError):
        await alpha.follower.sync("shield.example", "ncii")

    assert (await alpha.log(TWO)).mirror_checkpoint is None
    assert (await alpha.record(ONE, 1)).state is RecordState.ERASED
    await alpha.follower.sync("shield.example", "ncii")
    assert (await alpha.log(TWO)).mirror_checkpoint is not None
    assert [await alpha.matches(number) for number in range(4)] == [0, 1, 1, 0]


async def test_a_body_that_was_withheld_is_not_filled_in_after_the_end_of_its_log(
    following: Pair,
) -> None:
    alpha, shield = following
    old = shield.logs["ncii"]
    old.publish([labelled(0, "ncii:adult"), labelled(1, "ncii:child")])
    shield.narrow("ncii", ADULT)
    await alpha.follower.sync("shield.example", "ncii")
    body = old.bodies[2]
    old.erase(2)
    new = shield.next_log("ncii")
    new.reissue(old, [1])
    refused = Answer("checkpoint", b'{"type":"hsf:unknown-log","status":404}', 404)
    shield.tamper(
        "checkpoint",
        lambda answer: refused if answer.body.startswith(ONE.encode()) else answer,
    )
    alpha.clock.advance(3600)
    await alpha.follower.sync("shield.example", "ncii")

    # As a relay would serve it that does not know of the ERASE either.
    old.bodies[2] = body
    shield.narrow("ncii", WHOLE_LIST)
    await alpha.follower.sync("shield.example", "ncii")

    assert (await alpha.record(ONE, 2)).body == b""
    follow = await alpha.follow("shield.example", "ncii")
    assert follow.scope == WHOLE_LIST


async def test_rights_that_grew_while_a_copy_was_stale_bring_what_was_withheld(
    following: Pair,
) -> None:
    alpha, shield = following
    shield.logs["ncii"].publish([labelled(0, "ncii:adult"), labelled(1, "ncii:child")])
    shield.narrow("ncii", ADULT)
    await alpha.follower.sync("shield.example", "ncii")
    alpha.clock.advance(31 * DAY)
    await check_freshness(alpha)

    shield.narrow("ncii", NCII)
    await alpha.follower.sync("shield.example", "ncii")

    assert [await alpha.matches(0), await alpha.matches(1)] == [1, 1]


async def test_opinions_of_a_list_that_is_followed_no_more_count_no_more(
    copied: Pair,
) -> None:
    alpha, shield = copied
    log = shield.logs["ncii"]
    about = Ref("alpha.example/hsf/v1/log/ncii/1", 1)
    log.publish([opinion(about)])
    await alpha.follower.sync("shield.example", "ncii")
    assert (
        len(await alpha.read(lambda conn: records.opinions_about(conn, [about]))) == 1
    )
    await alpha.peering.unfollow("shield.example", "ncii")
    # That its author took it back would not arrive here any more.
    assert not await alpha.read(lambda conn: records.opinions_about(conn, [about]))
