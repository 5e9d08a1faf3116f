"""Five real nodes in one run, and what is done to them: one test for each attack.

The nodes live through the whole module, and no test leaves one of them in trouble. Each
test has lists and records of its own.
"""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import cycle, repeat
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from aiohttp import web
from sqlalchemy import select, update
from typer.testing import CliRunner

from hashlight_node.app import start_node
from hashlight_node.cli.main import app as cli
from hashlight_node.exchange.errors import (
    FollowQuarantinedError,
    RolledBackError,
)
from hashlight_node.exchange.operating.alerts import AlertCode
from hashlight_node.exchange.publishing.epochs import Abandoned
from hashlight_node.exchange.telling.upload_content import read_entries
from hashlight_node.last_signed import LastSignedInUseError
from hashlight_node.model import FollowState, LogState, OpinionFold
from hashlight_node.peers.errors import (
    PeerMisbehavedError,
    PeerUnavailableError,
)
from hashlight_node.store import forks, logs, tables, withheld
from hashlight_protocol import (
    GrantScope,
    Indicator,
    Opinion,
    Reason,
    Ref,
    Sighting,
    encode_record,
    encode_vkey,
    parse_fork_evidence,
    parse_record,
    parse_vkey,
    verify_cosignature,
    verify_fork,
)
from support.cutting_proxy import Cut
from support.five_nodes import FiveNodes, Node, patiently
from support.log_simulator import LogSimulator
from support.made_records import indicator, labelled, md5_of, shared
from support.peer_simulator import PeerSimulator
from support.running_companies import until
from support.stores import back_up, restore
from verifier.forks import check_fork
from verifier.notes import read_vkey

if TYPE_CHECKING:
    from pathlib import Path

    from hashlight_node.exchange.telling.standing import Standing
    from hashlight_node.keys import RotatingUse
    from hashlight_node.model import Fork
    from hashlight_node.store.database import Connection

HOUR, DAY = 3600, 86_400
QUICK_SECONDS = 5
ADULT = GrantScope(frozenset({"ncii:adult"}), None, None)
USES: tuple[RotatingUse, ...] = ("log", "http", "witness", "mirror")

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FiveNodes]:
    world = await FiveNodes.begin(tmp_path_factory.mktemp("five"))
    yield world
    await world.end()


@pytest_asyncio.fixture(loop_scope="module")
async def world(lasting: FiveNodes) -> AsyncIterator[FiveNodes]:
    """Give the world, and leave no fault in it."""
    yield lasting
    lasting.mend()
    for node in lasting.everybody:
        node.own_clock.offset_seconds = 0


async def standing_of(owner: Node, peer: Node, list_name: str) -> Standing:
    found = await owner.node.use_cases.inspect.deliveries(list_name)
    (one,) = [it for it in found if it.peer_name == peer.name]
    return one


async def has_applied(owner: Node, peer: Node, list_name: str, size: int) -> bool:
    return (await standing_of(owner, peer, list_name)).applied.tree_size == size


async def has_receipt(owner: Node, peer: Node, list_name: str, size: int) -> bool:
    delivered = (await standing_of(owner, peer, list_name)).delivered
    return delivered is not None and delivered.tree_size == size


# ------------------------------------------------------------------------ 1, receipts


async def test_1_who_is_cut_off_or_sends_forged_receipts_is_seen_to_lag(
    world: FiveNodes,
) -> None:
    shield, alpha, gamma = world.shield, world.alpha, world.gamma
    origin = await shield.create("receipts")
    first, second, third = world.numbers(3)
    for follower in (alpha, gamma):
        await world.share(shield, follower, "receipts")
    await shield.publish("receipts", indicator(first))
    for follower in (alpha, gamma):
        await world.until(partial(has_receipt, shield, follower, "receipts", 2))
        await world.until(partial(has_applied, shield, follower, "receipts", 2))

    await world.cut(shield, gamma)
    await shield.publish("receipts", indicator(second), indicator(third))
    await world.until(partial(has_applied, shield, alpha, "receipts", 4))
    world.clock.advance(HOUR)

    on_time = await standing_of(shield, alpha, "receipts")
    late = await standing_of(shield, gamma, "receipts")
    assert (on_time.applied.lag_records, on_time.applied.lag_seconds) == (0, 0)
    assert late.applied.lag_records == 2
    assert late.applied.lag_seconds >= HOUR
    assert late.delivered is not None
    assert late.delivered.lag_records == 2

    # The line is back, and every cosignature on it is spoiled.
    world.mend()
    await _it_forges_receipts(world, second, third)
    await _an_hour_without_news(world, origin)


