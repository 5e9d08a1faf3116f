"""The feed of changes: complete, in order, without values, never behind the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from hashlight_node.model import FeedMark, SignalChange
from hashlight_node.store import changes, records, signals
from hashlight_protocol import Erase, Reason, Retract
from support.clock import START
from support.made_records import indicator, md5_of, pdq_of
from support.stored_log import WITHHELD, StoredLog, present

if TYPE_CHECKING:
    from sqlalchemy import Connection


def _follow(conn: Connection, seq: int, limit: int = 3) -> dict[int, tuple[str, str]]:
    """Keep a copy of what is live the way a reader of the feed does."""
    copy: dict[int, tuple[str, str]] = {}
    while some := changes.changes_after(conn, seq, limit):
        for number, change in some:
            assert number == seq + 1
            seq = number
            if change.live:
                copy[change.signal_id] = change.type, change.value
            else:
                copy.pop(change.signal_id, None)
    return copy


def test_a_reader_ends_at_what_is_live(conn: Connection) -> None:
    log = StoredLog(conn)
    assert changes.newest_seq(conn) == changes.oldest_seq(conn) == 0
    assert changes.changes_after(conn, 0, 10) == []
    log.append(conn, *(present(indicator(n)) for n in range(6)))
    log.append(conn, Retract(1, 2, Reason.WITHDRAWN))
    log.append(conn, Erase(2, 2, Reason.WITHDRAWN))
    log.append(conn, present(indicator(0)))
    live = {it: (kind, value) for it, kind, value in signals.live_signals(conn)}
    assert len(live) == 8
    assert _follow(conn, 0) == live
    # Twelve that came, four retracted, two of those erased and two more, two revived.
    assert changes.newest_seq(conn) == 12 + 4 + 2 + 2


def test_a_change_is_given_as_its_signal_is_now(conn: Connection) -> None:
    log = StoredLog(conn)
    became = log.append(conn, present(indicator(1)), present(indicator(2)))
    log.append(conn, Retract(1, 1, Reason.WITHDRAWN), Erase(2, 1, Reason.WITHDRAWN))
    found = changes.changes_after(conn, 0, 4)
    ids = {it.value: it.signal_id for it in became}
    assert {(it.signal_id, it.type, it.value, it.live) for _, it in found} == {
        # Retracted: still known, for audit.
        (ids[md5_of(1)], "md5", md5_of(1), False),
        (ids[pdq_of(1)], "pdq", pdq_of(1), False),
        # Erased: nobody knows it any more.
        (ids[md5_of(2)], "", "", False),
        (ids[pdq_of(2)], "", "", False),
    }


def test_what_comes_and_goes_in_one_transaction_is_one_change(conn: Connection) -> None:
    changes.record_changes(
        conn,
        [SignalChange(7, "md5", "a", live) for live in (True, False)],
        now=START,
    )
    changes.record_changes(conn, [], now=START)
    assert conn.execute(text("SELECT * FROM signal_changes")).all() == [
        (1, 7, 0, START)
    ]


def test_bodies_that_come_late_are_in_the_feed(conn: Connection) -> None:
    log = StoredLog(conn)
    log.append(conn, WITHHELD)
    assert changes.newest_seq(conn) == 0
    records.fill_bodies(conn, log.log, {1: present(indicator(1))}, now=START)
    assert changes.newest_seq(conn) == 2


def _fill(conn: Connection, count: int, *, now: int) -> None:
    for _ in range(count):
        changes.record_changes(conn, [SignalChange(1, "", "", live=True)], now=now)


def test_old_rows_go_and_the_newest_stays(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not changes.prune_changes(conn, START)
    monkeypatch.setattr(changes, "_PRUNED_TOGETHER", 4)
    _fill(conn, 10, now=START)
    _fill(conn, 3, now=START + 50)
    assert not changes.prune_changes(conn, START)
    assert changes.oldest_seq(conn) == 1
    assert changes.prune_changes(conn, START + 1)
    assert changes.oldest_seq(conn) == 5
    assert changes.prune_changes(conn, START + 1)
    assert not changes.prune_changes(conn, START + 1)
    assert changes.oldest_seq(conn) == 11
    assert not changes.prune_changes(conn, START + 99)
    assert (changes.oldest_seq(conn), changes.newest_seq(conn)) == (13, 13)
    assert not changes.prune_changes(conn, START + 99)
    _fill(conn, 1, now=START)
    assert changes.newest_seq(conn) == 14


def test_a_reader_can_resume_where_nothing_is_missing(conn: Connection) -> None:
    assert changes.can_resume(conn, 0)
    assert not changes.can_resume(conn, 1)
    _fill(conn, 5, now=START)
    _fill(conn, 5, now=START + 9)
    changes.prune_changes(conn, START + 9)
    assert [seq for seq in range(13) if changes.can_resume(conn, seq)] == [
        *range(5, 11)
    ]


def test_a_reader_resumes_only_in_the_history_that_it_knows(conn: Connection) -> None:
    assert changes.can_resume_at(conn, FeedMark())
    _fill(conn, 2, now=START)
    _fill(conn, 2, now=START + 9)
    assert changes.can_resume_at(conn, FeedMark())
    assert changes.can_resume_at(conn, FeedMark(2, 1, START))
    others = (
        FeedMark(2, 1, START + 1),
        FeedMark(2, 2, START),
        FeedMark(2),
        FeedMark(5, 1, START + 9),
    )
    assert not any(changes.can_resume_at(conn, other) for other in others)
    changes.prune_changes(conn, START + 9)
    assert not changes.can_resume_at(conn, FeedMark())
    assert changes.can_resume_at(conn, FeedMark(3, 1, START + 9))
    marks = [mark for mark, _ in changes.marked_changes_after(conn, 2, 9)]
    assert marks == [FeedMark(3, 1, START + 9), FeedMark(4, 1, START + 9)]
    assert [FeedMark.parse(it.event_id) for it in marks] == marks


def test_a_history_is_known_by_its_rows(conn: Connection) -> None:
    assert changes.newest_mark(conn) == FeedMark(0, 0, 0)
    assert changes.find_mark(conn, 0) == FeedMark()
    changes.record_changes(conn, [SignalChange(8, "", "", live=True)], now=START)
    assert changes.newest_mark(conn) == FeedMark(1, 8, START)
    assert changes.find_mark(conn, 2) is None
