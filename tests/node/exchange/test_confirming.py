"""What memory proposes is answered only if the store says the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashlight_node.exchange.looking_up.confirming import confirm
from hashlight_node.matching import matcher as matching
from hashlight_node.matching.candidates import Candidate, Candidates
from hashlight_node.matching.judging import Criteria, assemble
from hashlight_node.matching.matcher import Matcher
from hashlight_node.matching.policy import Policy
from hashlight_node.store import signals
from hashlight_protocol import Reason, Retract, Signal
from support.clock import START
from support.made_records import indicator, md5_of, pdq_of
from support.stored_log import StoredLog, present
from support.stores import make_store, writing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection

import pytest


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[Connection]:
    with writing(make_store(tmp_path)) as connection:
        yield connection


def test_signals_that_share_a_digest_are_told_apart(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "signal_digest", lambda *_: 7)
    StoredLog(conn).append(conn, *(present(indicator(n)) for n in (1, 2)))
    matcher = Matcher(pdq_threshold=31)
    matcher.load(signals.live_signals(conn))
    queries = [Signal("md5", md5_of(n)) for n in (1, 2, 3)]
    queries += [Signal("sha1", md5_of(1)), Signal("pdq", pdq_of(1))]
    proposed = matcher.candidates(queries, max_distance=None)
    assert [len(it) for it in proposed] == [2, 2, 2, 2, 1]
    confirmed = confirm(conn, proposed, now=START)
    assert [len(it) for it in confirmed.candidates] == [1, 1, 0, 0, 1]
    results = assemble(
        queries,
        confirmed.candidates,
        confirmed.evidence,
        confirmed.opinions,
        criteria=Criteria(Policy(), "us.example"),
    )
    assert [[it.signal for it in result.matches] for result in results] == [
        [queries[0]],
        [queries[1]],
        [],
        [],
        [queries[4]],
    ]


def test_what_is_withdrawn_has_no_evidence_however_late_memory_is(
    conn: Connection,
) -> None:
    log = StoredLog(conn)
    log.append(conn, present(indicator(1)))
    matcher = Matcher(pdq_threshold=31)
    matcher.load(signals.live_signals(conn))
    log.append(conn, Retract(1, 1, Reason.WITHDRAWN))
    queries = [Signal("md5", md5_of(1)), Signal("pdq", pdq_of(1))]
    proposed = matcher.candidates(queries, max_distance=None)
    assert all(proposed)
    assert confirm(conn, proposed, now=START).evidence == {}


def test_an_id_that_stands_for_nothing_is_no_match(conn: Connection) -> None:
    proposed = [Candidates([Candidate(99, "md5", md5_of(1), 0, 0)], truncated=True)]
    confirmed = confirm(conn, proposed, now=START)
    assert confirmed.candidates == [Candidates([], truncated=True)]
    assert confirmed.evidence == {}
    assert confirmed.opinions == []