async def _it_forges_receipts(world: FiveNodes, second: int, third: int) -> None:
    shield, gamma = world.shield, world.gamma
    gamma.gateway.spoiled = "add-checkpoint"
    await gamma.try_sync(shield.name, "receipts")
    await shield.node.use_cases.pusher.sweep()
    assert await gamma.matches_are({second: 1, third: 1})
    assert not await has_receipt(shield, gamma, "receipts", 4)
    world.mend()
    await shield.node.use_cases.peering.release(gamma.name)
    await world.until(partial(has_receipt, shield, gamma, "receipts", 4))


async def _an_hour_without_news(world: FiveNodes, origin: str) -> None:
    """It ends with fresh signatures."""
    shield, alpha, gamma = world.shield, world.alpha, world.gamma
    world.clock.advance(HOUR)
    now = world.clock()
    await shield.node.use_cases.publisher.heartbeat(origin)

    async def all_are_alive() -> bool:
        heard = [
            (await standing_of(shield, it, "receipts")).heartbeat_at
            for it in (alpha, gamma)
        ]
        return all(at is not None and at >= now for at in heard)

    await world.until(all_are_alive)


# -------------------------------------------------------------------------- 2, relays


async def test_2_a_relay_that_alters_withholds_or_freezes_can_do_no_more_than_that(
    world: FiveNodes,
) -> None:
    shield, alpha, beta = world.shield, world.alpha, world.beta
    origin = await shield.create("relayed")
    await world.relay("relayed")
    private, open_, second, third, fourth = world.numbers(5)
    await shield.publish("relayed", indicator(private), shared(open_))
    await world.until(partial(alpha.matches_are, {private: 1, open_: 1}))
    await world.until(partial(beta.matches_are, {open_: 1}))
    await world.until_equal(origin, shield, alpha, beta)
    # The share policy: what does not say that it may be passed on is not.
    assert await beta.matches_are({private: 0})

    await _it_alters(world, second)
    await _it_withholds(world, third)
    await _it_freezes(world, origin, fourth)


async def _it_alters(world: FiveNodes, number: int) -> None:
    shield, alpha, beta = world.shield, world.alpha, world.beta
    await world.cut(alpha, beta)
    await shield.publish("relayed", shared(number))
    await world.until(partial(alpha.matches_are, {number: 1}))
    world.mend()
    alpha.gateway.spoiled = "/bodies/"

    async def is_caught() -> bool:
        await beta.try_sync(shield.name, "relayed")
        follow = await beta.follow_of(shield, "relayed")
        return follow.state is FollowState.QUARANTINED

    await world.until(is_caught)
    assert await beta.matches_are({number: 0})
    # The relay is blamed, and the owner is not.
    assert {name for name, _ in await beta.blames()} == {alpha.name}
    world.mend()
    await beta.node.use_cases.peering.release(shield.name)
    await world.until(partial(beta.matches_are, {number: 1}))


