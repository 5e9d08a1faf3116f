"""Dropping the content of records that are old."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from hashlight_node.model import RecordState
from hashlight_node.store import records, retention, signals, tables
from hashlight_node.store.changed_bodies import BundlePlace, collecting
from hashlight_protocol import TILE_WIDTH
from support.clock import START
from support.made_records import indicators
from support.stored_log import StoredLog, present

if TYPE_CHECKING:
    from sqlalchemy import Connection


def test_what_is_dropped_matches_no_more_and_its_bundles_are_named(
    conn: Connection,
) -> None:
    log = StoredLog(conn)
    log.append(conn, *map(present, indicators(TILE_WIDTH + 10)))
    refs = [log.ref(index) for index in (3, TILE_WIDTH + 2)]
    with collecting(conn) as changed:
        died = retention.drop_contents(conn, refs, now=START)
    # Whoever keeps copies of bundles hears of it: the bodies are not to be sent again.
    assert changed == {BundlePlace(log.log.log_id, index) for index in (0, 1)}
    assert [it.live for it in died] == [False] * 4
    for ref in refs:
        record = records.read_record(conn, ref)
        assert record is not None
        assert (record.state, record.body) == (RecordState.WITHHELD, b"")
    live = sum(signals.count_live(conn).values())
    assert live == 2 * (TILE_WIDTH + 10 - len(refs))
    claims = select(func.count()).select_from(tables.record_signals)
    assert conn.execute(claims).scalar() == live
