"""Records: states, replacement, late bodies, and reading them back."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from hashlight_node.matching.opinions import fold
from hashlight_node.model import RecordState, StoredOpinion, StoredRecord
from hashlight_node.store import records, signals
from hashlight_protocol import (
    Body,
    BodyStatus,
    Erase,
    Indicator,
    Opinion,
    Reason,
    Ref,
    Retract,
    Signal,
    SignalClaim,
    UnknownEntry,
    UnsupportedEntryError,
    encode_record,
)
from support.clock import START
from support.made_records import indicator, md5_of
from support.stored_log import ERASED, ORIGIN, WITHHELD, StoredLog, present

if TYPE_CHECKING:
    from sqlalchemy import Connection

FEEDBACK = "alpha.example/hsf/v1/log/feedback/1"
RETRACT_1 = Retract(1, 1, Reason.FALSE_POSITIVE)
ERASE_1 = Erase(1, 1, Reason.WITHDRAWN)


def _replacing(target: int, number: int) -> Body:
    claim = SignalClaim(Signal("md5", md5_of(number)))
    record = Indicator((claim,), "image", "hotline", START, replaces=target)
    return present(encode_record(record))


def _live(conn: Connection) -> set[str]:
    return {value for _, _, value in signals.live_signals(conn, "md5")}


def _states(conn: Connection, log: StoredLog, *leaves: int) -> list[RecordState]:
    return [log.read(conn, leaf).state for leaf in leaves]


def test_a_record_reads_back_with_its_name_and_bytes(conn: Connection) -> None:
    log = StoredLog(conn)
    body = present(indicator(1))
    log.append(conn, body, now=START + 7)
    record = log.read(conn, 1)
    assert record == StoredRecord(
        record_id=record.record_id,
        ref=Ref(ORIGIN, 1),
        node="shield.example",
        list_name="ncii",
        status=BodyStatus.PRESENT,
        state=RecordState.LIVE,
        reason=None,
        withdrawn_by=None,
        withdrawn_at=None,
        applied_at=START + 7,
        expires_at=None,
        salt=body.salt,
        body=body.body,
    )
    assert records.read_record(conn, Ref(ORIGIN, 0)) is None
    assert records.read_record(conn, Ref(FEEDBACK, 1)) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 100,
        b"[" * 16_000,
        b'{"type":"indicator"}',
        b'{"type":"indicator","crit":["future"],"future":1}',
    ],
)
def test_a_body_that_is_no_record_is_kept_and_matches_nothing(
    conn: Connection, content: bytes
) -> None:
    log = StoredLog(conn)
    assert log.append(conn, Body(BodyStatus.PRESENT, bytes(16), content)) == []
    record = log.read(conn, 1)
    assert (record.state, record.body) == (RecordState.INVALID, content)


def test_a_record_of_an_unknown_type_is_kept(conn: Connection) -> None:
    log = StoredLog(conn)
    assert log.append(conn, present(b'{"type":"poem","text":"x"}')) == []
    assert _states(conn, log, 1) == [RecordState.LIVE]


def test_one_bad_body_spoils_no_other(conn: Connection) -> None:
    log = StoredLog(conn)
    log.append(conn, present(indicator(1)), present(b"bad"), present(indicator(3)))
    assert _live(conn) == {md5_of(1), md5_of(3)}


@pytest.mark.parametrize(
    ("withdrawals", "state", "by"),
    [
        ([RETRACT_1], RecordState.RETRACTED, 2),
        ([ERASE_1], RecordState.ERASED, 2),
        ([RETRACT_1, ERASE_1], RecordState.ERASED, 3),
        ([ERASE_1, RETRACT_1], RecordState.ERASED, 2),
        ([RETRACT_1, RETRACT_1], RecordState.RETRACTED, 2),
        ([ERASE_1, ERASE_1], RecordState.ERASED, 2),
    ],
)
def test_withdrawals_lead_down_only_and_the_first_of_the_strongest_is_named(
    conn: Connection, withdrawals: list[Retract | Erase], state: RecordState, by: int
) -> None:
    together, apart = StoredLog(conn), StoredLog(conn, FEEDBACK)
    together.append(conn, present(indicator(1)), *withdrawals)
    apart.append(conn, present(indicator(1)))
    for withdrawal in withdrawals:
        apart.append(conn, withdrawal)
    for log in (together, apart):
        record = log.read(conn, 1)
        assert (record.state, record.withdrawn_by) == (state, by)
    assert _live(conn) == set()


@pytest.mark.parametrize("withdrawal", [Retract, Erase])
def test_a_range_reaches_every_record_it_covers_and_no_other(
    conn: Connection, withdrawal: type[Retract | Erase]
) -> None:
    log = StoredLog(conn)
    bodies = [present(indicator(number)) for number in range(1, 6001)]
    log.append(conn, *bodies[:5000])
    changes = log.append(conn, *bodies[5000:], withdrawal(11, 5980, Reason.EXPIRED))
    assert _live(conn) == {md5_of(n) for n in (*range(1, 11), *range(5991, 6001))}
    # Those of the same batch were never live, so nobody hears of them.
    assert sum(change.live for change in changes) == 20
    assert sum(not change.live for change in changes) == 2 * (5000 - 10)
    assert log.append(conn, withdrawal(1, 6000, Reason.EXPIRED), WITHHELD) != []
    assert log.append(conn, withdrawal(1, 6000, Reason.EXPIRED)) == []
    assert _live(conn) == set()


def test_a_reason_of_a_later_version_is_read_as_unspecified(conn: Connection) -> None:
    log = StoredLog(conn)
    log.append(conn, present(indicator(1)), Retract(1, 1, 200))
    assert log.read(conn, 1).reason is Reason.UNSPECIFIED
    assert records.withdrawals_of(conn, log.log.log_id, 1) == [(2, Retract(1, 1, 200))]


def test_an_entry_that_must_be_understood_stops_its_batch(conn: Connection) -> None:
    log = StoredLog(conn)
    with pytest.raises(UnsupportedEntryError) as caught:
        log.append(conn, present(indicator(1)), UnknownEntry(0x80, b"\x80"))
    assert caught.value.leaf_index == 2
    assert _live(conn) == set()


def test_an_unknown_entry_that_is_not_critical_changes_nothing(
    conn: Connection,
) -> None:
    log = StoredLog(conn)
    log.append(conn, UnknownEntry(0x04, b"\x04later"), present(indicator(2)))
    assert _live(conn) == {md5_of(2)}


def test_a_replaced_record_does_not_match_and_the_latest_wins(conn: Connection) -> None:
    log = StoredLog(conn)
    log.append(conn, present(indicator(1)), _replacing(1, 2))
    assert _live(conn) == {md5_of(2)}
    log.append(conn, _replacing(1, 3), _replacing(2, 4))
    assert _live(conn) == {md5_of(4)}
    assert _states(conn, log, 1, 2, 3, 4) == [RecordState.SUPERSEDED] * 3 + [
        RecordState.LIVE
    ]
    first = log.read(conn, 1)
    assert (first.withdrawn_by, first.reason) == (2, Reason.SUPERSEDED)


@pytest.mark.parametrize("withdrawal", [Retract, Erase])
def test_withdrawing_a_replacement_does_not_bring_back_what_it_replaced(
    conn: Connection, withdrawal: type[Retract | Erase]
) -> None:
    log = StoredLog(conn)
    log.append(conn, present(indicator(1)), _replacing(1, 2))
    log.append(conn, withdrawal(2, 1, Reason.WITHDRAWN))
    assert _live(conn) == set()
    log.append(conn, _replacing(1, 4))
    assert _live(conn) == {md5_of(4)}


@pytest.mark.parametrize("target", [2, 3, 0, 10**9])
def test_only_an_earlier_record_of_the_same_log_can_be_replaced(
    conn: Connection, target: int
) -> None:
    other, log = StoredLog(conn, FEEDBACK), StoredLog(conn)
    other.append(conn, *(present(indicator(n)) for n in range(11, 15)))
    before = _live(conn)
    if target == 0:
        # JSON says 1 or more; the META entry is as good as any that is no record.
        log.append(conn, UnknownEntry(0x04, b"\x04"), _replacing(1, 2))
    else:
        log.append(conn, present(indicator(1)), _replacing(target, 2))
    assert _live(conn) > before
    assert md5_of(2) in _live(conn)
    assert target == 0 or md5_of(1) in _live(conn)


def test_a_withheld_record_matches_once_its_body_comes(conn: Connection) -> None:
    log = StoredLog(conn)
    assert log.append(conn, WITHHELD) == []
    assert _states(conn, log, 1) == [RecordState.WITHHELD]
    bodies = {0: present(b"x"), 1: present(indicator(1)), 9: present(indicator(9))}
    changes = records.fill_bodies(conn, log.log, bodies, now=START)
    assert {(it.value, it.live) for it in changes} >= {(md5_of(1), True)}
    assert log.read(conn, 1).body == bodies[1].body
    assert records.fill_bodies(conn, log.log, bodies, now=START) == []


def test_bodies_that_are_still_missing_fill_nothing(conn: Connection) -> None:
    log = StoredLog(conn)
    log.append(conn, WITHHELD, WITHHELD)
    bodies = {1: WITHHELD, 2: ERASED}
    assert records.fill_bodies(conn, log.log, bodies, now=START) == []
    assert _states(conn, log, 1, 2) == [RecordState.WITHHELD] * 2


def test_a_retracted_record_takes_its_body_for_audit_only(conn: Connection) -> None:
    log = StoredLog(conn)
    log.append(conn, WITHHELD, RETRACT_1)
    body = present(indicator(1))
    assert records.fill_bodies(conn, log.log, {1: body}, now=START) == []
    record = log.read(conn, 1)
    assert (record.state, record.body) == (RecordState.RETRACTED, body.body)


def test_a_body_that_comes_late_is_still_replaced_by_later_records(
    conn: Connection,
) -> None:
    log = StoredLog(conn)
    log.append(conn, present(indicator(1)), WITHHELD, _replacing(2, 3))
    assert _live(conn) == {md5_of(1), md5_of(3)}
    records.fill_bodies(conn, log.log, {2: _replacing(1, 2)}, now=START)
    assert _live(conn) == {md5_of(3)}


def test_an_erased_body_is_believed_and_its_erase_is_named_when_it_comes(
    conn: Connection,
) -> None:
    log = StoredLog(conn)
    log.append(conn, ERASED, RETRACT_1)
    record = log.read(conn, 1)
    assert (record.state, record.withdrawn_by) == (RecordState.ERASED, None)
    log.append(conn, ERASE_1)
    assert log.read(conn, 1).withdrawn_by == 3


def test_a_body_bundle_says_for_each_entry_what_there_is(conn: Connection) -> None:
    log = StoredLog(conn)
    first, second = present(indicator(1)), present(b"bad")
    log.append(conn, first, WITHHELD, second, RETRACT_1)
    none = Body(BodyStatus.NONE)
    served = [none, first, WITHHELD, second, none]
    assert records.read_bodies(conn, log.log.log_id, 0, 5) == served
    assert records.read_bodies(conn, log.log.log_id, 0, 2) == served[:2]


def test_bodies_of_a_later_bundle_start_at_its_first_leaf(conn: Connection) -> None:
    log = StoredLog(conn)
    bodies = [present(indicator(number)) for number in range(1, 300)]
    log.append(conn, *bodies)
    assert records.read_bodies(conn, log.log.log_id, 1, 44) == bodies[255:]


def test_opinions_are_found_by_what_they_are_about(conn: Connection) -> None:
    log, theirs = StoredLog(conn), StoredLog(conn, FEEDBACK)
    log.append(conn, *(present(indicator(n)) for n in (1, 2, 3)))
    opinions = [
        Opinion(Ref(ORIGIN, 1), "dispute", signal_type="pdq", reason="parody"),
        Opinion(Ref(ORIGIN, 2), "affirm"),
        Opinion(Ref(ORIGIN, 1), "affirm"),
    ]
    theirs.append(conn, *(present(encode_record(it)) for it in opinions))
    about_1 = records.opinions_about(conn, [Ref(ORIGIN, 1)])
    assert about_1[0] == StoredOpinion(
        node="alpha.example",
        ref=Ref(FEEDBACK, 1),
        about=Ref(ORIGIN, 1),
        signal_type="pdq",
        stance="dispute",
        reason="parody",
    )
    assert [it.stance for it in about_1] == ["dispute", "affirm"]
    refs = [Ref(ORIGIN, n) for n in range(3000)] + [Ref(FEEDBACK, 1)]
    assert len(records.opinions_about(conn, refs)) == 3
    theirs.append(conn, RETRACT_1)
    about_1 = records.opinions_about(conn, [Ref(ORIGIN, 1)])
    assert [it.ref.leaf_index for it in about_1] == [3]


def test_of_one_log_s_opinions_only_those_that_count_are_read(
    conn: Connection,
) -> None:
    log, theirs = StoredLog(conn), StoredLog(conn, FEEDBACK)
    ours = StoredLog(conn, FEEDBACK.replace("alpha", "beta"))
    log.append(conn, *(present(indicator(n)) for n in (1, 2)))
    about = Ref(ORIGIN, 1)
    spam = [Opinion(about, "dispute", reason=f"r{number}") for number in range(300)]
    said = [
        *spam,
        Opinion(about, "affirm"),
        Opinion(about, "dispute", signal_type="pdq"),
        Opinion(about, "unsure", signal_type="sha1"),
        Opinion(Ref(ORIGIN, 2), "affirm"),
        Opinion(Ref(ORIGIN, 9), "affirm"),
    ]
    theirs.append(conn, *(present(encode_record(it)) for it in said))
    ours.append(conn, present(encode_record(Opinion(about, "affirm"))))
    refs = [about, Ref(ORIGIN, 2)]
    standing = records.standing_opinions(conn, refs, ["pdq"])
    assert [(it.node, it.about.leaf_index, it.stance) for it in standing] == [
        ("alpha.example", 1, "affirm"),
        ("alpha.example", 1, "dispute"),
        ("alpha.example", 2, "affirm"),
        ("beta.example", 1, "affirm"),
    ]
    theirs.append(conn, Retract(301, 1, Reason.WITHDRAWN))
    standing = records.standing_opinions(conn, [about], ["md5"])
    assert [(it.node, it.reason) for it in standing] == [
        ("alpha.example", "r299"),
        ("beta.example", None),
    ]


@pytest.mark.parametrize("seed", range(12))
def test_folding_what_stands_is_folding_everything(conn: Connection, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 -- no secret
    names = ("alpha", "beta", "gamma")
    feedback = [StoredLog(conn, FEEDBACK.replace("alpha", name)) for name in names]
    log = StoredLog(conn)
    log.append(conn, *(present(indicator(n)) for n in (1, 2)))
    for number in range(rng.randrange(40)):
        by = rng.choice(feedback)
        opinion = Opinion(
            Ref(ORIGIN, rng.choice((1, 2))),
            rng.choice(("affirm", "dispute", "unsure")),
            signal_type=rng.choice((None, "pdq", "md5")),
            reason=f"r{number}",
        )
        by.append(conn, present(encode_record(opinion)))
        if rng.random() < 0.3:
            withdrawn = rng.randrange(1, by.size)
            by.append(conn, Retract(withdrawn, 1, Reason.WITHDRAWN))
    refs = [Ref(ORIGIN, 1), Ref(ORIGIN, 2)]
    for kind in ("pdq", "md5", "sha1"):
        folds = {
            fold(some, node_name="beta.example", reviewed=False, signal_type=kind)
            for some in (
                records.opinions_about(conn, refs),
                records.standing_opinions(conn, refs, [kind]),
                records.standing_opinions(conn, refs, ["pdq", "md5", "sha1"]),
                records.standing_opinions(conn, refs, [kind, "netclean"]),
            )
        }
        assert len(folds) == 1


def test_the_entries_that_withdraw_a_record_are_found(conn: Connection) -> None:
    log = StoredLog(conn)
    log.append(conn, *(present(indicator(n)) for n in (1, 2, 3)))
    log.append(conn, Retract(1, 2, Reason.EXPIRED), Erase(2, 2, Reason.WITHDRAWN))
    log_id = log.log.log_id
    retract, erase = Retract(1, 2, Reason.EXPIRED), Erase(2, 2, Reason.WITHDRAWN)
    assert records.withdrawals_of(conn, log_id, 1) == [(4, retract)]
    assert records.withdrawals_of(conn, log_id, 2) == [(4, retract), (5, erase)]
    assert records.withdrawals_of(conn, log_id, 3) == [(5, erase)]
    assert records.withdrawals_of(conn, log_id, 4) == []


def test_pages_of_a_list_have_each_of_its_records_once(conn: Connection) -> None:
    first, second = StoredLog(conn), StoredLog(conn, ORIGIN[:-1] + "2")
    feedback = StoredLog(conn, FEEDBACK)
    theirs = StoredLog(conn, ORIGIN.replace("shield", "alpha"))
    for number in range(1, 8):
        for log in (first, feedback, second, theirs):
            log.append(conn, present(indicator(number)))

    def pages(node: str | None) -> list[Ref]:
        refs: list[Ref] = []
        after = 0
        while page := records.page_records(conn, "ncii", after, 3, node=node):
            assert len(page) <= 3
            refs += [record.ref for record in page]
            after = page[-1].record_id
        return refs

    ours = [log.ref(n) for log in (first, second) for n in range(1, 8)]
    assert pages("shield.example") == ours
    assert pages(None) == ours + [theirs.ref(n) for n in range(1, 8)]
    assert pages("gamma.example") == []
