"""Explaining an answer: the records behind it, the proof of each, and what decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from hashlight_node.exchange.errors import ExchangeError
from hashlight_node.exchange.logs.disclosure import Insider
from hashlight_node.exchange.logs.receipts import build_receipt, stored_hashes
from hashlight_node.exchange.looking_up.match_log import describe_policy
from hashlight_node.store import history, logs, matches, records, signals
from hashlight_protocol import Ref, inclusion_proof

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hashlight_node.exchange.looking_up.live import ListState
    from hashlight_node.exchange.looking_up.lookup import Lookup
    from hashlight_node.matching.judging import Criteria, LookupResult
    from hashlight_node.model import RecordState
    from hashlight_node.store.database import Connection, Reader
    from hashlight_node.store.history import PastState
    from hashlight_node.store.matches import StoredMatch
    from hashlight_protocol import Signal

MAX_PROVEN: Final = 100
"""Records that one explanation proves, those of the nearest matches; it says how many
there are besides. Each takes some reads of the log's tiles."""


class PastProof(NamedTuple):
    """That a record was in a list when something was answered.

    Attributes:
        tree_size: Size of the list's log at that time.
        root_hash: Root of that tree, 32 bytes, as it was applied here.
        hashes: From the record's leaf to that root.
    """

    tree_size: int
    root_hash: bytes
    hashes: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class ProvenRecord:
    """One record that an answer is based on.

    Attributes:
        ref: The record.
        state: What it is now; None if it is not here any more.
        reason: Number of the reason if it was withdrawn.
        withdrawn_at: When, Unix seconds.
        receipt: A file that proves the record to anybody; None if there is none.
        problem: Why there is no receipt, as a code.
        proof: That it was there then; None if that cannot be proven, or if it was
            asked about now.
    """

    ref: Ref
    state: RecordState | None
    reason: int | None
    withdrawn_at: int | None
    receipt: bytes | None
    problem: str | None
    proof: PastProof | None = None


@dataclass(frozen=True, slots=True)
class ExplainedSignal:
    """What is or was known about a signal, and why it is handled so.

    Attributes:
        result: What a lookup says.
        lists: What was searched; empty if it was asked about the past.
        past_lists: The state of all lists then; empty if it was asked about now.
        at: When, Unix seconds; 0 if it was asked about now.
        policy: What the matches are judged by, as it is written down.
        records: Those that the matches name.
        more_records: How many more there are.
    """

    result: LookupResult
    lists: Sequence[ListState]
    past_lists: Sequence[PastState]
    at: int
    policy: Mapping[str, Any]
    records: Sequence[ProvenRecord]
    more_records: int


@dataclass(frozen=True, slots=True)
class ExplainedMatch:
    """What was answered once, and what it was based on.

    Attributes:
        match: As it was written down.
        event: What matched and why.
        policy: What it was judged by.
        signals: By id, the signals that matched, as far as they are still known.
        lists: State of each list then, as far as it was one that was applied here.
        records: Those that the matches named.
        more_records: How many more there were.
    """

    match: StoredMatch
    event: Mapping[str, Any]
    policy: Mapping[str, Any]
    signals: Mapping[int, Signal]
    lists: Sequence[PastState]
    records: Sequence[ProvenRecord]
    more_records: int


class Explain:
    """Answers why.

    Args:
        database: The store.
        lookup: Says what is known; counts and logs nothing.
        criteria: What matches are judged by.
    """

    def __init__(self, *, database: Reader, lookup: Lookup, criteria: Criteria) -> None:
        self._database = database
        self._lookup = lookup
        self._policy: Mapping[str, Any] = orjson.loads(describe_policy(criteria))

    async def signal(self, query: Signal, *, at: int | None) -> ExplainedSignal:
        """Explain what is known about a signal; counts as no match.

        Args:
            query: Canonical.
            at: When, Unix seconds; None for now.
        """
        lists: Sequence[ListState] = ()
        past_lists: Sequence[PastState] = ()
        if at is None:
            now = await self._lookup.lookup([query], max_distance=None)
            (result,), lists = now.results, now.lists
        else:
            then = await self._lookup.past.lookup([query], at=at, max_distance=None)
            (result,), past_lists = then.results, then.lists
        refs = _refs_of(result)
        sizes = {it.origin: it.tree_size for it in past_lists}
        return ExplainedSignal(
            result=result,
            lists=lists,
            past_lists=past_lists,
            at=at or 0,
            policy=self._policy,
            records=await self._database.read(
                lambda conn: _prove(conn, refs[:MAX_PROVEN], sizes)
            ),
            more_records=max(0, len(refs) - MAX_PROVEN),
        )

    async def match(self, match_id: int) -> ExplainedMatch | None:
        """Explain what was answered once; None if no match has this number."""
        return await self._database.read(lambda conn: _explain(conn, match_id))


def _explain(conn: Connection, match_id: int) -> ExplainedMatch | None:
    match = matches.read_match(conn, match_id)
    if match is None:
        return None
    event = orjson.loads(match.event)
    sizes: dict[str, int] = event["lists"]
    named = [Ref(*ref) for it in event["matches"] for ref in it["records"]]
    refs = list(dict.fromkeys(named))
    left_out = sum(it["more_records"] for it in event["matches"])
    ids = [it["signal"] for it in event["matches"]]
    return ExplainedMatch(
        match=match,
        event=event,
        policy=orjson.loads(match.policy),
        signals=signals.signals_of(conn, sorted(set(ids))),
        lists=_states(conn, sizes),
        records=_prove(conn, refs[:MAX_PROVEN], sizes),
        more_records=left_out + max(0, len(refs) - MAX_PROVEN),
    )


def _refs_of(result: LookupResult) -> list[Ref]:
    named = (record.ref for match in result.matches for record in match.records)
    return list(dict.fromkeys(named))


def _states(conn: Connection, sizes: Mapping[str, int]) -> list[PastState]:
    found = (
        history.find_state(conn, log.log_id, sizes[log.origin])
        for log in logs.list_logs(conn)
        if log.origin in sizes
    )
    return [state for state in found if state is not None]


def _prove(
    conn: Connection, refs: Iterable[Ref], sizes: Mapping[str, int]
) -> list[ProvenRecord]:
    return [_prove_one(conn, ref, sizes.get(ref.origin)) for ref in refs]


def _prove_one(conn: Connection, ref: Ref, size: int | None) -> ProvenRecord:
    log, record = logs.find_log(conn, ref.origin), records.read_record(conn, ref)
    if log is None or record is None:
        return ProvenRecord(ref, None, None, None, None, "unknown-record")
    receipt, problem = None, None
    try:
        receipt = build_receipt(conn, log, ref.leaf_index, Insider())
    except ExchangeError as error:
        problem = error.code
    proof = None
    state = None if size is None else history.find_state(conn, log.log_id, size)
    if state is not None and ref.leaf_index < state.tree_size:
        hashes = inclusion_proof(
            stored_hashes(conn, log),
            leaf_index=ref.leaf_index,
            tree_size=state.tree_size,
        )
        proof = PastProof(state.tree_size, state.root_hash, tuple(hashes))
    reason = None if record.reason is None else int(record.reason)
    return ProvenRecord(
        ref, record.state, reason, record.withdrawn_at, receipt, problem, proof
    )
