"""The history of what peers signed: paged, and pruned without losing a proof."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from hashlight_node.model import Role
from hashlight_node.store import (
    confirmations,
    deliveries,
    delivery_history,
    logs,
    past_grants,
    peers,
    tables,
)
from hashlight_node.store.delivery_history import Moment, Signed, Streak
from hashlight_protocol import Erase, Reason, Retract
from support.clock import START
from support.made_records import indicator
from support.stored_log import ORIGIN, StoredLog, present

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from hashlight_protocol import Entry


class Held(NamedTuple):
    log: StoredLog
    streak: Streak


@pytest.fixture
def held(conn: Connection) -> Held:
    log = StoredLog(conn)
    return Held(log, Streak(log.log.log_id, make_peer(conn, "alpha.example")))


def make_peer(conn: Connection, name: str) -> int:
    return peers.insert_peer(
        conn,
        name=name,
        base="https://x",
        identity_vkey="",
        descriptor=b"",
        descriptor_version=1,
        added_at=0,
    ).peer_id


def deliver(conn: Connection, streak: Streak, size: int, at: int) -> None:
    deliveries.save_delivery(conn, *streak, size, at, f"{size} at {at}".encode())


def kept(conn: Connection, streak: Streak) -> list[tuple[int, int]]:
    page = delivery_history.page_history(conn, streak, before=None, limit=10_000)
    return sorted((it.moment.tree_size, it.moment.at) for it in page)


def prune(conn: Connection, streak: Streak, before: int) -> int:
    """Prune everything, and tell in how many pages."""
    pages, after = 0, (0, -1)
    while True:
        pages += 1
        end = delivery_history.prune_page(conn, streak, before=before, after=after)
        if end is None:
            return pages
        after = end


def test_the_history_is_read_page_by_page_the_newest_first(
    conn: Connection, held: Held
) -> None:
    streak = held.streak
    for size, at in ((1, 5), (2, 5), (2, 9), (3, 9)):
        deliver(conn, streak, size, at)
    deliveries.save_acknowledgement(conn, *streak, 2, 9, b"applied")
    deliver(conn, Streak(streak.log_id, make_peer(conn, "beta.example")), 3, 9)
    expected = [
        Moment(9, 3, Signed.DELIVERED),
        Moment(9, 2, Signed.DELIVERED),
        Moment(9, 2, Signed.APPLIED),
        Moment(5, 2, Signed.DELIVERED),
        Moment(5, 1, Signed.DELIVERED),
    ]
    for limit in (1, 2, 5, 9):
        found: list[Moment] = []
        before = None
        while page := delivery_history.page_history(
            conn, streak, before=before, limit=limit
        ):
            assert len(page) <= limit
            found += [it.moment for it in page]
            before = found[-1]
        assert found == expected
    (applied,) = [
        it
        for it in delivery_history.page_history(conn, streak, before=None, limit=9)
        if it.moment.said == Signed.APPLIED
    ]
    assert applied.note == b"applied"


def test_what_is_not_old_stays(conn: Connection, held: Held) -> None:
    for at in range(10):
        deliver(conn, held.streak, 1, START + at)
    prune(conn, held.streak, START + 5)
    assert kept(conn, held.streak) == [(1, START + at) for at in range(5, 10)]


def test_the_newest_stays_however_old_it_is(conn: Connection, held: Held) -> None:
    for size, at in ((1, 1), (1, 2), (2, 3), (2, 4)):
        deliver(conn, held.streak, size, at)
    prune(conn, held.streak, START)
    assert kept(conn, held.streak) == [(2, 4)]


@pytest.mark.parametrize("batch", [1, 2, 3, 500])
@pytest.mark.parametrize("kind", [Retract, Erase])
def test_the_first_that_covers_a_withdrawal_stays(
    conn: Connection,
    held: Held,
    batch: int,
    kind: type[Retract | Erase],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery_history, "_BATCH", batch)
    log, streak = held
    log.append(conn, present(indicator(1)), present(indicator(2)))  # Leaves 1 and 2.
    withdrawal: Entry = kind(1, 1, int(Reason.WITHDRAWN))
    log.append(conn, withdrawal)  # Leaf 3.
    log.append(conn, present(indicator(3)), present(indicator(4)))
    log.append(conn, kind(2, 1, int(Reason.WITHDRAWN)))  # Leaf 6.
    log.append(conn, present(indicator(5)))
    answers = [(1, 1), (3, 2), (3, 3), (5, 4), (5, 5), (6, 6), (7, 7), (7, 8), (8, 9)]
    for size, at in answers:
        deliver(conn, streak, size, at)
    for _ in range(2):
        prune(conn, streak, START)
        # Size 5 is the first above leaf 3, size 7 the first above leaf 6.
        assert kept(conn, streak) == [(5, 4), (7, 7), (8, 9)]


def test_pruning_goes_on_behind_a_page_and_ends_at_what_is_new(
    conn: Connection, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_history, "_BATCH", 10)
    for at in range(35):
        deliver(conn, held.streak, 1, at)
    for at in range(50):
        deliver(conn, held.streak, 1, START + at)
    assert prune(conn, held.streak, START) == 5
    assert len(kept(conn, held.streak)) == 50
    assert delivery_history.list_streaks(conn) == [held.streak]


def test_a_grant_that_ended_leaves_behind_what_it_let_a_peer_have(
    conn: Connection,
) -> None:
    peer_id = make_peer(conn, "alpha.example")
    log = logs.insert_log(conn, origin=ORIGIN, role=Role.OWN, meta={}, created_at=START)
    assert past_grants.size_at_revocation(conn, log.log_id, peer_id) == 0
    assert confirmations.known_peers(conn, log.log_id, "ncii") == []
    past_grants.remember(conn, peer_id, "other", START)
    assert past_grants.size_at_revocation(conn, log.log_id, peer_id) == 0
    for size in (3, 8):
        conn.execute(tables.logs.update().values(tree_size=size))
        past_grants.remember(conn, peer_id, "ncii", START)
        assert past_grants.size_at_revocation(conn, log.log_id, peer_id) == size
    (known,) = confirmations.known_peers(conn, log.log_id, "ncii")
    assert known.name == "alpha.example"


def test_the_moment_of_an_entry_is_that_of_its_first_checkpoint(
    conn: Connection, held: Held
) -> None:
    log = held.log
    log.append(conn, present(indicator(1)), present(indicator(2)))
    assert confirmations.signed_at(conn, log.log.log_id, 0) is None
    for size, at in ((1, START), (3, START + 5)):
        conn.execute(
            tables.checkpoints.insert().values(
                log_id=log.log.log_id, tree_size=size, root_hash=b"", applied_at=at
            )
        )
    found = [confirmations.signed_at(conn, log.log.log_id, leaf) for leaf in range(4)]
    assert found == [START, START + 5, START + 5, None]