async def _it_withholds(world: FiveNodes, number: int) -> None:
    shield, alpha, beta = world.shield, world.alpha, world.beta

    async def missing() -> int:
        counts = await beta.node.foundation.database.read(withheld.count_by_list)
        return counts[shield.name, "relayed"]

    before = await missing()
    await world.cut(alpha, beta)
    (ref,) = await shield.publish("relayed", shared(number))
    await world.until(partial(alpha.matches_are, {number: 1}))
    origin_log = await alpha.log(ref.origin)
    table = tables.records
    here = (table.c.log_id == origin_log.log_id, table.c.leaf_index == ref.leaf_index)

    def withhold(conn: Connection) -> dict[str, object]:
        columns = (table.c.status, table.c.state, table.c.content_id)
        kept = dict(conn.execute(select(*columns).where(*here)).mappings().one())
        lie = {"status": 2, "state": "withheld", "content_id": None}
        conn.execute(update(table).where(*here).values(lie))
        return kept

    kept = await alpha.node.foundation.database.write(withhold)
    world.mend()
    await world.until_equal(ref.origin, shield, beta)
    assert await beta.matches_are({number: 0})
    assert await missing() == before + 1

    await alpha.node.foundation.database.write(
        lambda conn: conn.execute(update(table).where(*here).values(kept))
    )
    # Whoever sees that something is missing asks the owner for it.
    await world.share(shield, beta, "relayed")
    await world.until(partial(beta.matches_are, {number: 1}))
    await shield.node.use_cases.peering.revoke(beta.name, "relayed")
    await beta.node.use_cases.peering.follow(shield.name, "relayed", via=alpha.name)


async def _it_freezes(world: FiveNodes, origin: str, number: int) -> None:
    shield, alpha, beta = world.shield, world.alpha, world.beta
    await world.until_equal(origin, shield, alpha, beta)
    await world.cut(shield, alpha)
    await shield.publish("relayed", shared(number))
    world.clock.advance(25 * HOUR)

    assert await beta.try_sync(shield.name, "relayed") is None

    assert await beta.matches_are({number: 0})
    status = await beta.node.use_cases.inspect.status()
    (row,) = [one for one in status.lists if one.origin == origin]
    assert row.lag_seconds is not None
    assert row.lag_seconds >= 25 * HOUR
    assert AlertCode.COPY_UNCONFIRMED in {
        one.code for one in status.alerts if one.origin == origin
    }
    world.mend()
    await world.until(partial(beta.matches_are, {number: 1}))


# ------------------------------------------------------------------------- 3, uploads


async def everything(owner: Node, list_name: str) -> bytes:
    """Write the entries of a list as one upload."""

    def read(conn: Connection) -> bytes:
        log = logs.find_own_log(conn, owner.name, list_name)
        assert log is not None
        return read_entries(conn, log, 0, b"")

    return await owner.node.foundation.database.read(read)


async def test_3_an_upload_over_a_line_that_is_cut_again_and_again_is_resumed(
    world: FiveNodes,
) -> None:
    ngo, alpha = world.ngo, world.alpha
    origin = await ngo.create("uploads")
    numbers = world.numbers(1_400)
    await world.share(ngo, alpha, "uploads")
    limit = 30_000
    world.line.cuts = cycle([*repeat(Cut(there=limit), 4), Cut(back=100)])
    world.line.hang_up()
    refs = await ngo.publish("uploads", *map(indicator, numbers))
    assert len(gzip.compress(await everything(ngo, "uploads"))) > limit

    there = partial(alpha.matches_are, dict.fromkeys(numbers[::50], 1))
    await world.until(there, seconds=100)
    world.line.cuts = iter(())
    await world.until_equal(origin, ngo, alpha)

    await ngo.node.use_cases.publisher.withdraw(refs[0], "erase", Reason.WITHDRAWN)
    await world.until(partial(alpha.matches_are, {numbers[0]: 0}))
    await world.until(partial(is_complete, ngo, refs[0]))
    report = await ngo.node.use_cases.inspect.erasure(refs[0])
    (peer,) = report.peers
    assert peer.acknowledgement is not None
    verify_cosignature(
        peer.acknowledgement.note, alpha.node.foundation.keyring.mirror.key
    )


# ------------------------------------------------------------------------ 4, erasures


async def is_complete(owner: Node, ref: Ref) -> bool:
    return (await owner.node.use_cases.inspect.erasure(ref)).is_complete


