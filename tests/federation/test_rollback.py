"""Attack by name: a node goes on from an old backup, and would show two histories."""

from __future__ import annotations

import asyncio
import shutil
from functools import partial
from typing import TYPE_CHECKING, cast

import aiohttp
import pytest

from hashlight_node.api.local.bearer import generate_secret, hash_secret
from hashlight_node.app import start_node
from hashlight_node.exchange.errors import RolledBackError, UnconfirmedError
from hashlight_node.exchange.publishing.epochs import Frozen
from hashlight_node.last_signed import LastSignedInUseError
from hashlight_node.local_client import LocalClient
from hashlight_node.model import FollowState, LogState, RecordState, Scope
from hashlight_node.peers.errors import PeerUnavailableError
from hashlight_node.store import logs, records, tables
from hashlight_node.store import peers as peer_store
from hashlight_node.store.tokens import insert_token
from hashlight_protocol import BodyStatus, Reason, Ref
from support import stores
from support.made_records import indicators
from support.running_companies import MakeCompany, RunningCompany, connect, until

if TYPE_CHECKING:
    from pathlib import Path

    from hashlight_node.exchange.publishing.recover import Recovered
    from hashlight_node.model import Log
    from hashlight_node.store.database import Connection
    from hashlight_protocol import KnownHead

ORIGIN = "shield.example/hsf/v1/log/ncii/1"
NEXT_ORIGIN = "shield.example/hsf/v1/log/ncii/2"


def home_of(company: RunningCompany) -> Path:
    return company.settings.keys.directory.parent


def back_up(company: RunningCompany) -> None:
    """Copy the database of a stopped node away."""
    stores.back_up(home_of(company))


def restore(company: RunningCompany) -> None:
    """Put the backup in the place of a stopped node's database."""
    stores.restore(home_of(company))


def lose_last_signed(company: RunningCompany) -> None:
    shutil.rmtree(company.settings.keys.last_signed)


async def own_log(company: RunningCompany, origin: str = ORIGIN) -> Log:
    found = await company.node.foundation.database.read(
        lambda conn: logs.find_log(conn, origin)
    )
    assert found is not None
    return found


async def publish(company: RunningCompany, count: int, *, first: int) -> None:
    publisher = company.node.use_cases.publisher
    await publisher.publish("ncii", indicators(count, first=first))


async def recover(company: RunningCompany) -> Recovered:
    (recovered,) = await company.node.use_cases.recovery.recover("ncii")
    return recovered


async def are_equal(one: RunningCompany, other: RunningCompany) -> bool:
    head = await one.head(ORIGIN)
    return head is not None and head == await other.head(ORIGIN)


async def follow_state(follower: RunningCompany) -> FollowState:
    def read_state(conn: Connection) -> FollowState:
        (follow,) = peer_store.list_follows(conn)
        return follow.state

    return await follower.node.foundation.database.read(read_state)


@pytest.fixture
async def pair(make_company: MakeCompany) -> tuple[RunningCompany, RunningCompany]:
    """Give a node with a list that another one copies; a backup was made early."""
    shield = await make_company("shield.example")
    alpha = await make_company("alpha.example")
    await shield.node.use_cases.publisher.create_list("ncii", {})
    await publish(shield, 5, first=0)
    await connect(shield, alpha, "ncii")
    await until(partial(are_equal, shield, alpha))
    await shield.stop()
    back_up(shield)
    await shield.start()
    return shield, alpha


async def grow_and_restore(
    shield: RunningCompany, *followers: RunningCompany
) -> KnownHead:
    """Publish much, retract, erase; then put the old database back. Gives the head.

    By then the followers have it all.
    """
    publisher = shield.node.use_cases.publisher
    refs = await publisher.publish("ncii", indicators(600, first=5))
    await publisher.withdraw(refs[0], "retract", Reason.FALSE_POSITIVE)
    await publisher.withdraw(refs[1], "erase", Reason.WITHDRAWN)
    for follower in followers:
        await until(partial(are_equal, shield, follower))
    head = await shield.head(ORIGIN)
    assert head is not None
    await shield.stop()
    restore(shield)
    return head


