"""Following an honest peer: everything arrives, once, in order, whatever stops us."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from hashlight_node.exchange.errors import (
    FollowQuarantinedError,
    PeerQuarantinedError,
    UnknownFollowError,
    UnknownPeerError,
)
from hashlight_node.model import FollowState, LogState, RecordState
from hashlight_node.peers.errors import PeerUnavailableError
from hashlight_protocol import (
    BodyStatus,
    KnownHead,
    UnknownEntry,
    open_checkpoint,
    verify_cosignature,
)
from support.clock import ManualClock
from support.exchange_node import ExchangeNode, open_exchange_node
from support.log_simulator import ERASED, WITHHELD, spoiled
from support.made_records import indicator, indicators
from support.peer_simulator import PeerSimulator

Pair = tuple[ExchangeNode, PeerSimulator]


async def test_a_list_is_copied_whole_and_matches(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(700))

    report = await alpha.follower.sync("shield.example", "ncii")

    copy = await alpha.log(log.origin)
    assert (copy.tree_size, copy.root_hash) == (701, log.root())
    assert (copy.checkpoint_size, copy.state) == (701, LogState.ACTIVE)
    assert (report.old_size, report.new_size, report.records) == (0, 701, 700)
    assert report.state is FollowState.ACTIVE
    assert report.error is None
    assert [await alpha.matches(n) for n in (0, 255, 256, 699, 700)] == [1, 1, 1, 1, 0]


async def test_the_copy_is_acknowledged_with_the_mirror_key(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(3))
    await alpha.follower.sync("shield.example", "ncii")

    note = (await alpha.log(log.origin)).mirror_checkpoint
    assert note is not None
    signed = open_checkpoint(note, [log.signer.key], origin=log.origin)
    assert signed.checkpoint == log.checkpoint()
    assert verify_cosignature(note, alpha.keyring.mirror.key) == alpha.clock.now


async def test_only_what_is_new_is_fetched(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(600))
    await alpha.follower.sync("shield.example", "ncii")
    log.publish(indicators(20, first=600))
    shield.asked.clear()

    report = await alpha.follower.sync("shield.example", "ncii")

    assert (report.old_size, report.new_size) == (601, 621)
    kinds = ["bodies", "checkpoint", "entries", "grants", "tile"]
    assert sorted(shield.kinds_asked()) == kinds
    assert (await alpha.log(log.origin)).root_hash == log.root()


async def test_no_news_costs_two_requests_and_counts_as_verified(
    following: Pair,
) -> None:
    alpha, shield = following
    shield.logs["ncii"].publish(indicators(3))
    await alpha.follower.sync("shield.example", "ncii")
    before = await alpha.log(shield.logs["ncii"].origin)
    shield.asked.clear()
    alpha.clock.advance(100)

    report = await alpha.follower.sync("shield.example", "ncii")

    after = await alpha.log(shield.logs["ncii"].origin)
    assert shield.kinds_asked() == ["grants", "checkpoint"]
    assert (report.old_size, report.new_size) == (4, 4)
    assert after.verified_at == alpha.clock.now
    assert after.mirror_checkpoint == before.mirror_checkpoint
    follow = await alpha.follow("shield.example", "ncii")
    assert follow.synced_at == alpha.clock.now


@pytest.mark.parametrize("sizes", [(1, 255, 1), (256, 256), (300, 1, 1, 300), (513,)])
async def test_growth_of_any_step_arrives(
    following: Pair, sizes: tuple[int, ...]
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    for count in sizes:
        log.publish(indicators(count, first=log.size))
        await alpha.follower.sync("shield.example", "ncii")
        assert (await alpha.log(log.origin)).root_hash == log.root()


async def test_a_retraction_ends_the_match_and_keeps_the_body(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    first, _ = log.publish(indicators(2))
    await alpha.follower.sync("shield.example", "ncii")
    log.retract(first)

    report = await alpha.follower.sync("shield.example", "ncii")

    assert (report.retractions, report.erasures) == (1, 0)
    assert [await alpha.matches(n) for n in (0, 1)] == [0, 1]
    record = await alpha.record(log.origin, first)
    assert (record.state, record.status) == (
        RecordState.RETRACTED,
        BodyStatus.PRESENT,
    )


async def test_an_erasure_leaves_no_byte_of_the_body(
    following: Pair, tmp_path: Path
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    secret = indicator(7, kind="the-kind-that-will-be-erased")
    (first,) = log.publish([secret])
    salt = log.bodies[first].salt
    await alpha.follower.sync("shield.example", "ncii")
    assert await alpha.matches(7) == 1
    log.erase(first)

    report = await alpha.follower.sync("shield.example", "ncii")

    assert report.erasures == 1
    assert await alpha.matches(7) == 0
    record = await alpha.record(log.origin, first)
    assert (record.state, record.body) == (RecordState.ERASED, b"")
    for path in (tmp_path / "alpha").glob("hashlight.db*"):
        content = path.read_bytes()
        assert b"the-kind-that-will-be-erased" not in content
        assert salt not in content


async def test_a_newcomer_gets_erased_records_as_erased(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    first, *_ = log.publish(indicators(600))
    log.erase(first, count=2)

    report = await alpha.follower.sync("shield.example", "ncii")

    assert report.error is None
    record = await alpha.record(log.origin, first)
    assert (record.state, record.status) == (RecordState.ERASED, BodyStatus.ERASED)
    assert [await alpha.matches(n) for n in (0, 1, 2)] == [0, 0, 1]


async def test_erased_without_an_erase_is_withheld_and_alarms(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    first, _ = log.publish(indicators(2))
    log.bodies[first] = ERASED

    report = await alpha.follower.sync("shield.example", "ncii")

    assert report.error is not None
    assert f"leaf {first}" in report.error
    record = await alpha.record(log.origin, first)
    assert (record.state, record.status) == (
        RecordState.WITHHELD,
        BodyStatus.WITHHELD,
    )
    assert [await alpha.matches(n) for n in (0, 1)] == [0, 1]
    again = await alpha.follower.sync("shield.example", "ncii")
    assert again.error == report.error


async def test_a_withheld_body_does_not_stop_the_rest(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    first, _ = log.publish(indicators(2))
    log.bodies[first] = WITHHELD

    report = await alpha.follower.sync("shield.example", "ncii")

    assert report.error is None
    assert [await alpha.matches(n) for n in (0, 1)] == [0, 1]


async def test_a_body_that_is_no_record_matches_nothing_and_stops_nothing(
    following: Pair,
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    first, _ = log.publish([b"not a record", indicator(1)])

    await alpha.follower.sync("shield.example", "ncii")

    assert (await alpha.record(log.origin, first)).state is RecordState.INVALID
    assert await alpha.matches(1) == 1


async def test_unknown_harmless_entries_are_stored_and_ignored(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.append(UnknownEntry(0x7F, b"\x7fsomething new"))
    log.publish(indicators(1))
    await alpha.follower.sync("shield.example", "ncii")
    assert (await alpha.log(log.origin)).root_hash == log.root()
    assert await alpha.matches(0) == 1


async def test_copying_stops_before_a_critical_entry_and_says_so(
    following: Pair,
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(300))
    critical = log.append(UnknownEntry(0x80, b"\x80must understand"))
    log.publish(indicators(5, first=300))

    for _ in range(2):
        report = await alpha.follower.sync("shield.example", "ncii")
        assert report.new_size == critical
        assert report.error is not None
        assert f"leaf {critical}" in report.error
    copy = await alpha.log(log.origin)
    assert (copy.tree_size, copy.root_hash) == (critical, log.root(critical))
    assert copy.mirror_checkpoint is None
    assert [await alpha.matches(n) for n in (299, 300)] == [1, 0]


async def test_a_list_that_is_not_granted_yet_is_waited_for(
    alpha: ExchangeNode, shield: PeerSimulator
) -> None:
    await alpha.peering.add_peer(shield.base, shield.vkey)
    await alpha.peering.follow("shield.example", "later")

    report = await alpha.follower.sync("shield.example", "later")
    assert report.state is FollowState.WAITING
    assert report.error is not None

    shield.create_list("later").publish(indicators(1))
    report = await alpha.follower.sync("shield.example", "later")
    assert report.state is FollowState.ACTIVE
    assert await alpha.matches(0) == 1


async def test_a_new_key_of_the_log_is_learned_from_a_newer_list_note(
    following: Pair,
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(1))
    await alpha.follower.sync("shield.example", "ncii")

    log.signer = type(log)(log.origin).signer
    shield.list_versions["ncii"] += 1
    log.publish(indicators(1, first=1))
    report = await alpha.follower.sync("shield.example", "ncii")
    assert report.new_size == 3


async def test_a_stop_at_every_request_costs_nothing_but_time(following: Pair) -> None:
    """Cut the connection at the n-th request, for every n, until all is copied."""
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(2_600))
    log.erase(5)
    kinds = ("list-note", "checkpoint", "tile", "entries", "bodies")
    stops = 0
    for patience in range(60):
        left = patience

        async def act(request: web.Request) -> web.StreamResponse:
            nonlocal left
            left -= 1
            if left < 0:
                assert request.transport is not None
                request.transport.abort()
            answer = shield._answer(request.path, b"")  # noqa: SLF001 -- its honest answer
            return web.Response(body=answer.body, headers=answer.headers)

        for kind in kinds:
            shield.play(kind, act)
        try:
            await alpha.follower.sync("shield.example", "ncii")
        except PeerUnavailableError:
            stops += 1
        else:
            break
    copy = await alpha.log(log.origin)
    assert stops > 10
    assert (copy.checkpoint_size, copy.root_hash) == (log.size, log.root())
    assert await alpha.evidence() == []
    assert [await alpha.matches(n) for n in (3, 4, 5, 2_599)] == [1, 0, 1, 1]


async def test_an_interrupted_copy_goes_on_after_a_restart(
    tmp_path: Path, clock: ManualClock, shield: PeerSimulator
) -> None:
    log = shield.logs["ncii"]
    log.publish(indicators(6_000))
    where = tmp_path / "restarted"
    async with open_exchange_node(where, "alpha.example", clock) as alpha:
        await alpha.peering.add_peer(shield.base, shield.vkey)
        await alpha.peering.follow("shield.example", "ncii")

        def stop(done: int, _: int) -> None:
            if done < log.size:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            await alpha.follower.sync("shield.example", "ncii", progress=stop)
        copied = (await alpha.log(log.origin)).tree_size
        assert 0 < copied < log.size

    async with open_exchange_node(where, "alpha.example", clock) as alpha:
        assert (await alpha.log(log.origin)).tree_size == copied
        assert await alpha.matches(0) == 1
        report = await alpha.follower.sync("shield.example", "ncii")
        assert (report.old_size, report.new_size) == (copied, log.size)
        assert (await alpha.log(log.origin)).root_hash == log.root()


async def test_progress_is_told_after_each_batch(following: Pair) -> None:
    alpha, shield = following
    shield.logs["ncii"].publish(indicators(6_000))
    told: list[tuple[int, int]] = []
    await alpha.follower.sync(
        "shield.example", "ncii", progress=lambda done, all_: told.append((done, all_))
    )
    assert told[-1] == (6_001, 6_001)
    assert len(told) > 1
    assert told == sorted(told)


async def test_syncs_asked_for_during_a_sync_share_one_further_round(
    following: Pair,
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(1))
    running = asyncio.create_task(alpha.follower.sync("shield.example", "ncii"))
    await asyncio.sleep(0)
    log.publish(indicators(1, first=1))
    crowd = [alpha.follower.sync("shield.example", "ncii") for _ in range(5)]
    reports = await asyncio.gather(running, *crowd)
    assert shield.kinds_asked().count("checkpoint") == 2
    assert reports[-1].new_size == 3


async def test_an_unreachable_peer_is_tried_again_later(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(1))

    async def busy(_: web.Request) -> web.Response:
        return web.Response(status=503)

    shield.play("checkpoint", busy)
    with pytest.raises(PeerUnavailableError):
        await alpha.follower.sync("shield.example", "ncii")
    follow = await alpha.follow("shield.example", "ncii")
    assert follow.error is not None
    assert follow.state is not FollowState.QUARANTINED

    shield.honest()
    peer_and_list = await asyncio.wait_for(_next_sync_after_follow(alpha), timeout=5)
    report = await alpha.follower.sync(*peer_and_list)
    assert report.error is None


async def _next_sync_after_follow(alpha: ExchangeNode) -> tuple[str, str]:
    await alpha.notices.syncs.take()  # of the follow itself
    return await alpha.notices.syncs.take()


async def test_a_sweep_copies_what_it_can_and_reports_the_rest(
    following: Pair,
) -> None:
    alpha, shield = following
    shield.logs["ncii"].publish(indicators(1))
    shield.create_list("second").publish(indicators(1, first=9))
    await alpha.peering.follow("shield.example", "second")
    await alpha.peering.follow("shield.example", "third")
    shield.tamper_body("list-note", lambda raw: raw.replace(b"second", b"sec0nd"))

    reports = {report.list_name: report for report in await alpha.follower.sync_all()}

    assert reports["ncii"].error is None
    assert reports["second"].state is FollowState.QUARANTINED
    assert reports["third"].state is FollowState.WAITING
    assert set(await _lists_of(alpha)) == {"ncii", "third"}


async def _lists_of(alpha: ExchangeNode) -> list[str]:
    return [report.list_name for report in await alpha.follower.sync_all()]


async def test_a_sweep_queues_lists_and_waits_for_none(following: Pair) -> None:
    alpha, shield = following
    await alpha.notices.syncs.take()  # of the follow itself
    shield.asked.clear()
    await alpha.follower.sweep()
    assert await alpha.notices.syncs.take() == ("shield.example", "ncii")
    assert shield.asked == []
    await alpha.peering.quarantine("shield.example")
    await alpha.follower.sweep()
    assert len(alpha.notices.syncs) == 0


async def test_nothing_is_asked_of_a_peer_in_quarantine(following: Pair) -> None:
    alpha, shield = following
    await alpha.peering.quarantine("shield.example")
    shield.asked.clear()
    with pytest.raises(PeerQuarantinedError):
        await alpha.follower.sync("shield.example", "ncii")
    assert await alpha.follower.sync_all() == []
    assert shield.asked == []


async def test_only_what_is_followed_can_be_synced(alpha: ExchangeNode) -> None:
    with pytest.raises(UnknownPeerError):
        await alpha.follower.sync("nobody.example", "ncii")


async def test_a_list_must_be_followed_to_be_synced(following: Pair) -> None:
    alpha, _ = following
    with pytest.raises(UnknownFollowError):
        await alpha.follower.sync("shield.example", "other")


async def test_quarantine_in_the_middle_of_a_copy_ends_it(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(11_000))
    quarantining: list[asyncio.Task[object]] = []

    def quarantine(_: int, __: int) -> None:
        quarantining.append(
            asyncio.create_task(alpha.peering.quarantine("shield.example"))
        )

    with pytest.raises(PeerQuarantinedError):
        await alpha.follower.sync("shield.example", "ncii", progress=quarantine)
    await asyncio.gather(*quarantining)
    copied = (await alpha.log(log.origin)).tree_size
    assert 0 < copied < log.size


async def test_release_goes_on_where_quarantine_stopped(following: Pair) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(1))
    await alpha.follower.sync("shield.example", "ncii")
    log.publish(indicators(1, first=1))
    shield.tamper_body("entries", spoiled)
    with pytest.raises(Exception, match="misbehaves"):
        await alpha.follower.sync("shield.example", "ncii")
    with pytest.raises(FollowQuarantinedError):
        await alpha.follower.sync("shield.example", "ncii")

    shield.honest()
    await alpha.peering.release("shield.example")
    report = await alpha.follower.sync("shield.example", "ncii")
    assert (report.new_size, report.error) == (3, None)
    assert (await alpha.log(log.origin)).state is LogState.ACTIVE


async def test_nothing_is_copied_of_a_log_whose_owner_has_abandoned_it(
    following: Pair,
) -> None:
    """Whoever stole its key could go on signing."""
    alpha, shield = following
    log = shield.logs["ncii"]
    log.publish(indicators(2))
    await alpha.follower.sync("shield.example", "ncii")
    shield.abandoned["ncii"] = KnownHead(log.size, log.root())
    shield.list_versions["ncii"] = 2
    log.publish(indicators(1, first=2))
    alpha.clock.advance(3600)

    report = await alpha.follower.sync("shield.example", "ncii")

    assert report.error is not None
    assert "abandoned" in report.error
    assert [await alpha.matches(n) for n in (1, 2)] == [1, 0]