async def test_4_a_node_that_is_kept_from_an_erasure_is_named_until_it_confirms(
    world: FiveNodes,
) -> None:
    shield, alpha, beta, gamma = world.reachable
    await shield.create("erasures")
    await world.relay("erasures")
    await world.share(shield, gamma, "erasures")
    (number,) = world.numbers(1)
    (ref,) = await shield.publish("erasures", shared(number))
    for follower in (alpha, beta, gamma):
        await world.until(partial(follower.matches_are, {number: 1}))
    await world.cut(shield, gamma)

    await shield.node.use_cases.publisher.withdraw(ref, "erase", Reason.WITHDRAWN)

    async def confirmed_by() -> set[tuple[str, str | None]]:
        report = await shield.node.use_cases.inspect.erasure(ref)
        return {(it.peer_name, it.via) for it in report.peers if it.acknowledgement}

    async def all_others_confirm() -> bool:
        found = await confirmed_by()
        return found == {(alpha.name, None), (beta.name, alpha.name)}

    await world.until(all_others_confirm)
    world.clock.advance(25 * HOUR)
    assert await gamma.matches_are({number: 1})
    report = await shield.node.use_cases.inspect.erasure(ref)
    assert not report.is_complete
    (missing,) = [it for it in report.peers if it.acknowledgement is None]
    assert missing.peer_name == gamma.name
    assert missing.settled.missing_seconds is not None
    assert missing.settled.missing_seconds >= 25 * HOUR
    assert (AlertCode.WITHDRAWAL_UNACKNOWLEDGED, gamma.name) in await alerts(
        shield, ref.origin
    )

    world.mend()
    await world.until(partial(is_complete, shield, ref))
    for node in world.reachable:
        assert await node.matches_are({number: 0})
    assert await alerts(shield, ref.origin) == set()


async def alerts(node: Node, origin: str) -> set[tuple[AlertCode, str]]:
    status = await node.node.use_cases.inspect.status()
    return {(it.code, it.peer_name) for it in status.alerts if it.origin == origin}


# --------------------------------------------------------------------------- 5, forks


async def fork_at(node: Node, origin: str) -> Fork | None:
    return await node.node.foundation.database.read(
        lambda conn: forks.find_fork(conn, origin)
    )


async def test_5_a_second_history_shown_to_one_node_is_proved_within_two_sweeps(
    world: FiveNodes, tmp_path: Path
) -> None:
    shield, alpha, beta, gamma = world.reachable
    origin = await shield.create("forked")
    true, false, another = world.numbers(3)
    signer = shield.node.foundation.keyring.log(origin)
    liar = PeerSimulator(shield.name, world.clock)
    liar.logs["forked"] = lie = LogSimulator(origin)
    # The true key signs both; only the owner can do that.
    lie.signer = signer  # type: ignore[assignment]  # any signer does
    lie.publish([indicator(false), indicator(another)])
    async with liar.running():
        port = int(liar.base.rpartition(":")[2])
        shield.gateway.detours[gamma.name, "/log/forked/"] = port
        # Nor does the owner tell gamma of the history that it shows to others.
        await gamma.gateway.refuse(shield.name)
        await shield.publish("forked", indicator(true))
        for follower in (alpha, beta, gamma):
            await world.share(shield, follower, "forked")
        for follower, number in ((alpha, true), (beta, true), (gamma, false)):
            assert await follower.try_sync(shield.name, "forked") is None
            assert await follower.matches_are({number: 1})

        for _ in range(2):
            for node in (alpha, beta, gamma):
                await node.node.use_cases.gossip.sweep()

        async def all_know() -> bool:
            found = [await fork_at(node, origin) for node in (alpha, beta, gamma)]
            return None not in found

        await until(all_know)
        for node in (alpha, beta, gamma):
            await _convicts(node, shield, origin, encode_vkey(signer.key), tmp_path)
    # Honest nodes blame nobody but the owner.
    for node in (alpha, gamma):
        assert {name for name, code in await node.blames() if code == "split-view"} <= {
            shield.name
        }


async def _convicts(
    node: Node, owner: Node, origin: str, vkey: str, directory: Path
) -> None:
    fork = await fork_at(node, origin)
    assert fork is not None
    verify_fork(parse_fork_evidence(fork.evidence), [parse_vkey(vkey)])
    check_fork(fork.evidence, [read_vkey(vkey)])
    file = directory / f"{node.name}.json"
    file.write_bytes(fork.evidence)
    said = CliRunner().invoke(cli, ["verify", str(file), "--vkey", vkey])
    assert said.exit_code == 0, said.output
    assert "signed two histories" in said.stdout
    assert (await node.follow_of(owner, "forked")).state is FollowState.QUARANTINED
    error = await node.try_sync(owner.name, "forked")
    assert isinstance(error, FollowQuarantinedError)


