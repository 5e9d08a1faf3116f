"""Finding the bundles in which bodies are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hashlight_node.store import records, withheld
from hashlight_protocol import Erase, Reason, Retract
from support.clock import START
from support.made_records import indicator
from support.stored_log import ORIGIN, WITHHELD, StoredLog, present

if TYPE_CHECKING:
    from sqlalchemy import Connection

OTHER = "alpha.example/hsf/v1/log/ncii/1"


def _fill_up(conn: Connection, log: StoredLog, size: int) -> None:
    for number in range(log.size, size):
        log.append(conn, present(indicator(number)))


def test_bundles_are_found_in_order_and_no_more_than_wanted(conn: Connection) -> None:
    log, other = StoredLog(conn), StoredLog(conn, OTHER)
    other.append(conn, WITHHELD)
    log.append(conn, WITHHELD, WITHHELD)
    _fill_up(conn, log, 520)
    log.append(conn, WITHHELD)
    log_id = log.log.log_id
    assert withheld.withheld_bundles(conn, log_id, first=0, limit=9) == [0, 2]
    assert withheld.withheld_bundles(conn, log_id, first=0, limit=1) == [0]
    assert withheld.withheld_bundles(conn, log_id, first=1, limit=9) == [2]
    assert withheld.withheld_bundles(conn, log_id, first=3, limit=9) == []
    assert withheld.withheld_bundles(conn, log_id, first=0, limit=0) == []


def test_what_came_or_was_erased_is_not_missing(conn: Connection) -> None:
    log = StoredLog(conn)
    log.append(conn, WITHHELD, WITHHELD, WITHHELD)
    log_id = log.log.log_id
    records.fill_bodies(conn, log.log, {1: present(indicator(1))}, now=START)
    log.append(conn, Erase(2, 1, Reason.WITHDRAWN))
    assert withheld.withheld_bundles(conn, log_id, first=0, limit=9) == [0]
    # What was retracted is kept for audit, and asked for like the others.
    log.append(conn, Retract(3, 1, Reason.EXPIRED))
    assert withheld.withheld_bundles(conn, log_id, first=0, limit=9) == [0]
    log.append(conn, Erase(3, 1, Reason.WITHDRAWN))
    assert withheld.withheld_bundles(conn, log_id, first=0, limit=9) == []


@pytest.mark.sqlite
def test_the_search_goes_by_its_own_index(conn: Connection) -> None:
    log = StoredLog(conn, ORIGIN)
    log.append(conn, WITHHELD)
    seen: list[str] = []
    raw = conn.connection.driver_connection
    assert raw is not None
    raw.set_trace_callback(seen.append)
    withheld.withheld_bundles(conn, log.log.log_id, first=0, limit=1)
    raw.set_trace_callback(None)
    (statement,) = (one for one in seen if "min(" in one)
    plan = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}").all()
    assert "USING INDEX ix_records_withheld" in str(plan)