async def test_a_restored_backup_refuses_says_why_and_comes_back_to_the_same_root(
    pair: tuple[RunningCompany, RunningCompany],
) -> None:
    shield, alpha = pair
    head = await grow_and_restore(shield, alpha)
    await alpha.stop()  # Nobody can be asked: the last-signed store knows by itself.

    await shield.start()

    log = await own_log(shield)
    assert log.state is LogState.ROLLED_BACK
    assert log.error == "size 608 was signed, the database is at 6"
    with pytest.raises(RolledBackError, match="hashlight recover ncii"):
        await publish(shield, 1, first=900)
    assert (await recover(shield)).state is LogState.ROLLED_BACK
    await alpha.start()
    assert await follow_state(alpha) is FollowState.ACTIVE

    recovered = await recover(shield)

    assert recovered.problems == ()
    assert recovered.state is LogState.ACTIVE
    assert (recovered.old_size, recovered.new_size) == (6, 608)
    assert recovered.missing_bodies == 0
    assert recovered.answered == ("alpha.example",)
    assert await shield.head(ORIGIN) == head
    expected = {0: 1, 5: 0, 6: 0, 7: 1, 604: 1, 900: 0}
    assert {n: await shield.matches(n) for n in expected} == expected
    # The follower goes on behind the same root as if nothing had happened.
    await publish(shield, 1, first=900)
    await until(partial(are_equal, shield, alpha))
    assert await alpha.matches(900) == 1
    assert await follow_state(alpha) is FollowState.ACTIVE
    assert not (await alpha.node.use_cases.inspect.evidence())


async def test_no_peer_sees_the_old_state_of_a_restored_node(
    pair: tuple[RunningCompany, RunningCompany],
) -> None:
    shield, alpha = pair
    await grow_and_restore(shield, alpha)
    await shield.start()
    with pytest.raises(PeerUnavailableError, match="status 503"):
        await alpha.node.use_cases.follower.sync("shield.example", "ncii")
    await shield.node.use_cases.pusher.push(ORIGIN)
    await shield.node.use_cases.pusher.sweep()
    assert await follow_state(alpha) is FollowState.ACTIVE
    assert not (await alpha.node.use_cases.inspect.evidence())
    assert not (await shield.node.use_cases.inspect.evidence())


async def test_an_operator_sees_that_a_node_was_rolled_back(
    pair: tuple[RunningCompany, RunningCompany],
) -> None:
    shield, alpha = pair
    await grow_and_restore(shield, alpha)
    await shield.start()
    status = await shield.node.use_cases.inspect.status()
    assert [one.state for one in status.lists] == [LogState.ROLLED_BACK]
    base = f"http://{shield.settings.local.listen}"
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{base}/readyz") as answer:
            assert answer.status == 200
            said = await answer.json()
            assert said == {"status": "ready", "signing": "held", "room": "ok"}
        async with session.get(f"{base}/metrics") as answer:
            text = await answer.text()
    assert 'hashlight_logs_held{state="rolled-back"} 1.0' in text
    await recover(shield)
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{base}/readyz") as answer,
    ):
        assert await answer.json() == {"status": "ready", "signing": "ok", "room": "ok"}


async def test_a_backup_restored_together_with_its_store_is_found_out_by_peers(
    pair: tuple[RunningCompany, RunningCompany],
) -> None:
    """Against all advice the last-signed store was in the backup set."""
    shield, alpha = pair
    await shield.stop()
    kept = home_of(shield) / "kept"
    shutil.copytree(shield.settings.keys.last_signed, kept)
    await shield.start()
    head = await grow_and_restore(shield, alpha)
    lose_last_signed(shield)
    kept.rename(shield.settings.keys.last_signed)

    await shield.start()

    assert (await own_log(shield)).state is LogState.ROLLED_BACK
    with pytest.raises(RolledBackError):
        await publish(shield, 1, first=900)
    # What the peer proved is remembered: also without it nothing is signed.
    await alpha.stop()
    await shield.stop()
    await shield.start()
    with pytest.raises(RolledBackError):
        await publish(shield, 1, first=900)
    await alpha.start()
    assert (await recover(shield)).state is LogState.ACTIVE
    assert await shield.head(ORIGIN) == head


