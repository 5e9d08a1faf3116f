"""Following a list into a new log, whatever the old one ended with and however late."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hashlight_node.exchange.errors import WithheldError
from hashlight_node.model import FollowState, LogState, RecordState
from hashlight_node.peers.errors import PeerMisbehavedError, PeerUnavailableError
from hashlight_node.store import signals
from hashlight_protocol import Checkpoint, KnownHead, Ref
from support.log_simulator import WITHHELD, spoiled
from support.made_records import indicators, opinion
from support.peer_simulator import Answer

if TYPE_CHECKING:
    from support.clock import ManualClock
    from support.exchange_node import ExchangeNode
    from support.log_simulator import LogSimulator
    from support.peer_simulator import PeerSimulator

Pair = tuple["ExchangeNode", "PeerSimulator"]

ONE = "shield.example/hsf/v1/log/ncii/1"
TWO = "shield.example/hsf/v1/log/ncii/2"


async def sync(alpha: ExchangeNode) -> FollowState:
    """Let an hour pass, so that the list note is asked for, and sync."""
    alpha.clock.advance(3600)
    report = await alpha.follower.sync("shield.example", "ncii")
    return report.state


async def found(alpha: ExchangeNode, count: int) -> list[int]:
    return [await alpha.matches(number) for number in range(count)]


@pytest.fixture
async def copied(following: Pair) -> tuple[ExchangeNode, PeerSimulator, LogSimulator]:
    """Let alpha copy records 0 to 3, in leaves 1 to 4."""
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(4))
    await alpha.follower.sync("shield.example", "ncii")
    return alpha, shield, log


Copied = tuple["ExchangeNode", "PeerSimulator", "LogSimulator"]


async def test_a_list_is_followed_into_its_next_log(copied: Copied) -> None:
    alpha, shield, old = copied
    new = shield.next_log("ncii")
    new.reissue(old, [1, 2, 4])
    new.publish(indicators(1, first=9))

    assert await sync(alpha) is FollowState.ACTIVE

    assert await found(alpha, 5) == [1, 1, 0, 1, 0]
    assert await alpha.matches(9) == 1
    copy, ended = await alpha.log(TWO), await alpha.log(ONE)
    assert (copy.tree_size, copy.root_hash) == (new.size, new.root())
    assert (ended.state, ended.mirror_checkpoint is None) == (LogState.FROZEN, False)
    assert await alpha.read(signals.count_live) == {"md5": 4, "pdq": 4}
    assert (await alpha.record(ONE, 3)).state is RecordState.ENDED
    assert [it.origin for it in await alpha.lookup_lists()] == [TWO]


async def test_bodies_that_are_here_are_not_fetched_again(following: Pair) -> None:
    alpha, shield = following
    old = shield.logs["ncii"]
    old.publish(indicators(1000))
    await alpha.follower.sync("shield.example", "ncii")
    new = shield.next_log("ncii")
    new.reissue(old, range(1, 1001))
    new.publish(indicators(20, first=1000))
    shield.asked.clear()

    await sync(alpha)

    # Five bundles beside the last one of the old log, which is asked for once more.
    asked = [path for kind, path in shield.asked if kind == "bodies"]
    assert asked == [f"/hsf/v1/log/ncii/2/bodies/003.p/{1021 - 768}"]
    assert await found(alpha, 1020) == [1] * 1020


async def test_a_record_is_found_once_while_the_new_log_is_copied(
    following: Pair,
) -> None:
    alpha, shield = following
    old = shield.logs["ncii"]
    old.publish(indicators(6000))
    await alpha.follower.sync("shield.example", "ncii")
    new = shield.next_log("ncii")
    new.reissue(old, range(1, 6001))
    new.retract(1)
    gone = "/hsf/v1/log/ncii/2/tile/entries/023.p/114"
    shield.tamper(
        "entries",
        lambda answer: (
            replace(answer, status=503, body=b"")
            if answer.body == new.entry_bundle(23, new.size - 23 * 256)
            else answer
        ),
    )
    with pytest.raises(PeerUnavailableError):
        await sync(alpha)
    assert any(path.startswith(gone[:40]) for _, path in shield.asked)

    # Some of the new log is stored; all is as before.
    assert (await alpha.log(TWO)).tree_size > 0
    for number in (0, 1, 5000, 5999):
        assert await alpha.matches(number) == 1
    assert [it.origin for it in await alpha.lookup_lists()] == [ONE]

    shield.honest()
    await sync(alpha)
    for number, matches in ((0, 0), (1, 1), (5000, 1), (5999, 1)):
        assert await alpha.matches(number) == matches


async def test_a_frozen_log_is_copied_to_its_end_first(copied: Copied) -> None:
    alpha, shield, old = copied
    old.publish(indicators(1, first=4))
    old.erase(1)
    new = shield.next_log("ncii")
    new.reissue(old, [2, 3, 4, 5])

    await sync(alpha)

    ended = await alpha.log(ONE)
    assert (ended.tree_size, ended.checkpoint_size) == (old.size, old.size)
    erased = await alpha.record(ONE, 1)
    assert (erased.state, erased.body) == (RecordState.ERASED, b"")
    assert await found(alpha, 5) == [0, 1, 1, 1, 1]


async def test_what_may_have_been_erased_in_a_log_that_is_gone_is_destroyed(
    copied: Copied,
) -> None:
    alpha, shield, old = copied
    old.erase(1)
    new = shield.next_log("ncii")
    new.reissue(old, [2, 3])
    refused = Answer("checkpoint", b'{"type":"hsf:unknown-log","status":404}', 404)
    shield.tamper(
        "checkpoint",
        lambda answer: refused if answer.body.startswith(ONE.encode()) else answer,
    )

    await sync(alpha)

    assert await found(alpha, 4) == [0, 1, 1, 0]
    for leaf_index in (1, 4):
        record = await alpha.record(ONE, leaf_index)
        assert (record.state, record.body) == (RecordState.ERASED, b"")
    assert (await alpha.record(ONE, 2)).body


async def test_records_beyond_the_end_of_an_abandoned_log_stop_matching(
    copied: Copied,
) -> None:
    alpha, shield, old = copied
    head = KnownHead(3, old.root(3))
    new = shield.next_log("ncii", "abandoned", final=head)
    new.reissue(old, [1, 2])

    await sync(alpha)

    assert await found(alpha, 4) == [1, 1, 0, 0]
    assert (await alpha.log(ONE)).state is LogState.ABANDONED
    # Kept for audit.
    undone = await alpha.record(ONE, 4)
    assert (undone.state, undone.body != b"") == (RecordState.ENDED, True)


async def test_they_stop_before_anything_of_the_new_log_is_here(
    copied: Copied,
) -> None:
    alpha, shield, old = copied
    new = shield.next_log("ncii", "abandoned", final=KnownHead(3, old.root(3)))
    new.reissue(old, [1, 2])
    shield.tamper("checkpoint", lambda answer: replace(answer, status=503, body=b""))
    with pytest.raises(PeerUnavailableError):
        await sync(alpha)
    assert await found(alpha, 4) == [1, 1, 0, 0]


async def test_they_stop_also_if_no_new_log_is_named_yet(copied: Copied) -> None:
    alpha, shield, old = copied
    shield.abandoned["ncii"] = KnownHead(3, old.root(3))
    shield.list_versions["ncii"] = 2
    assert await sync(alpha) is FollowState.WAITING
    assert await found(alpha, 4) == [1, 1, 0, 0]
    assert await sync(alpha) is FollowState.WAITING


async def test_what_a_thief_took_back_counts_again(copied: Copied) -> None:
    alpha, shield, old = copied
    salted = old.bodies[1]
    old.retract(2)
    old.erase(1)
    await alpha.follower.sync("shield.example", "ncii")
    assert await found(alpha, 4) == [0, 0, 1, 1]
    old.bodies[1] = salted  # The owner has it still.
    new = shield.next_log("ncii", "abandoned", final=KnownHead(5, old.root(5)))
    new.reissue(old, [1, 2, 3, 4])

    await sync(alpha)

    assert await found(alpha, 4) == [1, 1, 1, 1]


async def test_what_was_taken_back_for_good_never_counts_again(copied: Copied) -> None:
    alpha, shield, old = copied
    bodies = list(old.bodies)
    old.retract(2)
    old.erase(1)
    await alpha.follower.sync("shield.example", "ncii")
    old.bodies[:5] = bodies[:5]
    new = shield.next_log("ncii")
    new.reissue(old, [1, 2, 3, 4])

    await sync(alpha)

    assert await found(alpha, 4) == [0, 0, 1, 1]
    assert (await alpha.record(TWO, 1)).body == b""
    assert (await alpha.record(TWO, 2)).state is RecordState.RETRACTED


async def test_an_erase_in_the_new_log_destroys_the_copy_of_the_old_one(
    copied: Copied,
) -> None:
    alpha, shield, old = copied
    new = shield.next_log("ncii")
    new.reissue(old, [1, 2, 3, 4])
    await sync(alpha)
    new.erase(2)
    new.retract(3)

    await alpha.follower.sync("shield.example", "ncii")

    assert await found(alpha, 4) == [1, 0, 0, 1]
    for origin in (ONE, TWO):
        record = await alpha.record(origin, 2)
        assert (record.state, record.salt, record.body) == (
            RecordState.ERASED,
            b"",
            b"",
        )


async def test_so_does_one_that_the_new_log_had_from_the_beginning(
    copied: Copied,
) -> None:
    alpha, shield, old = copied
    new = shield.next_log("ncii")
    new.reissue(old, [1, 2, 3, 4])
    new.erase(2)
    await sync(alpha)
    assert await found(alpha, 4) == [1, 0, 1, 1]
    assert (await alpha.record(ONE, 2)).body == b""


async def test_a_record_that_was_not_reissued_is_erased_by_its_commitment(
    copied: Copied,
) -> None:
    alpha, shield, old = copied
    new = shield.next_log("ncii")
    new.reissue(old, [1])
    await sync(alpha)
    assert (await alpha.record(ONE, 3)).body

    new.append_raw(old.entries[3], WITHHELD)
    new.erase(2)
    await alpha.follower.sync("shield.example", "ncii")

    assert (await alpha.record(ONE, 3)).body == b""
    assert (await alpha.record(ONE, 1)).body


async def test_a_follower_who_missed_a_log_goes_on_with_the_newest(
    copied: Copied,
) -> None:
    alpha, shield, old = copied
    second = shield.next_log("ncii")
    second.reissue(old, [1, 2, 3])
    second.erase(1)
    third = shield.next_log("ncii")
    third.reissue(second, [2, 3])
    third.publish(indicators(1, first=9))

    await sync(alpha)

    assert await found(alpha, 4) == [0, 1, 1, 0]
    assert await alpha.matches(9) == 1
    assert await alpha.read(signals.count_live) == {"md5": 3, "pdq": 3}


async def test_a_new_follower_begins_with_the_newest_log(following: Pair) -> None:
    alpha, shield = following
    old = shield.logs["ncii"]
    old.publish(indicators(4))
    shield.next_log("ncii").reissue(old, [2, 4])
    await alpha.follower.sync("shield.example", "ncii")
    assert await found(alpha, 4) == [0, 1, 0, 1]
    assert [it.origin for it in await alpha.lookup_lists()] == [TWO]


async def test_opinions_about_the_old_record_count_for_the_new_one(
    copied: Copied,
) -> None:
    alpha, shield, old = copied
    await alpha.publisher.create_list("feedback", {})
    await alpha.publisher.publish("feedback", [opinion(Ref(ONE, 2))])
    shield.next_log("ncii").reissue(old, [1, 2, 3, 4])
    await sync(alpha)
    detail = await alpha.feedback.about_record(Ref(TWO, 2))
    assert [it.stance for it in detail.opinions] == ["dispute"]
    assert (await alpha.feedback.about_record(Ref(TWO, 3))).opinions == ()


async def test_another_body_at_the_same_index_is_another_record(
    copied: Copied,
) -> None:
    alpha, shield, _ = copied
    shield.next_log("ncii").publish(indicators(4))
    await alpha.publisher.create_list("feedback", {})
    await alpha.publisher.publish("feedback", [opinion(Ref(ONE, 2))])
    await sync(alpha)
    assert await found(alpha, 4) == [1, 1, 1, 1]
    assert (await alpha.feedback.about_record(Ref(TWO, 2))).opinions == ()


async def test_a_record_that_is_withheld_in_both_logs_is_one(copied: Copied) -> None:
    alpha, shield, old = copied
    old.publish(indicators(1, first=7))
    old.bodies[5] = WITHHELD
    await alpha.follower.sync("shield.example", "ncii")
    shield.next_log("ncii").reissue(old, [1, 5])
    await sync(alpha)
    with pytest.raises(WithheldError):
        await alpha.inspect.receipt(Ref(TWO, 5))
    assert (await alpha.record(ONE, 5)).state is RecordState.ENDED
    assert await found(alpha, 4) == [1, 0, 0, 0]


async def test_following_no_more_ends_both_logs(copied: Copied) -> None:
    alpha, shield, old = copied
    new = shield.next_log("ncii")
    new.reissue(old, [1, 2])
    shield.tamper("entries", lambda answer: replace(answer, status=503, body=b""))
    with pytest.raises(PeerUnavailableError):
        await sync(alpha)
    await alpha.peering.unfollow("shield.example", "ncii")
    assert await found(alpha, 4) == [0, 0, 0, 0]

    shield.honest()
    await alpha.peering.follow("shield.example", "ncii")
    # Something may have been withdrawn meanwhile, so a sync has to confirm it first.
    assert await found(alpha, 4) == [0, 0, 0, 0]
    await sync(alpha)
    assert await found(alpha, 4) == [1, 1, 0, 0]


# ------------------------------------------------------------------ owners that lie


async def refused(alpha: ExchangeNode) -> str:
    with pytest.raises(PeerMisbehavedError):
        await sync(alpha)
    (kept,) = await alpha.evidence()
    follow = await alpha.follow("shield.example", "ncii")
    assert follow.state is FollowState.QUARANTINED
    return kept.code


async def test_a_log_that_begins_elsewhere_than_the_old_one_ended_is_refused(
    copied: Copied,
) -> None:
    alpha, shield, old = copied
    prev = Checkpoint(old.origin, 2, old.root(2))
    shield.next_log("ncii", prev=prev).reissue(old, [1])
    assert await refused(alpha) == "contradiction"
    assert await found(alpha, 4) == [1, 1, 1, 1]


async def test_an_end_that_the_log_never_had_is_refused(copied: Copied) -> None:
    alpha, shield, _ = copied
    shield.next_log("ncii", "abandoned", final=KnownHead(3, bytes(32)))
    assert await refused(alpha) == "contradiction"
    assert await found(alpha, 4) == [1, 1, 1, 1]


async def test_a_frozen_log_with_more_than_its_end_is_refused(copied: Copied) -> None:
    alpha, shield, old = copied
    shield.next_log("ncii", "frozen", final=KnownHead(3, old.root(3)))
    assert await refused(alpha) == "contradiction"
    assert await found(alpha, 4) == [1, 1, 1, 1]


async def test_entries_that_are_cut_short_are_refused(copied: Copied) -> None:
    alpha, shield, old = copied
    shield.next_log("ncii").reissue(old, [1, 2])
    shield.tamper_body("entries", lambda body: body[:-1])
    assert await refused(alpha) == "malformed"
    assert await found(alpha, 4) == [1, 1, 1, 1]


async def test_a_quarantined_list_does_not_count_twice(copied: Copied) -> None:
    alpha, shield, old = copied
    new = shield.next_log("ncii")
    new.reissue(old, [1, 2, 3, 4])
    new.publish(indicators(6000, first=10))
    last = (new.size - 1) // 256
    good = new.entry_bundle(last, new.size - last * 256)
    shield.tamper_body("entries", lambda body: spoiled(body) if body == good else body)
    assert await refused(alpha) == "bad-bundle"
    assert (await alpha.log(TWO)).tree_size > 0
    assert await found(alpha, 4) == [1, 1, 1, 1]
    assert await alpha.matches(10) == 0


async def test_a_killed_follower_goes_on_where_it_was(
    copied: Copied, tmp_path: Path, clock: ManualClock
) -> None:
    from support.exchange_node import open_exchange_node  # noqa: PLC0415

    alpha, shield, old = copied
    new = shield.next_log("ncii")
    new.reissue(old, [1, 2, 4])
    new.publish(indicators(6000, first=10))
    last = (new.size - 1) // 256
    good = new.entry_bundle(last, new.size - last * 256)
    shield.tamper(
        "entries",
        lambda answer: replace(answer, status=503) if answer.body == good else answer,
    )
    with pytest.raises(PeerUnavailableError):
        await sync(alpha)
    await alpha.database.close()
    alpha.last_signed.close()
    shield.honest()
    async with open_exchange_node(tmp_path / "alpha", "alpha.example", clock) as again:
        assert await found(again, 4) == [1, 1, 1, 1]
        assert await again.matches(10) == 0
        await sync(again)
        assert await found(again, 4) == [1, 1, 0, 1]
        assert await again.matches(10) == 1
