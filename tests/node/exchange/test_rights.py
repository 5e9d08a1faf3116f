"""What the owner lets us have: learned at each sync, and fetched when it grows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from aiohttp import web

from hashlight_node.exchange.following import rights
from hashlight_node.model import FollowState, RecordState
from hashlight_node.peers.errors import PeerMisbehavedError, PeerUnavailableError
from hashlight_node.store.peers import set_via
from hashlight_protocol import WHOLE_LIST, BodyStatus, GrantScope
from support.exchange_node import ExchangeNode
from support.log_simulator import ERASED, WITHHELD
from support.made_records import indicators, labelled
from support.peer_simulator import Answer, PeerSimulator

Pair = tuple[ExchangeNode, PeerSimulator]

ORIGIN = "shield.example/hsf/v1/log/ncii/1"
ADULT = GrantScope(frozenset({"ncii:adult"}), None, None)
NCII = GrantScope(frozenset({"ncii:*"}), None, None)


async def sync(pair: Pair) -> None:
    await pair[0].follower.sync("shield.example", "ncii")


async def version(pair: Pair) -> int:
    return (await pair[0].follow("shield.example", "ncii")).grants_version


def publish_mixed(shield: PeerSimulator, count: int, *, first: int = 0) -> None:
    """Publish records of which every second one is `ncii:adult`."""
    labels = ("ncii:adult", "ncii:child")
    numbers = range(first, first + count)
    shield.logs["ncii"].publish([labelled(n, labels[n % 2]) for n in numbers])


async def test_a_scope_withholds_bodies_and_says_so(following: Pair) -> None:
    alpha, shield = following
    publish_mixed(shield, 4)
    shield.narrow("ncii", ADULT)
    await sync(following)

    assert [await alpha.matches(n) for n in range(4)] == [1, 0, 1, 0]
    hidden = await alpha.record(ORIGIN, 2)
    assert (hidden.status, hidden.state) == (BodyStatus.WITHHELD, RecordState.WITHHELD)
    follow = await alpha.follow("shield.example", "ncii")
    assert (follow.scope, follow.grants_version) == (ADULT, 2)
    # The log is verifiable all the same.
    assert (await alpha.log(ORIGIN)).root_hash == shield.logs["ncii"].root()


async def test_what_comes_under_the_rights_of_now_is_not_asked_for_twice(
    following: Pair,
) -> None:
    _, shield = following
    publish_mixed(shield, 4)
    shield.narrow("ncii", ADULT)
    await sync(following)
    await sync(following)
    assert shield.kinds_asked().count("bodies") == 1


async def test_a_widened_grant_brings_what_was_withheld(following: Pair) -> None:
    alpha, shield = following
    publish_mixed(shield, 4)
    shield.narrow("ncii", ADULT)
    await sync(following)

    shield.narrow("ncii", NCII)
    await sync(following)

    assert [await alpha.matches(n) for n in range(4)] == [1, 1, 1, 1]
    assert await version(following) == 3
    filled = await alpha.record(ORIGIN, 2)
    assert filled.body == labelled(1, "ncii:child")
    assert filled.state is RecordState.LIVE


async def test_only_bundles_with_something_withheld_are_asked_for_again(
    following: Pair,
) -> None:
    alpha, shield = following
    shield.logs["ncii"].publish(indicators(511))
    publish_mixed(shield, 200, first=512)
    shield.logs["ncii"].publish(indicators(300, first=2_000))
    shield.narrow("ncii", ADULT)
    await sync(following)
    shield.asked.clear()

    shield.narrow("ncii", WHOLE_LIST)
    await sync(following)

    asked = [path for kind, path in shield.asked if kind == "bodies"]
    assert asked == ["/hsf/v1/log/ncii/1/bodies/002"]
    assert shield.kinds_asked().count("entries") == 0
    assert [await alpha.matches(n) for n in (511 + 2, 700, 711)] == [1, 1, 1]


async def test_narrowing_takes_nothing_back(following: Pair) -> None:
    alpha, shield = following
    publish_mixed(shield, 4)
    await sync(following)
    shield.narrow("ncii", ADULT)
    publish_mixed(shield, 2, first=4)
    await sync(following)
    assert [await alpha.matches(n) for n in range(6)] == [1, 1, 1, 1, 1, 0]


async def test_what_ended_meanwhile_does_not_come_to_life(following: Pair) -> None:
    alpha, shield = following
    publish_mixed(shield, 6)
    shield.narrow("ncii", ADULT)
    await sync(following)

    shield.logs["ncii"].retract(2)
    shield.logs["ncii"].erase(4)
    shield.narrow("ncii", NCII)
    await sync(following)

    assert [await alpha.matches(n) for n in range(6)] == [1, 0, 1, 0, 1, 1]
    retracted, erased = (
        await alpha.record(ORIGIN, 2),
        await alpha.record(ORIGIN, 4),
    )
    # For audit only.
    assert (retracted.state, retracted.status) == (
        RecordState.RETRACTED,
        BodyStatus.PRESENT,
    )
    assert (erased.state, erased.body, erased.salt) == (RecordState.ERASED, b"", b"")


async def test_an_erasure_that_comes_with_the_bodies_ends_them_too(
    following: Pair,
) -> None:
    alpha, shield = following
    publish_mixed(shield, 4)
    shield.narrow("ncii", ADULT)
    await sync(following)
    shield.narrow("ncii", NCII)
    await sync(following)
    shield.logs["ncii"].erase(2)
    await sync(following)
    assert await alpha.matches(1) == 0
    assert (await alpha.record(ORIGIN, 2)).state is RecordState.ERASED


async def test_a_back_fill_that_was_cut_short_goes_on(
    following: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, shield = following
    monkeypatch.setattr(rights, "_SLICE_BUNDLES", 1)
    publish_mixed(shield, 700)
    shield.narrow("ncii", ADULT)
    await sync(following)
    shield.narrow("ncii", NCII)

    await sync(following)
    assert await alpha.matches(1) == 1
    assert await alpha.matches(301) == 0
    assert await version(following) == 0
    assert len(alpha.notices.syncs) == 1  # the rest is queued

    def away(answer: Answer) -> Answer:
        return replace(answer, status=503)

    shield.tamper("bodies", away)
    with pytest.raises(PeerUnavailableError):
        await sync(following)
    shield.honest()
    shield.asked.clear()
    for _ in range(3):
        await sync(following)

    asked = [path for kind, path in shield.asked if kind == "bodies"]
    assert asked == [f"/hsf/v1/log/ncii/1/bodies/{n}" for n in ("001", "002.p/189")]
    assert [await alpha.matches(n) for n in (1, 301, 699)] == [1, 1, 1]
    assert await version(following) == 3


async def test_what_one_source_withheld_is_asked_of_the_next_that_came_meanwhile(
    following: Pair,
) -> None:
    alpha, shield = following
    publish_mixed(shield, 4)
    shield.narrow("ncii", ADULT)
    await sync(following)
    follow = await alpha.follow("shield.example", "ncii")
    shield.narrow("ncii", NCII)

    async def change_source(_: web.Request) -> web.Response:
        await alpha.database.write(
            lambda conn: set_via(conn, follow.follow_id, "relay.example")
        )
        return web.Response(body=shield.logs["ncii"].body_bundle(0, 5))

    shield.play("bodies", change_source)
    await sync(following)

    assert [await alpha.matches(n) for n in range(4)] == [1, 1, 1, 1]
    assert await version(following) == 0


async def test_an_owner_that_changes_our_rights_all_the_time_keeps_nobody_busy(
    following: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, shield = following
    monkeypatch.setattr(rights, "_SLICE_BUNDLES", 1)
    publish_mixed(shield, 300)
    shield.narrow("ncii", ADULT)
    await sync(following)
    await alpha.notices.syncs.take()
    shield.narrow("ncii", NCII)
    await sync(following)
    assert await alpha.notices.syncs.take() == ("shield.example", "ncii")

    for _ in range(3):
        shield.narrow("ncii", ADULT)
        await sync(following)
        assert len(alpha.notices.syncs) == 0  # it waits for its time


async def test_a_withdrawal_comes_before_what_is_still_to_be_filled(
    following: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, shield = following
    monkeypatch.setattr(rights, "_SLICE_BUNDLES", 1)
    publish_mixed(shield, 700)
    shield.narrow("ncii", ADULT)
    await sync(following)
    shield.narrow("ncii", NCII)
    await sync(following)
    shield.logs["ncii"].retract(302)  # the record that asserts 301
    for _ in range(4):
        await sync(following)
    assert [await alpha.matches(n) for n in (299, 301, 303)] == [1, 0, 1]


async def test_a_filled_body_must_be_what_its_entry_commits_to(
    following: Pair,
) -> None:
    alpha, shield = following
    publish_mixed(shield, 4)
    shield.narrow("ncii", ADULT)
    await sync(following)

    shield.narrow("ncii", NCII)
    log = shield.logs["ncii"]
    log.bodies[2] = log.bodies[4]
    with pytest.raises(PeerMisbehavedError):
        await sync(following)

    assert [await alpha.matches(n) for n in range(4)] == [1, 0, 1, 0]
    follow = await alpha.follow("shield.example", "ncii")
    assert follow.state is FollowState.QUARANTINED
    (kept,) = await alpha.evidence()
    assert kept.code == "bad-commitment"
    assert labelled(3, "ncii:child") not in kept.payload


@pytest.mark.parametrize(
    "said",
    [
        b"{}",
        b"not json",
        # A criterion that only a newer version of us understands.
        (
            b'{"version":9,"grants":[{"list":"ncii","id":"shield.example/hsf/v1/log/ncii",'
            b'"granted":"2026-11-21T09:00:00Z","scope":{"moon":"full"}}]}'
        ),
        (
            b'{"version":9,"grants":[{"list":"ncii","id":"other.example/hsf/v1/log/ncii",'
            b'"granted":"2026-11-21T09:00:00Z"}]}'
        ),
    ],
)
async def test_rights_that_cannot_be_read_hold_up_no_withdrawal(
    following: Pair, said: bytes
) -> None:
    alpha, shield = following
    publish_mixed(shield, 4)
    shield.narrow("ncii", ADULT)
    await sync(following)

    shield.tamper_body("grants", lambda _: said)
    shield.logs["ncii"].retract(1)
    await sync(following)

    assert await alpha.matches(0) == 0
    follow = await alpha.follow("shield.example", "ncii")
    assert (follow.state, follow.scope) == (FollowState.ACTIVE, ADULT)
    assert await alpha.evidence() == []


@pytest.mark.parametrize("status", [403, 404, 500, 503])
async def test_rights_that_cannot_be_had_hold_up_no_withdrawal(
    following: Pair, status: int
) -> None:
    alpha, shield = following
    publish_mixed(shield, 4)
    await sync(following)
    shield.tamper("grants", lambda answer: replace(answer, status=status))
    shield.logs["ncii"].retract(1)
    await sync(following)
    assert await alpha.matches(0) == 0


async def test_a_list_that_is_no_longer_ours_keeps_what_we_know_of_it(
    following: Pair,
) -> None:
    alpha, shield = following
    publish_mixed(shield, 4)
    shield.narrow("ncii", ADULT)
    await sync(following)
    log = shield.logs.pop("ncii")
    assert (
        await alpha.follower.sync("shield.example", "ncii")
    ).state is FollowState.WAITING
    assert (await alpha.follow("shield.example", "ncii")).scope == ADULT

    shield.logs["ncii"] = log
    shield.narrow("ncii", NCII)
    await sync(following)
    assert await alpha.matches(1) == 1


async def test_another_scope_of_the_same_version_is_noticed(following: Pair) -> None:
    """An owner that was restored from a backup counts from where the backup was."""
    alpha, shield = following
    publish_mixed(shield, 4)
    shield.narrow("ncii", ADULT)
    await sync(following)
    shield.scopes["ncii"] = NCII
    await sync(following)
    assert await alpha.matches(1) == 1
    assert await version(following) == 2


@pytest.mark.parametrize("missing", [WITHHELD, ERASED])
async def test_what_a_whole_list_lacks_is_asked_for_again_once_a_day(
    following: Pair, missing: object
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    publish_mixed(shield, 4)
    kept = log.bodies[2]
    log.bodies[2] = missing  # type: ignore[call-overload]
    await sync(following)
    shield.asked.clear()
    for _ in range(3):
        await sync(following)
    # Once, since we do not know whether the run before us has asked.
    assert shield.kinds_asked().count("bodies") <= 1

    log.bodies[2] = kept
    await sync(following)
    assert await alpha.matches(1) == 0
    alpha.clock.advance(86_400)
    await sync(following)
    assert await alpha.matches(1) == 1
