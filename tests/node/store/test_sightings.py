"""Sightings: added up while they wait, taken away once, added up again by readers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashlight_node.store import sightings
from hashlight_protocol import Reason, Ref, Retract, Sighting, encode_record
from support.clock import START
from support.made_records import indicator
from support.stored_log import ORIGIN, StoredLog, present

if TYPE_CHECKING:
    from sqlalchemy import Connection

FEEDBACK = "alpha.example/hsf/v1/log/sightings/1"
ABOUT = Ref(ORIGIN, 1)


def seen(count: int, at: int = 0, outcome: str = "blocked") -> Sighting:
    return Sighting(ABOUT, outcome, count, START + at, START + at + 10, "pdq")


def test_what_is_alike_waits_as_one(conn: Connection) -> None:
    for one in (seen(2, at=100), seen(3, at=50), seen(1, outcome="removed")):
        sightings.add_pending(conn, one)
    waiting = sightings.list_pending(conn, 10)
    blocked = Sighting(ABOUT, "blocked", 5, START + 50, START + 110, "pdq")
    assert sorted(waiting, key=lambda it: it.outcome) == [
        blocked,
        seen(1, outcome="removed"),
    ]


def test_a_sighting_without_a_signal_is_another_one(conn: Connection) -> None:
    unnamed = Sighting(ABOUT, "blocked", 1, START, START)
    sightings.add_pending(conn, unnamed)
    sightings.add_pending(conn, seen(1))
    assert len(sightings.list_pending(conn, 10)) == 2
    assert unnamed in sightings.list_pending(conn, 10)
    sightings.take_pending(conn, [unnamed])
    assert sightings.list_pending(conn, 10) == [seen(1)]


def test_no_count_passes_what_a_record_can_state(conn: Connection) -> None:
    for _ in range(3):
        sightings.add_pending(conn, seen(sightings.MOST_COUNTED))
    (waiting,) = sightings.list_pending(conn, 10)
    assert waiting.count == sightings.MOST_COUNTED
    encode_record(waiting)


def test_what_comes_while_a_batch_is_published_goes_on_waiting(
    conn: Connection,
) -> None:
    sightings.add_pending(conn, seen(5))
    batch = sightings.list_pending(conn, 10)
    sightings.add_pending(conn, seen(2))
    sightings.take_pending(conn, batch)
    assert [it.count for it in sightings.list_pending(conn, 10)] == [2]
    sightings.take_pending(conn, sightings.list_pending(conn, 10))
    assert sightings.list_pending(conn, 10) == []


def test_reports_are_added_up_by_node_and_outcome_until_taken_back(
    conn: Connection,
) -> None:
    log, theirs = StoredLog(conn), StoredLog(conn, FEEDBACK)
    log.append(conn, present(indicator(1)), present(indicator(2)))
    for one in (seen(3), seen(4, at=100), seen(1, outcome="removed")):
        theirs.append(conn, present(encode_record(one)))
    (blocked, removed) = sightings.totals_about(conn, [ABOUT, Ref(ORIGIN, 2)])
    assert blocked == sightings.SightingTotal(
        ABOUT, "alpha.example", "blocked", 7, START, START + 110
    )
    assert (removed.outcome, removed.count) == ("removed", 1)
    theirs.append(conn, Retract(1, 1, Reason.FALSE_POSITIVE))
    assert sightings.totals_about(conn, [ABOUT])[0].count == 4


def test_another_log_s_record_of_the_same_index_is_another_record(
    conn: Connection,
) -> None:
    theirs = StoredLog(conn, FEEDBACK)
    theirs.append(conn, present(encode_record(seen(3))))
    assert sightings.totals_about(conn, [Ref(FEEDBACK, 1)]) == []
    assert sightings.totals_about(conn, []) == []