async def test_with_a_matching_store_a_node_signs_at_once_without_peers(
    pair: tuple[RunningCompany, RunningCompany],
) -> None:
    shield, alpha = pair
    await alpha.stop()
    await shield.stop()
    await shield.start()
    await publish(shield, 1, first=5)
    assert await shield.matches(5) == 1


async def test_a_lost_store_needs_the_word_of_a_peer(
    pair: tuple[RunningCompany, RunningCompany],
) -> None:
    shield, alpha = pair
    await alpha.stop()
    await shield.stop()
    lose_last_signed(shield)
    await shield.start()
    assert (await own_log(shield)).state is LogState.UNCONFIRMED
    with pytest.raises(UnconfirmedError):
        await publish(shield, 1, first=5)
    recovered = await recover(shield)
    assert (recovered.state, recovered.signed_size) == (LogState.UNCONFIRMED, None)
    assert recovered.answered == ()
    await alpha.start()
    await shield.node.use_cases.self_check.ask()
    await publish(shield, 1, first=5)
    await until(partial(are_equal, shield, alpha))


async def test_a_lost_store_and_an_old_database_are_found_out_at_the_start(
    pair: tuple[RunningCompany, RunningCompany],
) -> None:
    shield, alpha = pair
    head = await grow_and_restore(shield, alpha)
    lose_last_signed(shield)
    await shield.start()
    assert (await own_log(shield)).state is LogState.ROLLED_BACK
    with pytest.raises(RolledBackError):
        await shield.node.use_cases.recovery.vouch("ncii")
    assert (await recover(shield)).state is LogState.ACTIVE
    assert await shield.head(ORIGIN) == head


async def test_an_operator_can_vouch_for_a_list_that_no_peer_has_seen(
    make_company: MakeCompany,
) -> None:
    shield = await make_company("shield.example")
    await shield.node.use_cases.publisher.create_list("ncii", {})
    await publish(shield, 2, first=0)
    await shield.stop()
    lose_last_signed(shield)
    await shield.start()
    assert (await recover(shield)).state is LogState.UNCONFIRMED
    await shield.node.use_cases.recovery.vouch("ncii")
    assert (await recover(shield)).state is LogState.ACTIVE
    await publish(shield, 1, first=2)


async def test_a_store_older_than_the_database_needs_the_word_of_a_peer_too(
    pair: tuple[RunningCompany, RunningCompany],
) -> None:
    shield, alpha = pair
    await shield.stop()
    kept = home_of(shield) / "kept"
    shutil.copytree(shield.settings.keys.last_signed, kept)
    await shield.start()
    await publish(shield, 3, first=5)
    await until(partial(are_equal, shield, alpha))
    await alpha.stop()
    await shield.stop()
    lose_last_signed(shield)
    kept.rename(shield.settings.keys.last_signed)
    await shield.start()
    log = await own_log(shield)
    assert log.state is LogState.UNCONFIRMED
    assert "older than the database" in (log.error or "")
    await alpha.start()
    assert (await recover(shield)).state is LogState.ACTIVE