# ------------------------------------------------------------------------ 6, rollback


async def test_6_a_restored_backup_and_a_second_process_sign_nothing(
    world: FiveNodes,
) -> None:
    shield, alpha, _, gamma = world.reachable
    origin = await shield.create("restored")
    numbers = world.numbers(304)
    for follower in (alpha, gamma):
        await world.share(shield, follower, "restored")
    (ref, _, _) = await shield.publish("restored", *map(indicator, numbers[:3]))
    await world.until_equal(origin, shield, alpha, gamma)
    home = shield.settings.keys.directory.parent
    await shield.stop()
    backup = back_up(home)
    await shield.start()
    await shield.publish("restored", *map(indicator, numbers[3:303]))
    await shield.node.use_cases.publisher.withdraw(ref, "erase", Reason.WITHDRAWN)
    await world.until_equal(origin, shield, alpha, gamma)
    head = await shield.head(origin)
    await _a_second_process_is_refused(shield, backup)
    await _restore(shield, home)

    assert (await shield.log(origin)).state is LogState.ROLLED_BACK
    with pytest.raises(RolledBackError):
        await shield.publish("restored", indicator(numbers[303]))
    # Nobody is shown what was true once.
    for follower in (alpha, gamma):
        error = await follower.try_sync(shield.name, "restored")
        assert isinstance(error, PeerUnavailableError)
        assert await follower.matches_are({numbers[0]: 0, numbers[302]: 1})

    await _it_recovers(world, origin)
    assert await shield.head(origin) == head
    assert await shield.matches_are({numbers[0]: 0, numbers[302]: 1})
    await shield.publish("restored", indicator(numbers[303]))
    for follower in (alpha, gamma):
        await world.until(partial(follower.matches_are, {numbers[303]: 1}))
    await world.until_equal(origin, shield, alpha, gamma)


async def _it_recovers(world: FiveNodes, origin: str) -> None:
    shield, gamma = world.shield, world.gamma
    recovered = await shield.node.use_cases.recovery.recover("restored")
    assert [(one.state, one.problems) for one in recovered] == [(LogState.ACTIVE, ())]
    assert (await shield.log(origin)).state is LogState.ACTIVE
    # The lists that were not touched since the backup go on as they were.
    (also,) = world.numbers(1)
    await shield.publish("receipts", indicator(also))
    await world.until(partial(gamma.matches_are, {also: 1}))


async def _restore(shield: Node, home: Path) -> None:
    await shield.stop()
    restore(home)
    await shield.start()


async def _a_second_process_is_refused(shield: Node, backup: str) -> None:
    store = shield.settings.store.model_copy(update={"url": backup})
    second = shield.settings.model_copy(update={"store": store})
    with pytest.raises(LastSignedInUseError):
        async with start_node(second, clock=shield.own_clock):
            pytest.fail("the second node started")


# ---------------------------------------------------------------------------- 7, keys


async def settle(world: FiveNodes) -> None:
    """Do what hourly jobs do."""
    for node in world.everybody:
        await node.node.use_cases.rotation.settle()
    for one in world.reachable:
        for other in world.reachable:
            if one is not other:
                peering = one.node.use_cases.peering
                await patiently(partial(peering.refresh_descriptor, other.name))
    peering = world.ngo.node.use_cases.peering
    await patiently(partial(peering.refresh_descriptor, world.alpha.name))


async def exchange(world: FiveNodes) -> int:
    """Publish at both owners and erase; see it arrive and be confirmed."""
    shield, alpha, beta, gamma = world.reachable
    kept, erased, brought = world.numbers(3)
    _, ref = await shield.publish("rotated", shared(kept), shared(erased))
    await shield.node.use_cases.publisher.withdraw(ref, "erase", Reason.WITHDRAWN)
    (own,) = await world.ngo.publish("brought", indicator(brought))
    for node in (alpha, beta, gamma):
        await world.until(partial(node.matches_are, {kept: 1, erased: 0}))
    await world.until(partial(alpha.matches_are, {brought: 1}))
    await world.until(partial(is_complete, shield, ref))
    await world.until(
        partial(has_applied, world.ngo, alpha, "brought", own.leaf_index + 1)
    )
    return kept


