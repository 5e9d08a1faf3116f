"""What was live then: by list, by crowd, and as far as anybody can still know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hashlight_node import model
from hashlight_node.model import MAX_RECORDS_SHOWN, LogState
from hashlight_node.store import history, logs, past, staleness
from hashlight_protocol import Erase, Reason, Retract, Signal
from support.clock import START
from support.made_records import indicator, md5_of, opinion, pdq_of
from support.stored_log import ORIGIN, StoredLog, present

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from hashlight_node.store.signals import SignalEvidence
    from support.stored_log import Item

THEIRS = ORIGIN.replace("shield", "alpha")
MD5 = Signal("md5", md5_of(1))


def _sign(conn: Connection, log: StoredLog, *items: Item, now: int) -> None:
    log.append(conn, *items, now=now)
    log.log = logs.set_checkpoint(
        conn, log.log, b"note", log.size, mirror_checkpoint=None, verified_at=now
    )


def _refs(conn: Connection, at: int) -> list[tuple[str, int, int]]:
    found = past.find_signals(conn, [MD5])
    return [
        (it.ref.origin, it.ref.leaf_index, it.tree_size)
        for records in _evidence(conn, list(found.values()), at).by_signal.values()
        for it in records
    ]


def _evidence(conn: Connection, signal_ids: Sequence[int], at: int) -> SignalEvidence:
    sizes = {it.log_id: it.tree_size for it in history.states_at(conn, at)}
    found = past.PastEvidence(signal_ids, at=at, sizes=sizes)
    while found.read_page(conn):
        pass
    return found.evidence()


def _dead(conn: Connection, type_name: str) -> list[list[str]]:
    after: int | None = 0
    pages = []
    while after is not None:
        page, after = past.page_dead(conn, type_name, after)
        pages.append([it.value for it in page])
    return pages


def test_signals_are_found_exactly_whether_live_or_dead(conn: Connection) -> None:
    log = StoredLog(conn)
    log.append(conn, *(present(indicator(n)) for n in range(1, 5)))
    log.append(conn, Retract(1, 2, Reason.WITHDRAWN), Erase(2, 1, Reason.WITHDRAWN))
    wanted = [
        *(Signal("md5", md5_of(n)) for n in range(1, 5)),
        Signal("sha1", md5_of(1)),
    ]
    found = past.find_signals(conn, wanted)
    assert {it.value for it in found} == {md5_of(n) for n in (1, 3, 4)}
    assert _dead(conn, "pdq") == [[pdq_of(1)], []]


def test_dead_signals_are_read_page_by_page(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past, "_SIGNALS_PAGED", 3)
    log = StoredLog(conn)
    log.append(conn, *(present(indicator(n)) for n in range(1, 7)))
    log.append(conn, Retract(2, 3, Reason.WITHDRAWN), Erase(4, 1, Reason.WITHDRAWN))
    pages = _dead(conn, "pdq")
    assert sorted(it for page in pages for it in page) == sorted(map(pdq_of, (2, 3)))
    assert max(map(len, pages)) <= 3
    assert len(pages) > 3


@pytest.mark.parametrize("paged", [1, 3, 7])
def test_evidence_is_the_same_in_pages_of_any_size(
    conn: Connection, monkeypatch: pytest.MonkeyPatch, paged: int
) -> None:
    logs_of = [StoredLog(conn), StoredLog(conn, THEIRS)]
    for log in logs_of:
        crowd = [present(indicator(n % 3)) for n in range(12)]
        _sign(conn, log, *crowd, now=START)
        log.append(conn, Retract(2, 4, Reason.WITHDRAWN), now=START + 3)
    ids = list(
        past.find_signals(conn, [Signal("md5", md5_of(n)) for n in range(3)]).values()
    )
    whole = _evidence(conn, [*ids, ids[0], 10**6], START + 3)
    assert sum(map(len, whole.by_signal.values())) == 16
    monkeypatch.setattr(past, "_PAIRS_PAGED", paged)
    assert _evidence(conn, ids, START + 3) == whole
    assert len(_evidence(conn, ids, START).by_signal[ids[0]]) == 8


def test_the_records_of_many_signals_are_kept_only_as_far_as_they_are_shown(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "MAX_RECORDS_A_CALL", 12)
    monkeypatch.setattr(past, "MAX_RECORDS_A_CALL", 12)
    log, other = StoredLog(conn), StoredLog(conn, THEIRS)
    _sign(conn, log, *[present(indicator(n % 6)) for n in range(60)], now=START)
    _sign(conn, other, *[present(indicator(n)) for n in range(6)], now=START)
    wanted = [Signal("md5", md5_of(n)) for n in range(6)]
    ids = sorted(past.find_signals(conn, wanted).values())
    found = _evidence(conn, ids, START)
    # Each list's oldest, whatever else there is no room for.
    shown = [[it.ref.origin for it in found.by_signal[one]] for one in ids]
    assert shown == [[ORIGIN, THEIRS]] * 6
    assert found.cut == set(ids)


def test_a_list_that_was_given_up_counts_until_it_was_last_known(
    conn: Connection,
) -> None:
    log, other = StoredLog(conn), StoredLog(conn, THEIRS)
    _sign(conn, log, present(indicator(1)), now=START)
    _sign(conn, other, present(indicator(1)), now=START + 1)
    logs.set_checkpoint(
        conn, log.log, b"note", 2, mirror_checkpoint=None, verified_at=START + 5
    )
    logs.set_log_state(conn, log.log.log_id, LogState.FROZEN, None)
    assert _refs(conn, START) == [(ORIGIN, 1, 2)]
    assert _refs(conn, START + 5) == [(ORIGIN, 1, 2), (THEIRS, 1, 2)]
    assert _refs(conn, START + 6) == [(THEIRS, 1, 2)]


def test_a_stale_copy_counts_until_it_was_taken_out_of_use(conn: Connection) -> None:
    log = StoredLog(conn)
    _sign(conn, log, present(indicator(1)), now=START)
    staleness.mark_stale(conn, log.log, START + 9)
    assert _refs(conn, START + 8) == [(ORIGIN, 1, 2)]
    assert _refs(conn, START + 9) == []
    logs.set_log_state(conn, log.log.log_id, LogState.QUARANTINED, "it lied")
    assert _refs(conn, START + 9) == []


def test_one_list_does_not_hide_another(conn: Connection) -> None:
    flood, other = StoredLog(conn), StoredLog(conn, THEIRS)
    many = MAX_RECORDS_SHOWN + 20
    _sign(conn, flood, *[present(indicator(1)) for _ in range(many)], now=START)
    _sign(conn, other, present(indicator(1)), present(indicator(1)), now=START)
    refs = _refs(conn, START)
    assert len(refs) == MAX_RECORDS_SHOWN
    assert [it[:2] for it in refs[-2:]] == [(THEIRS, 1), (THEIRS, 2)]
    assert [it[1] for it in refs[:-2]] == list(range(1, MAX_RECORDS_SHOWN - 1))


def test_every_list_has_its_say_however_many_there_are(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past, "MAX_RECORDS_SHOWN", 2)
    for number in range(4):
        log = StoredLog(conn, ORIGIN.replace("ncii", f"list{number}"))
        _sign(conn, log, present(indicator(1)), present(indicator(1)), now=START)
    assert [leaf_index for _, leaf_index, _ in _refs(conn, START)] == [1] * 4


def test_opinions_are_those_that_counted(conn: Connection) -> None:
    log = StoredLog(conn)
    feedback = StoredLog(conn, ORIGIN.replace("ncii", "feedback"))
    log.append(conn, present(indicator(1)), present(indicator(2)))
    for number, stance in enumerate(("dispute", "affirm")):
        said = present(opinion(log.ref(1), stance))
        feedback.append(conn, said, now=START + number)
    feedback.append(conn, present(opinion(log.ref(9))), now=START)
    feedback.append(conn, Retract(1, 1, Reason.WITHDRAWN), now=START + 2)
    refs = [log.ref(1), log.ref(2)]
    stances = [
        [it.stance for it in past.opinions_at(conn, refs, at=START + second)]
        for second in range(-1, 4)
    ]
    assert stances == [[], ["dispute"], ["dispute", "affirm"], ["affirm"], ["affirm"]]
    assert past.opinions_at(conn, [], at=START) == []


@pytest.mark.sqlite
def test_whether_a_record_was_replaced_is_told_without_reading_its_log(
    conn: Connection,
) -> None:
    query = past._rows_at(START)  # noqa: SLF001
    text = query.compile(conn, compile_kwargs={"literal_binds": True})
    plan = [row[3] for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
    (later,) = (it for it in plan if " later " in it)
    assert "(log_id=? AND family=?)" in later


def test_what_a_log_had_replaced_before_it_was_retracted_was_dead(
    conn: Connection,
) -> None:
    log = StoredLog(conn)
    log.append(conn, present(indicator(1)), now=START)
    log.append(conn, present(indicator(1, replaces=1)), now=START + 5)
    log.append(conn, Retract(1, 2, Reason.WITHDRAWN), now=START + 9)
    seen = {at: [it[1] for it in _refs(conn, START + at)] for at in (0, 4, 5, 8, 9)}
    assert seen == {0: [1], 4: [1], 5: [2], 8: [2], 9: []}