async def test_two_histories_that_were_signed_cannot_be_healed(
    pair: tuple[RunningCompany, RunningCompany],
) -> None:
    """Store and database went back, no peer was there, and the node signed on."""
    shield, alpha = pair
    await shield.stop()
    kept = home_of(shield) / "kept"
    shutil.copytree(shield.settings.keys.last_signed, kept)
    await shield.start()
    await publish(shield, 3, first=5)
    await _take_back_two(shield)
    await until(partial(are_equal, shield, alpha))
    await alpha.stop()
    await shield.stop()
    restore(shield)
    lose_last_signed(shield)
    kept.rename(shield.settings.keys.last_signed)
    await shield.start()
    await publish(shield, 30, first=100)
    await alpha.start()

    recovered = await recover(shield)

    assert recovered.state is LogState.ROLLED_BACK
    assert "new epoch" in recovered.problems[0]
    with pytest.raises(RolledBackError):
        await publish(shield, 1, first=900)
    # The old log ends where the histories part, and our own records go on; but not what
    # a person took back in the history that we lost.
    ended, begun = await shield.node.use_cases.recovery.begin_next("ncii")
    assert (ended.state, begun.state) == (LogState.ABANDONED, LogState.ACTIVE)
    assert begun.origin == NEXT_ORIGIN
    await publish(shield, 1, first=900)
    assert [await shield.matches(n) for n in (0, 5, 100, 129, 900)] == [1, 0, 1, 1, 1]
    assert [await shield.matches(n) for n in (1, 2, 3)] == [0, 0, 1]
    await _is_erased(shield, Ref(ORIGIN, 3))


async def _take_back_two(shield: RunningCompany) -> None:
    publisher = shield.node.use_cases.publisher
    await publisher.withdraw(Ref(ORIGIN, 2), "retract", Reason.WITHDRAWN)
    await publisher.withdraw(Ref(ORIGIN, 3), "erase", Reason.WITHDRAWN)


async def _is_erased(shield: RunningCompany, ref: Ref) -> None:
    erased = await shield.node.foundation.database.read(
        lambda conn: records.read_record(conn, ref)
    )
    assert erased is not None
    assert (erased.state, erased.body) == (RecordState.ERASED, b"")


async def test_bodies_that_one_peer_does_not_have_come_from_another(
    pair: tuple[RunningCompany, RunningCompany], make_company: MakeCompany
) -> None:
    shield, alpha = pair
    beta = await make_company("beta.example")
    await connect(shield, beta, "ncii")
    await until(partial(are_equal, shield, beta))
    await shield.stop()
    back_up(shield)
    await shield.start()
    head = await grow_and_restore(shield, alpha, beta)
    await _forget_bodies(alpha, range(0, 608, 2))
    await _forget_bodies(beta, range(1, 608, 3))
    await shield.start()

    recovered = await recover(shield)

    assert recovered.state is LogState.ACTIVE
    # What both forgot, but for what was erased and for what is no record.
    both = set(range(6, 606)) & set(range(0, 608, 2)) & set(range(1, 608, 3)) - {7}
    assert recovered.missing_bodies == len(both)
    assert await shield.matches(8) == 1
    assert await shield.head(ORIGIN) == head


async def _forget_bodies(company: RunningCompany, leaves: range) -> None:
    """Leave a copy as a peer with a narrower grant has it."""
    log = await own_log(company)

    def forget(conn: Connection) -> None:
        table = tables.records
        conn.execute(
            table.update()
            .where(
                table.c.log_id == log.log_id,
                table.c.status == BodyStatus.PRESENT.value,
                table.c.leaf_index.in_(leaves),
            )
            .values(status=BodyStatus.WITHHELD.value, content_id=None)
        )

    await company.node.foundation.database.write(forget)


async def test_a_recovery_that_was_cut_off_goes_on_where_it_was(
    pair: tuple[RunningCompany, RunningCompany],
) -> None:
    shield, alpha = pair
    await shield.node.use_cases.publisher.publish(
        "ncii", indicators(11_000, first=10_000)
    )
    await until(partial(are_equal, shield, alpha), seconds=120)
    head = await shield.head(ORIGIN)
    await shield.stop()
    restore(shield)
    await shield.start()
    recovering = asyncio.create_task(recover(shield))

    async def has_begun() -> bool:
        return (await own_log(shield)).tree_size > 6

    await until(has_begun, seconds=60)
    recovering.cancel()
    await asyncio.gather(recovering, return_exceptions=True)
    await shield.stop()
    await shield.start()
    begun = await own_log(shield)
    assert begun.state is LogState.ROLLED_BACK
    assert 6 < begun.tree_size < 11_006
    with pytest.raises(RolledBackError):
        await publish(shield, 1, first=900)
    recovered = await recover(shield)
    assert recovered.old_size == begun.tree_size
    assert recovered.state is LogState.ACTIVE
    assert await shield.head(ORIGIN) == head


