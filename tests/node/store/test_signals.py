"""Signals: counted exactly, found exactly, and shown with their evidence."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update

from hashlight_node import model
from hashlight_node.model import (
    MAX_RECORDS_SHOWN,
    LogState,
    RecordEvidence,
    SignalChange,
)
from hashlight_node.store import logs, signals, tables
from hashlight_protocol import (
    Indicator,
    Label,
    Reason,
    Ref,
    Retract,
    Review,
    Signal,
    SignalClaim,
    encode_record,
)
from support.clock import START
from support.made_records import indicator, md5_of, pdq_of
from support.stored_log import ORIGIN, StoredLog, present

if TYPE_CHECKING:
    from sqlalchemy import Connection

THEIRS = ORIGIN.replace("shield", "alpha")


def _count(conn: Connection, signal: Signal) -> int:
    table, values = tables.signals, tables.signal_values
    query = (
        select(table.c.live_count)
        .join(values, values.c.signal_id == table.c.signal_id)
        .where(table.c.type == signal.type, values.c.value == signal.value)
    )
    count: int = conn.execute(query).scalar_one()
    return count


def test_a_signal_is_live_while_one_record_asserts_it(conn: Connection) -> None:
    mine, theirs = StoredLog(conn), StoredLog(conn, THEIRS)
    signal = Signal("md5", md5_of(1))
    became = mine.append(conn, present(indicator(1)))
    assert [(it.type, it.value, it.live) for it in became] == [
        ("md5", md5_of(1), True),
        ("pdq", pdq_of(1), True),
    ]
    assert mine.append(conn, present(indicator(1, kind="video"))) == []
    assert theirs.append(conn, present(indicator(1))) == []
    assert _count(conn, signal) == 3
    assert mine.append(conn, Retract(1, 2, Reason.WITHDRAWN)) == []
    assert _count(conn, signal) == 1
    gone = theirs.append(conn, Retract(1, 1, Reason.WITHDRAWN))
    assert {it.signal_id for it in gone} == {it.signal_id for it in became}
    assert not any(it.live for it in gone)
    assert signals.find_live(conn, [signal]) == {}
    again = mine.append(conn, present(indicator(1)))
    assert [
        SignalChange(it.signal_id, it.type, it.value, live=True) for it in again
    ] == (became)


def test_live_signals_are_read_by_type_or_all(conn: Connection) -> None:
    log = StoredLog(conn)
    log.append(conn, *(present(indicator(n)) for n in range(5)))
    log.append(conn, Retract(1, 1, Reason.WITHDRAWN))
    everything = list(signals.live_signals(conn))
    assert len(everything) == 8
    pdq = list(signals.live_signals(conn, "pdq"))
    assert {value for _, _, value in pdq} == {pdq_of(n) for n in range(1, 5)}
    assert set(pdq) < set(everything)
    assert signals.count_live(conn) == {"md5": 4, "pdq": 4}
    assert list(signals.live_signals(conn, "sha1")) == []


def test_a_signal_is_found_by_type_and_value_together(conn: Connection) -> None:
    log = StoredLog(conn)
    log.append(conn, *(present(indicator(n)) for n in range(1200)))
    wanted = [Signal("md5", md5_of(n)) for n in range(1300)]
    assert set(signals.find_live(conn, wanted)) == set(wanted[:1200])
    assert signals.find_live(conn, [Signal("pdq", md5_of(1))]) == {}
    assert signals.find_live(conn, []) == {}


def test_values_whose_digests_collide_are_told_apart(conn: Connection) -> None:
    log = StoredLog(conn)
    log.append(conn, present(indicator(1)))
    table = tables.signals
    md5 = select(table.c.digest).where(table.c.type == "md5")
    conn.execute(update(table).values(digest=conn.execute(md5).scalar_one()))
    found = signals.find_live(conn, [Signal("md5", md5_of(1))])
    assert set(found) == {Signal("md5", md5_of(1))}


def test_evidence_names_record_source_and_log(conn: Connection) -> None:
    log = StoredLog(conn)
    record = Indicator(
        (SignalClaim(Signal("pdq", pdq_of(1)), quality=77),),
        "image",
        "ngo",
        START,
        labels=(Label("ncmec", "A1", "GB", "alpha.example"), Label("ncii", "adult")),
        review=Review("human", 2),
        expires_at=START + 100,
    )
    (change,) = log.append(conn, present(encode_record(record)))
    logs.set_checkpoint(
        conn, log.log, b"note", 2, mirror_checkpoint=None, verified_at=START
    )
    found = signals.evidence_of(conn, [change.signal_id, 999], now=START + 99).by_signal
    (evidence,) = found.pop(change.signal_id)
    assert evidence == RecordEvidence(
        record_id=evidence.record_id,
        ref=Ref(ORIGIN, 1),
        list_name="ncii",
        origin_node="shield.example",
        tree_size=2,
        labels=(
            {
                "scheme": "ncmec",
                "value": "A1",
                "jurisdiction": "GB",
                "assigned_by": "alpha.example",
            },
            {"scheme": "ncii", "value": "adult"},
        ),
        source="ngo",
        review="human",
        created_at=START,
        quality=77,
    )
    assert found == {}


def test_an_expired_record_is_no_evidence_from_the_second_it_expires(
    conn: Connection,
) -> None:
    log = StoredLog(conn)
    claim = SignalClaim(Signal("md5", md5_of(1)))
    record = Indicator((claim,), "image", "ngo", START, expires_at=START + 100)
    (change,) = log.append(conn, present(encode_record(record)))
    assert signals.evidence_of(conn, [change.signal_id], now=START + 99).by_signal
    assert not signals.evidence_of(conn, [change.signal_id], now=START + 100).by_signal


def test_evidence_is_of_live_records_only_and_of_all_logs(conn: Connection) -> None:
    mine, theirs = StoredLog(conn), StoredLog(conn, THEIRS)
    ids = [it.signal_id for it in mine.append(conn, present(indicator(1)))]
    theirs.append(conn, present(indicator(1)), present(indicator(1, kind="video")))
    theirs.append(conn, Retract(1, 1, Reason.WITHDRAWN))
    found = signals.evidence_of(conn, ids, now=START).by_signal
    assert [[it.ref for it in found[signal_id]] for signal_id in ids] == [
        [Ref(ORIGIN, 1), Ref(THEIRS, 2)]
    ] * 2


def test_a_flood_of_records_does_not_flood_the_evidence(conn: Connection) -> None:
    log = StoredLog(conn)
    limit = MAX_RECORDS_SHOWN
    claim = SignalClaim(Signal("md5", md5_of(1)))
    expired = Indicator((claim,), "image", "ngo", START, expires_at=START + 1)
    (flood,) = log.append(conn, present(encode_record(expired)))
    lasting = [
        Indicator((claim,), f"kind{number}", "ngo", START)
        for number in range(limit + 9)
    ]
    log.append(conn, *(present(encode_record(it)) for it in lasting))
    calm, _ = log.append(conn, present(indicator(2)))
    ids = [calm.signal_id, flood.signal_id, calm.signal_id]
    found = signals.evidence_of(conn, ids, now=START + 1).by_signal
    assert len(found[calm.signal_id]) == 1
    leaves = [it.ref.leaf_index for it in found[flood.signal_id]]
    assert leaves == list(range(2, limit + 2))


def _lasting(number: int) -> bytes:
    claim = SignalClaim(Signal("md5", md5_of(1)))
    return encode_record(Indicator((claim,), f"kind{number}", "ngo", START))


def test_one_list_s_flood_never_hides_another_s_records(conn: Connection) -> None:
    flooding, honest, third = (
        StoredLog(conn, ORIGIN.replace("shield", name))
        for name in ("alpha", "hope", "third")
    )
    limit = MAX_RECORDS_SHOWN
    flood = [present(_lasting(number)) for number in range(3 * limit)]
    (change,) = flooding.append(conn, *flood)
    honest.append(conn, *(present(_lasting(number)) for number in range(2)))
    third.append(conn, *(present(_lasting(number)) for number in range(40)))
    (found,) = signals.evidence_of(
        conn, [change.signal_id], now=START
    ).by_signal.values()
    assert len(found) == limit
    by_node = Counter(it.origin_node for it in found)
    assert by_node == {"alpha.example": 58, "hope.example": 2, "third.example": 40}
    assert [it.record_id for it in found] == sorted(it.record_id for it in found)
    of_flood = [it.ref.leaf_index for it in found if it.origin_node == "alpha.example"]
    assert of_flood == list(range(1, 59))


def test_two_floods_share_what_is_shown(conn: Connection) -> None:
    logs_ = [StoredLog(conn, ORIGIN.replace("shield", name)) for name in ("a", "b")]
    changes = [
        change
        for log in logs_
        for change in log.append(conn, *map(present, map(_lasting, range(120))))
    ]
    (found,) = signals.evidence_of(
        conn, [changes[0].signal_id], now=START
    ).by_signal.values()
    assert Counter(it.origin_node for it in found) == {"a.example": 50, "b.example": 50}


def test_every_one_of_very_many_lists_is_in_the_evidence(conn: Connection) -> None:
    many = [
        StoredLog(conn, ORIGIN.replace("shield", f"n{number}"))
        for number in range(MAX_RECORDS_SHOWN + 3)
    ]
    (change,) = many[0].append(conn, *map(present, map(_lasting, range(5))))
    for log in many[1:]:
        log.append(conn, present(_lasting(0)), present(_lasting(1)))
    (found,) = signals.evidence_of(
        conn, [change.signal_id], now=START
    ).by_signal.values()
    assert [it.ref for it in found] == [log.ref(1) for log in many]


def test_lists_that_are_followed_no_more_take_nobody_s_place(conn: Connection) -> None:
    gone, kept = StoredLog(conn, ORIGIN.replace("shield", "gone")), StoredLog(conn)
    (change,) = gone.append(conn, *map(present, map(_lasting, range(150))))
    kept.append(conn, *map(present, map(_lasting, range(120))))
    logs.set_log_state(conn, gone.log.log_id, LogState.FROZEN, None)
    (found,) = signals.evidence_of(
        conn, [change.signal_id], now=START
    ).by_signal.values()
    assert {it.origin_node for it in found} == {"shield.example"}
    assert len(found) == MAX_RECORDS_SHOWN


def test_ids_are_read_back_as_the_signals_they_stand_for(conn: Connection) -> None:
    log = StoredLog(conn)
    md5, pdq = log.append(conn, present(indicator(1)))
    assert signals.signals_of(conn, [md5.signal_id, pdq.signal_id, 999]) == {
        md5.signal_id: Signal("md5", md5_of(1)),
        pdq.signal_id: Signal("pdq", pdq_of(1)),
    }


def test_what_was_left_out_is_said_and_nothing_else(conn: Connection) -> None:
    limit = MAX_RECORDS_SHOWN
    log = StoredLog(conn)
    (full,) = log.append(conn, *map(present, map(_lasting, range(limit))))
    found = signals.evidence_of(conn, [full.signal_id], now=START)
    assert (len(found.by_signal[full.signal_id]), found.cut) == (limit, frozenset())
    log.append(conn, present(_lasting(limit)))
    found = signals.evidence_of(conn, [full.signal_id], now=START)
    assert len(found.by_signal[full.signal_id]) == limit
    assert found.cut == {full.signal_id}
    # One is no evidence any more, so all that is left is there.
    log.append(conn, Retract(1, 1, Reason.WITHDRAWN))
    other = StoredLog(conn, THEIRS)
    other.append(conn, present(_lasting(0)))
    logs.set_log_state(conn, other.log.log_id, LogState.FROZEN, None)
    found = signals.evidence_of(conn, [full.signal_id], now=START)
    assert (len(found.by_signal[full.signal_id]), found.cut) == (limit, frozenset())


def test_the_signals_of_a_call_share_what_is_read(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "MAX_RECORDS_A_CALL", 12)
    hostile, honest = StoredLog(conn), StoredLog(conn, THEIRS)
    kinds = [f"kind{number}" for number in range(9)]
    ids = [
        change.signal_id
        for n in range(2)
        for change in hostile.append(
            conn, *(present(indicator(n, kind=kind)) for kind in kinds)
        )
    ]
    honest.append(conn, present(indicator(0)))
    calm = [it.signal_id for it in honest.append(conn, present(indicator(7)))]
    found = signals.evidence_of(conn, [*ids, *calm], now=START)
    assert set(found.by_signal) == {*ids, *calm}
    assert found.cut == set(ids)
    nodes = [[it.origin_node for it in found.by_signal[one]] for one in ids]
    shared = ["shield.example", "alpha.example"]
    assert nodes == [shared, shared, ["shield.example"] * 2, ["shield.example"] * 2]
    assert [len(found.by_signal[one]) for one in calm] == [1, 1]
    # Whatever there is room for, every list has its say.
    monkeypatch.setattr(model, "MAX_RECORDS_A_CALL", 1)
    found = signals.evidence_of(conn, [*ids, *calm], now=START)
    assert [len(found.by_signal[one]) for one in (*ids, *calm)] == [2, 2, 1, 1, 1, 1]