async def all_blames(world: FiveNodes) -> list[set[tuple[str, str]]]:
    return [await node.blames() for node in world.everybody]


async def rotate(world: FiveNodes, use: RotatingUse) -> None:
    name = "rotated" if use == "log" else None
    await world.shield.node.use_cases.rotation.rotate(use, name)
    if use != "log":
        for node in (world.alpha, world.gamma, world.ngo):
            await node.node.use_cases.rotation.rotate(use, None)


async def test_7_stolen_keys_are_replaced_and_what_a_thief_wrote_is_undone(
    world: FiveNodes,
) -> None:
    shield, alpha, beta, gamma = world.reachable
    origin = await shield.create("rotated")
    await world.relay("rotated")
    await world.share(shield, gamma, "rotated")
    await world.ngo.create("brought")
    await world.share(world.ngo, alpha, "brought")
    first = await exchange(world)
    before = await all_blames(world)
    old, last = shield.node.foundation.keyring.log(origin).key, first
    for use in USES:
        await rotate(world, use)
        await exchange(world)
    for days in (2, 29):
        world.clock.advance(days * DAY)
        await settle(world)
        last = await exchange(world)
    assert shield.node.foundation.keyring.log(origin).key != old
    assert await all_blames(world) == before

    # Now a thief had the key for a while, and what he wrote is undone everywhere.
    final = (await shield.log(origin)).tree_size
    (forged,) = world.numbers(1)
    await shield.publish("rotated", shared(forged))
    for node in (alpha, beta, gamma):
        await world.until(partial(node.matches_are, {forged: 1}))
    await shield.node.use_cases.epochs.begin_next("rotated", ending=Abandoned(final))
    for node in world.reachable:
        await world.until(partial(node.matches_are, {forged: 0, first: 1, last: 1}))
    await exchange(world)
    await world.until_equal(f"{origin[:-1]}2", *world.reachable)
    assert await all_blames(world) == before


# -------------------------------------------------------------------------- 8, grants


async def test_8_a_narrow_grant_shows_what_its_dry_run_said_also_to_who_asks_for_more(
    world: FiveNodes,
) -> None:
    shield, gamma = world.shield, world.gamma
    origin = await shield.create("scoped")
    numbers = world.numbers(6)
    labels = ("ncii:adult", "ncii:child")
    refs = await shield.publish(
        "scoped", *(labelled(it, labels[it % 2]) for it in numbers)
    )
    previews = shield.node.use_cases.previews
    told = await previews.preview(gamma.name, "scoped", ADULT, examples=10)
    assert await gamma.matches_are(dict.fromkeys(numbers, 0))

    await world.share(shield, gamma, "scoped", scope=ADULT)
    expected = {
        number: int(ref in told.examples.newly_shown)
        for number, ref in zip(numbers, refs, strict=True)
    }
    assert sum(expected.values()) == told.newly_shown == 3
    await world.until(partial(gamma.matches_are, expected))
    await world.until_equal(origin, shield, gamma)
    assert await gamma.matches_are(expected)

    # It asks for all bodies with its own key, and beta asks without any grant.
    bodies = f"{shield.settings.node.base}/hsf/v1/log/scoped/1/bodies/000.p/7"
    status, content = await _ask(gamma, bodies)
    assert status == 200
    for number, is_shown in expected.items():
        assert (md5_of(number).encode() in content) is bool(is_shown)
    status, _ = await _ask(world.beta, bodies)
    assert status == 404

    # One of those that are hidden ends before the grant is widened.
    hidden = [number for number, is_shown in expected.items() if not is_shown]
    ended = refs[numbers.index(hidden[0])]
    await shield.node.use_cases.publisher.withdraw(ended, "erase", Reason.WITHDRAWN)
    whole = GrantScope(None, None, None)
    told = await previews.preview(gamma.name, "scoped", whole, examples=10)
    assert told.newly_shown == 2
    await shield.node.use_cases.peering.grant(gamma.name, "scoped")
    expected = {number: int(number != hidden[0]) for number in numbers}
    await world.until(partial(gamma.matches_are, expected))


