"""What operators and local services are told."""

from __future__ import annotations

import pytest

from hashlight_node.exchange.errors import NotServedError, UnknownRecordError
from hashlight_node.model import FollowState, Role
from hashlight_node.peers.errors import PeerMisbehavedError
from hashlight_protocol import Ref, open_receipt, parse_signal
from support.exchange_node import ExchangeNode
from support.made_records import indicators, md5_of, pdq_of
from support.peer_simulator import PeerSimulator

Pair = tuple[ExchangeNode, PeerSimulator]


async def test_status_shows_own_and_followed_lists(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(2))
    await alpha.publisher.create_list("ours", {"title": "a list"})
    await alpha.follower.sync("shield.example", "ncii")
    alpha.clock.advance(60)

    status = await alpha.inspect.status()

    assert status.node == "alpha.example"
    ours, theirs = status.lists
    assert (ours.role, ours.size, ours.lag_seconds) == (Role.OWN, 1, 0)
    assert ours.meta == {"title": "a list"}
    assert ours.follow_state is None
    assert (theirs.role, theirs.size, theirs.lag_seconds) == (Role.FOLLOWED, 3, 60)
    assert (theirs.root_hash, theirs.checkpoint_size) == (log.root(), 3)
    assert theirs.follow_state is FollowState.ACTIVE
    assert await alpha.inspect.lists() == status.lists


async def test_status_shows_peers_and_what_they_did(following: Pair) -> None:
    alpha, shield = following
    await alpha.publisher.create_list("ours", {})
    await alpha.peering.grant("shield.example", "ours")
    note = (await alpha.log("alpha.example/hsf/v1/log/ours/1")).checkpoint
    assert note is not None
    shield.acknowledge(note)
    await alpha.pusher.push("alpha.example/hsf/v1/log/ours/1")
    await alpha.pusher.collect_acknowledgement(
        "alpha.example/hsf/v1/log/ours/1",
        await alpha.peer("shield.example"),
        wait_seconds=0,
    )

    (peer,) = (await alpha.inspect.status()).peers

    assert (peer.name, peer.contacted_at) == ("shield.example", alpha.clock.now)
    assert [grant.list_name for grant in peer.grants] == ["ours"]
    assert [follow.list_name for follow in peer.follows] == ["ncii"]
    assert [delivery.tree_size for delivery in peer.deliveries] == [1]
    assert [one.tree_size for one in peer.acknowledgements] == [1]
    assert peer.evidence == 0
    assert await alpha.inspect.peers() == (peer,)


async def test_a_list_in_quarantine_shows_why(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(2))
    await alpha.follower.sync("shield.example", "ncii")
    shield.tamper_body("checkpoint", lambda _: log.note(1))
    with pytest.raises(PeerMisbehavedError):
        await alpha.follower.sync("shield.example", "ncii")
    (shown,) = (await alpha.inspect.status()).lists
    assert shown.follow_state is FollowState.QUARANTINED
    assert shown.error is not None
    assert "went back from size 3 to 1" in shown.error
    (peer,) = await alpha.inspect.peers()
    assert peer.evidence == 1
    assert [one.code for one in await alpha.inspect.evidence()] == ["rollback"]


async def test_a_copy_that_was_never_whole_has_no_age(following: Pair) -> None:
    alpha, _ = following
    assert (await alpha.inspect.status()).lists == ()
    (follow,) = await alpha.inspect.follows()
    assert follow.state is FollowState.WAITING


async def test_a_receipt_of_a_copied_record_verifies_with_the_origin_s_key(
    following: Pair,
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    (index,) = log.publish(indicators(1))
    await alpha.follower.sync("shield.example", "ncii")
    raw = await alpha.inspect.receipt(Ref(log.origin, index))
    assert open_receipt(raw, [log.signer.key]).body == log.bodies[index].body


async def test_what_is_not_here_is_unknown(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(1))
    await alpha.follower.sync("shield.example", "ncii")
    with pytest.raises(UnknownRecordError):
        await alpha.inspect.receipt(Ref("x.example/hsf/v1/log/a/1", 1))
    with pytest.raises(NotServedError):
        await alpha.inspect.receipt(Ref(log.origin, 0))
    with pytest.raises(UnknownRecordError):
        await alpha.inspect.erasure(Ref(log.origin, 1))


async def test_a_lookup_says_who_knows_it_and_what_was_searched(
    following: Pair,
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(3))
    await alpha.follower.sync("shield.example", "ncii")
    await alpha.publisher.create_list("ours", {})
    alpha.clock.advance(30)
    near = f"{int(pdq_of(1), 16) ^ 0b111:064x}"
    queries = [
        parse_signal("md5", md5_of(0)),
        parse_signal("pdq", near),
        parse_signal("md5", md5_of(99)),
    ]

    answer = await alpha.lookup.lookup(queries, max_distance=None)

    exact, close, nothing = answer.results
    assert exact.matches[0].records[0].ref == Ref(log.origin, 1)
    assert (close.matches[0].distance, close.matches[0].signal.value) == (3, pdq_of(1))
    assert nothing.matches == ()
    searched = {state.origin: state for state in answer.lists}
    assert searched[log.origin].tree_size == 4
    assert searched[log.origin].root_hash == log.root()
    assert searched[log.origin].age_seconds == 30
    assert searched["alpha.example/hsf/v1/log/ours/1"].age_seconds == 0


async def test_near_matches_end_where_the_caller_says(following: Pair) -> None:
    alpha, shield = following
    shield.logs["ncii"].publish(indicators(1))
    await alpha.follower.sync("shield.example", "ncii")
    near = parse_signal("pdq", f"{int(pdq_of(0), 16) ^ 0b111:064x}")
    for max_distance, count in ((2, 0), (3, 1)):
        answer = await alpha.lookup.lookup([near], max_distance=max_distance)
        assert len(answer.results[0].matches) == count


async def test_an_answer_during_a_copy_names_the_last_whole_state(
    following: Pair,
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(2))
    await alpha.follower.sync("shield.example", "ncii")
    whole = log.root()
    log.publish(indicators(6_000, first=2))

    def stop(_: int, __: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await alpha.follower.sync("shield.example", "ncii", progress=stop)
    answer = await alpha.lookup.lookup(
        [parse_signal("md5", md5_of(1))], max_distance=None
    )
    (searched,) = answer.lists
    assert (searched.tree_size, searched.root_hash) == (3, whole)
    assert (await alpha.log(log.origin)).tree_size > 3


async def test_a_picture_is_hashed_and_looked_up(
    alpha: ExchangeNode, picture: bytes
) -> None:
    found, answer = await alpha.lookup.lookup_image(picture)
    types = [result.query.type for result in answer.results]
    assert types == ["pdq", "md5", "sha1", "sha256"]
    assert answer.results[0].query.value == found.pdq
    assert not any(result.matches for result in answer.results)
