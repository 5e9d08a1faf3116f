"""Erasing destroys: nothing of a record is left in any file, wherever pages went."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from hashlight_node.model import RecordState
from hashlight_node.store import records, signals, tables
from hashlight_protocol import (
    Body,
    BodyStatus,
    Erase,
    Indicator,
    Label,
    Opinion,
    Reason,
    Ref,
    Retract,
    Sighting,
    Signal,
    SignalClaim,
    encode_record,
)
from support.clock import START
from support.stored_log import ORIGIN, Item, StoredLog
from support.stores import files_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from hashlight_node.store.database import Database

# Each record's number, in text and raw, wherever it can stand.
NEEDLES = re.compile(
    rb"needle([0-9a-f]{8})|ab4d1dea([0-9a-f]{8})|\xab\x4d\x1d\xea(....)", re.DOTALL
)


def needle_body(number: int, *, shared: bool = False) -> Body:
    """Make a record that has its number in its salt, body, label and signals.

    Args:
        number: The record's number.
        shared: Whether it asserts a signal that all such records assert as well.
    """
    mark = f"needle{number:08x}"
    raw = bytes.fromhex("ab4d1dea") + number.to_bytes(4, "big")
    claims = [
        SignalClaim(Signal("pdq", (raw * 4).hex()), quality=90),
        SignalClaim(Signal("md5", (raw * 2).hex())),
        SignalClaim(Signal("example", mark * (1 + number % 40))),
    ]
    if shared:
        claims.append(SignalClaim(Signal("sha1", "5" * 40)))
    record = Indicator(
        tuple(claims), "image", "hotline", START, labels=(Label("ncii", mark),)
    )
    return Body(BodyStatus.PRESENT, raw * 2, encode_record(record))


def found_in_files(url: str) -> set[int]:
    """Find the numbers of all records of which a byte string is left."""
    numbers: set[int] = set()
    for file in files_of(url):
        for text, hexed, raw in NEEDLES.findall(file.read_bytes()):
            digits = text or hexed
            numbers.add(int(digits, 16) if digits else int.from_bytes(raw, "big"))
    return numbers


async def append_to(log: StoredLog, database: Database, *items: Item) -> None:
    await database.write(lambda conn: log.append(conn, *items))


@pytest.mark.sqlite
async def test_nothing_is_left_of_erased_records_in_any_file(
    database: Database, url: str
) -> None:
    chance = random.Random(1)  # noqa: S311 - the same choices in every run
    log = await database.write(StoredLog)
    alive: list[int] = []
    dead: set[int] = set()

    async def append(count: int) -> None:
        numbers = range(log.size, log.size + count)
        bodies = [
            needle_body(number, shared=chance.random() < 0.1) for number in numbers
        ]
        await append_to(log, database, *bodies)
        alive.extend(numbers)

    for share in (0.02, 0.5, 0.02, 0.6, 0.02, 0.02):
        for _ in range(60):
            await append(chance.choice([1, 1, 2, 7, 30]))
        erased = set(chance.sample(alive, int(len(alive) * share)))
        alive[:] = [number for number in alive if number not in erased]
        dead |= erased
        entries = [Erase(number, 1, Reason.WITHDRAWN) for number in sorted(erased)]
        await append_to(log, database, *entries)
        await database.scrub()
        assert found_in_files(url) == set(alive)
    assert len(dead) > 1000


@pytest.mark.sqlite
async def test_records_that_were_retracted_first_are_destroyed_as_well(
    database: Database, url: str
) -> None:
    log = await database.write(StoredLog)
    bodies = [needle_body(number) for number in range(1, 6)]
    await append_to(log, database, *bodies)
    await append_to(log, database, Retract(1, 2, Reason.WITHDRAWN))
    await database.scrub()
    assert found_in_files(url) == {1, 2, 3, 4, 5}
    await append_to(log, database, Erase(2, 2, Reason.WITHDRAWN))
    await database.scrub()
    assert found_in_files(url) == {1, 4, 5}


async def test_a_record_erased_in_its_own_batch_never_reaches_a_file(
    database: Database, url: str
) -> None:
    log = await database.write(StoredLog)
    withdrawn = Erase(1, 1, Reason.WITHDRAWN)
    await append_to(log, database, needle_body(1), needle_body(2), withdrawn)
    assert found_in_files(url) == {2}


@pytest.mark.sqlite
async def test_an_erase_is_finished_when_the_database_is_opened_again(
    database: Database, url: str
) -> None:
    log = await database.write(StoredLog)
    await append_to(log, database, needle_body(1))
    await append_to(log, database, Erase(1, 1, Reason.WITHDRAWN))
    assert found_in_files(url) == {1}
    await database.close()
    assert found_in_files(url) == set()


def test_a_signal_stays_as_long_as_another_record_asserts_it(conn: Connection) -> None:
    mine, theirs = StoredLog(conn), StoredLog(conn, ORIGIN.replace("shield", "alpha"))
    mine.append(conn, needle_body(7))
    theirs.append(conn, needle_body(7))
    assert mine.append(conn, Erase(1, 1, Reason.WITHDRAWN)) == []
    assert len(list(signals.live_signals(conn))) == 3
    changes = theirs.append(conn, Erase(1, 1, Reason.WITHDRAWN))
    assert [change.live for change in changes] == [False] * 3
    assert conn.execute(select(func.count()).select_from(tables.signals)).scalar() == 0


def test_the_id_of_an_erased_signal_is_never_given_to_another(conn: Connection) -> None:
    log = StoredLog(conn)
    before = {change.signal_id for change in log.append(conn, needle_body(1))}
    log.append(conn, Erase(1, 1, Reason.WITHDRAWN))
    after = {change.signal_id for change in log.append(conn, needle_body(2))}
    assert before.isdisjoint(after)
    assert signals.evidence_of(conn, sorted(before), now=START).by_signal == {}


@pytest.mark.parametrize(
    "statement",
    [
        Opinion(Ref(ORIGIN, 1), "dispute", reason="needle"),
        Sighting(Ref(ORIGIN, 1), "matched", 3, START, START),
    ],
)
def test_what_an_erased_statement_said_is_gone(
    conn: Connection, statement: Opinion | Sighting
) -> None:
    log = StoredLog(conn)
    body = Body(BodyStatus.PRESENT, bytes(16), encode_record(statement))
    log.append(conn, body)
    log.append(conn, Erase(1, 1, Reason.WITHDRAWN))
    for table in (tables.opinions, tables.sightings):
        assert conn.execute(select(table)).all() == []


def test_what_is_left_of_an_erased_record_says_only_that_it_was_there(
    conn: Connection,
) -> None:
    log = StoredLog(conn)
    log.append(conn, needle_body(1))
    log.append(conn, Erase(1, 1, Reason.COMPROMISE), now=START + 5)
    record = log.read(conn, 1)
    assert record.state is RecordState.ERASED
    assert (record.salt, record.body, record.expires_at) == (b"", b"", None)
    assert (record.reason, record.withdrawn_by) == (Reason.COMPROMISE, 2)
    assert (record.applied_at, record.withdrawn_at) == (START, START + 5)
    assert records.read_bodies(conn, log.log.log_id, 0, 3)[1] == Body(BodyStatus.ERASED)


def test_an_erased_record_takes_no_body(conn: Connection) -> None:
    log = StoredLog(conn)
    log.append(conn, Body(BodyStatus.WITHHELD))
    log.append(conn, Erase(1, 1, Reason.WITHDRAWN))
    bodies = {1: needle_body(1)}
    assert records.fill_bodies(conn, log.log, bodies, now=START) == []
    assert log.read(conn, 1).body == b""