async def _ask(node: Node, url: str) -> tuple[int, bytes]:
    client = node.node.foundation.client
    status, _, content = await patiently(lambda: client.request("GET", url))
    return status, content


# ------------------------------------------------------------------------ 9, feedback


async def test_9_feedback_reaches_owners_only_and_a_withdrawal_takes_only_its_case(
    world: FiveNodes,
) -> None:
    shield, alpha, _, gamma = world.reachable
    await shield.create("seen")
    await world.ngo.create("others")
    number, theirs = world.numbers(2)
    (ref,) = await shield.publish("seen", indicator(number))
    (other,) = await world.ngo.publish("others", indicator(theirs))
    for follower in (alpha, gamma):
        await world.share(shield, follower, "seen")
        await world.until(partial(follower.matches_are, {number: 1}))
    await world.share(world.ngo, alpha, "others")
    await world.until(partial(alpha.matches_are, {theirs: 1}))

    about = GrantScope(None, None, about=shield.name)
    now = world.clock()
    for node in (alpha, gamma):
        feedback = node.node.use_cases.feedback
        await feedback.publish_opinion(Opinion(ref=ref, stance="dispute"))
        seen = [Sighting(ref, "matched", 1, now, now, "pdq")] * 20
        await feedback.count_sightings(seen)
    # One of them says something about somebody else's record too.
    feedback = alpha.node.use_cases.feedback
    await feedback.publish_opinion(Opinion(ref=other, stance="dispute"))
    for node in (alpha, gamma):
        # Never one record per match.
        assert await node.node.use_cases.feedback.publish_sightings() == 1
        for name in ("feedback", "sightings"):
            await world.share(node, shield, name, scope=about)

    async def all_is_said() -> bool:
        detail = await shield.node.use_cases.feedback.about_record(ref)
        counts = {one.node: one.count for one in detail.sightings}
        return detail.fold is OpinionFold.DISPUTED and counts == {
            alpha.name: 20,
            gamma.name: 20,
        }

    await world.until(all_is_said)
    await world.until_equal(f"{alpha.name}/hsf/v1/log/feedback/1", alpha, shield)
    assert not await holds(shield, b"ngo.example/hsf")
    # A peer can make us doubt; it cannot take a record away.
    assert await gamma.matches_are({number: 1})
    await _a_case_ends(world)


async def holds(node: Node, text: bytes) -> bool:
    """Tell whether a body at a node contains some bytes."""

    def read(conn: Connection) -> bool:
        bodies = conn.execute(select(tables.contents.c.body)).scalars()
        return any(text in body for body in bodies)

    return await node.node.foundation.database.read(read)


async def _a_case_ends(world: FiveNodes) -> None:
    """Somebody asks that it ends, and another person is in the same picture."""
    shield, alpha, gamma = world.shield, world.alpha, world.gamma
    (number,) = world.numbers(1)
    record = parse_record(indicator(number))
    assert isinstance(record, Indicator)
    await alpha.create("own")
    await world.share(alpha, gamma, "own")
    (kept,) = await alpha.publish("own", indicator(number))
    (ours,) = await shield.publish("seen", encode_record(replace(record, case="c-1")))
    for node, count in ((gamma, 2), (alpha, 2)):
        await world.until(partial(node.matches_are, {number: count}))

    cases = alpha.node.use_cases.cases, shield.node.use_cases.cases
    ended = await cases[1].withdraw("c-1", "erase", Reason.WITHDRAWN)
    assert [one for one, _ in ended.withdrawn] == [ours]
    await world.until(partial(gamma.matches_are, {number: 1}))
    await world.until(partial(is_complete, shield, ours))
    assert await gamma.matches_are({number: 1})
    await alpha.node.use_cases.publisher.withdraw(kept, "erase", Reason.WITHDRAWN)
    await world.until(partial(gamma.matches_are, {number: 0}))


# ------------------------------------------------------------------- 10, hostile peers