async def test_what_no_peer_has_all_of_is_brought_back_as_far_as_it_goes(
    pair: tuple[RunningCompany, RunningCompany],
) -> None:
    shield, alpha = pair
    await publish(shield, 3, first=5)
    await until(partial(are_equal, shield, alpha))
    await alpha.stop()
    await publish(shield, 2, first=8)
    await shield.stop()
    restore(shield)
    await shield.start()
    await alpha.start()

    recovered = await recover(shield)

    assert recovered.state is LogState.ROLLED_BACK
    assert (recovered.new_size, recovered.signed_size) == (9, 11)
    assert "size 11 was signed, the database is at 9" in recovered.problems[0]
    with pytest.raises(RolledBackError):
        await publish(shield, 1, first=900)
    _, begun = await shield.node.use_cases.recovery.begin_next("ncii")
    assert (begun.origin, begun.state) == (NEXT_ORIGIN, LogState.ACTIVE)
    await publish(shield, 1, first=900)

    async def is_known() -> bool:
        return await alpha.matches(900) == 1

    await until(is_known)
    assert await follow_state(alpha) is FollowState.ACTIVE
    assert [await alpha.matches(n) for n in (0, 7, 8)] == [1, 1, 0]


async def test_two_processes_on_one_identity_and_two_databases(
    pair: tuple[RunningCompany, RunningCompany],
) -> None:
    """A second node from the backup, beside the one that runs."""
    shield, _ = pair
    other = home_of(shield).parent / "other"
    other.mkdir()
    store = shield.settings.store.model_copy(update={"url": stores.make_store(other)})
    second = shield.settings.model_copy(update={"store": store})
    with pytest.raises(LastSignedInUseError, match="stop that one first"):
        async with start_node(second):
            pytest.fail("the second node started")


async def test_recovery_over_the_local_api(
    pair: tuple[RunningCompany, RunningCompany],
) -> None:
    shield, alpha = pair
    head = await grow_and_restore(shield, alpha)
    await shield.start()
    token = await _admin_token(shield)
    client = LocalClient(shield.settings.local.listen, token)
    answer = await asyncio.to_thread(client.post, "/v1/recover", {"list": "ncii"})
    (row,) = cast("list[dict[str, object]]", answer["lists"])
    assert row == {
        "name": "ncii",
        "origin": ORIGIN,
        "state": "active",
        "old_size": 6,
        "new_size": 608,
        "signed_size": 608,
        "missing_bodies": 0,
        "answered": ["alpha.example"],
        "problems": [],
    }
    assert await shield.head(ORIGIN) == head


async def _admin_token(company: RunningCompany) -> str:
    secret = generate_secret()
    await company.node.foundation.database.write(
        lambda conn: insert_token(
            conn, "test", frozenset({Scope.ADMIN}), hash_secret(secret), 1
        )
    )
    return secret


async def test_a_backup_from_before_the_list_went_on_in_a_new_log(
    pair: tuple[RunningCompany, RunningCompany],
) -> None:
    """The old log stands where it was signed last, and must grow no more."""
    shield, _ = pair
    await shield.node.use_cases.epochs.begin_next("ncii", ending=Frozen())
    await shield.stop()
    restore(shield)
    await shield.start()
    assert (await own_log(shield)).state is LogState.ROLLED_BACK
    with pytest.raises(RolledBackError):
        await publish(shield, 1, first=900)
    with pytest.raises(RolledBackError):
        await shield.node.use_cases.recovery.begin_next("ncii")
    with pytest.raises(RolledBackError):
        await shield.node.use_cases.epochs.begin_next("ncii", ending=Frozen())