async def drip(request: web.Request) -> web.StreamResponse:
    """Answer a byte at a time."""
    answer = web.StreamResponse(headers={"Content-Length": "4000"})
    await answer.prepare(request)
    with suppress(ConnectionError):
        for _ in range(4000):
            await answer.write(b"x")
            await asyncio.sleep(0.1)
    return answer


async def never_end(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    with suppress(ConnectionError):
        while True:
            await answer.write(os.urandom(65_536))
    return answer


async def be_oversized(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=bytes(8 * 1024 * 1024))


async def redirect(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound(f"/elsewhere{request.path}")


async def say_nothing(_request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    return web.Response()


async def test_10_a_slow_endless_oversized_or_redirecting_peer_delays_nobody_else(
    world: FiveNodes,
) -> None:
    shield, alpha = world.shield, world.alpha
    await shield.create("quick")
    await world.share(shield, alpha, "quick")
    hostile = PeerSimulator("mallory.example", world.clock)
    hostile.create_list("bad")
    async with hostile.running():
        peering = alpha.node.use_cases.peering
        await peering.add_peer(hostile.base, hostile.vkey)
        await peering.follow(hostile.name, "bad")
        assert await alpha.try_sync(hostile.name, "bad") is None

        async def is_refused() -> bool:
            error = await alpha.try_sync(hostile.name, "bad")
            # What it says instead of an answer may be a refusal for all we know.
            told = await alpha.node.use_cases.inspect.follows()
            return error is not None or (hostile.name, FollowState.WAITING) in {
                (one.peer_name, one.state) for one in told
            }

        for act in (drip, never_end, be_oversized, redirect, say_nothing):
            hostile.play("checkpoint", act)
            asked = asyncio.create_task(until(is_refused))
            await _is_quick(world, shield, alpha)
            await asked
            hostile.honest()
            await peering.release(hostile.name)
        assert not [path for _, path in hostile.asked if "/elsewhere" in path]
        await _it_replays_and_is_released(world, hostile)
        # Who is told to look at an address of the inner network does not.
        with pytest.raises(PeerUnavailableError):
            await peering.add_peer("https://10.0.0.1", hostile.vkey)
        await peering.unfollow(hostile.name, "bad")
        await peering.quarantine(hostile.name)
    await _a_clock_is_days_off(world)


async def _a_clock_is_days_off(world: FiveNodes) -> None:
    """It keeps only its own node out."""
    shield, alpha, gamma = world.shield, world.alpha, world.gamma
    await world.share(shield, gamma, "quick")
    (number,) = world.numbers(1)
    gamma.own_clock.offset_seconds = 3 * DAY
    await shield.publish("quick", indicator(number))
    await gamma.try_sync(shield.name, "quick")
    assert await gamma.matches_are({number: 0})
    await _is_quick(world, shield, alpha)
    gamma.own_clock.offset_seconds = 0
    await world.until(partial(gamma.matches_are, {number: 1}))


async def _is_quick(world: FiveNodes, owner: Node, follower: Node) -> None:
    """Publish, and see that it arrives at once and by itself."""
    (number,) = world.numbers(1)
    await owner.publish("quick", indicator(number))
    await until(partial(follower.matches_are, {number: 1}), seconds=QUICK_SECONDS)


async def _it_replays_and_is_released(world: FiveNodes, hostile: PeerSimulator) -> None:
    alpha = world.alpha
    first, second = world.numbers(2)
    log = hostile.logs["bad"]
    log.publish([indicator(first)])

    async def goes_on(number: int) -> bool:
        await alpha.try_sync(hostile.name, "bad")
        return await alpha.matches_are({number: 1})

    await world.until(partial(goes_on, first))
    # An entry that belongs to another place in another answer.
    log.publish([indicator(second)])
    hostile.tamper_body("entries", lambda body: body[:-1] + bytes((body[-1] ^ 1,)))
    error = await alpha.try_sync(hostile.name, "bad")
    assert isinstance(error, PeerMisbehavedError)
    error = await alpha.try_sync(hostile.name, "bad")
    assert isinstance(error, FollowQuarantinedError)
    # What was verified before goes on protecting people.
    assert await alpha.matches_are({first: 1, second: 0})
    hostile.honest()
    await alpha.node.use_cases.peering.release(hostile.name)
    await world.until(partial(goes_on, second))
