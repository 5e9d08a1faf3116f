"""Looking signals up: candidates from memory, answers from what the store confirms.

The matcher holds every live signal and hears of changes right after the commit that
made them. It is fast and may be a moment behind, so what it finds are candidates:
the caller reads their evidence in one transaction, and `assemble` builds the answer
from that alone. A withdrawn record can therefore never be answered.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from hashlight_node.matching.index import PdqIndex
from hashlight_node.matching.opinions import REVIEWED, fold
from hashlight_node.matching.policy import (
    MatchFacts,
    MatchKind,
    Policy,
    decide,
    strictest,
)
from hashlight_node.model import (
    MAX_RECORDS_SHOWN,
    Handling,
    OpinionFold,
    RecordEvidence,
    SignalChange,
    StoredOpinion,
)
from hashlight_protocol import Ref, Signal

PDQ: Final = "pdq"

MAX_CANDIDATES: Final = 1000
"""Signals that one query may match, the nearest; so that a flood of near hashes in
one list cannot exhaust a node's memory. Answers that reach it say `truncated`."""

MAX_CANDIDATES_A_CALL: Final = 20_000
"""The same for all queries of a call together, which share it evenly."""

_LOADED_AT_ONCE: Final = 65536
_REVIEW_LEVELS: Final = frozenset({"none", "automated", REVIEWED})


def candidate_limit(query_count: int) -> int:
    """Tell how many signals each query of a call may match."""
    return min(MAX_CANDIDATES, MAX_CANDIDATES_A_CALL // max(1, query_count))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A signal that was live a moment ago and is near enough.

    Attributes:
        signal_id: Under which the store has its evidence.
        type: Its type.
        value: Its canonical value.
        distance: From the query, in bits; 0 if equal.
        threshold: Largest distance that counted.
    """

    signal_id: int
    type: str
    value: str
    distance: int
    threshold: int


@dataclass(frozen=True, slots=True)
class Match:
    """A known signal that a query matches, with the live records that assert it.

    Attributes:
        signal: The known signal.
        distance: In bits; 0 if equal.
        threshold: Largest distance that counts.
        opinion: All opinions about it in one word.
        handling: What policy says to do about this match alone.
        records: At least one.
    """

    signal: Signal
    distance: int
    threshold: int
    opinion: OpinionFold
    handling: Handling
    records: tuple[RecordEvidence, ...]


@dataclass(frozen=True, slots=True)
class LookupResult:
    """What is known about one query.

    Attributes:
        query: As asked.
        handling: The strictest of its matches; `ignore` if there are none.
        matches: Nearest first.
        truncated: There may be more signals, of which the nearest are here, or more
            records of one, of which the oldest are.
    """

    query: Signal
    handling: Handling
    matches: tuple[Match, ...]
    truncated: bool


class Matcher:
    """Every live signal, in memory.

    One thread changes it: the store's writer, right after each commit and in the
    order of commits. Any thread may ask at any time.
    """

    def __init__(self, *, pdq_threshold: int) -> None:
        """Begin empty.

        Args:
            pdq_threshold: Largest distance at which PDQ hashes match, 0 to 256.
        """
        self._pdq_threshold = pdq_threshold
        self._pdq = PdqIndex()
        self._exact: defaultdict[str, dict[str, int]] = defaultdict(dict)

    def load(self, signals: Iterable[tuple[int, str, str]]) -> None:
        """Take over the live signals of the store, once, before the first `apply`.

        Args:
            signals: Id, type and canonical value; consumed as a stream.
        """
        changes = (SignalChange(*signal, live=True) for signal in signals)
        while some := list(islice(changes, _LOADED_AT_ONCE)):
            self.apply(some)

    def apply(self, changes: Iterable[SignalChange]) -> None:
        """Follow a commit: what became live matches from now on, what died does not.

        Applying a change again alters nothing.
        """
        # An id may be given anew once its signal is gone, so both together are the
        # key. What died and revived in one commit was live all the time.
        last = {(it.signal_id, it.type, it.value): it for it in changes}
        hashes = [it for it in last.values() if it.type == PDQ]
        self._pdq.discard(it.signal_id for it in hashes if not it.live)
        new = [it for it in hashes if it.live]
        self._pdq.extend(
            [it.signal_id for it in new], bytes.fromhex("".join(it.value for it in new))
        )
        for change in last.values():
            if change.type != PDQ:
                self._apply_exact(change)

    def _apply_exact(self, change: SignalChange) -> None:
        known = self._exact[change.type]
        if change.live:
            known[change.value] = change.signal_id
        elif known.get(change.value) == change.signal_id:
            del known[change.value]

    def sizes(self) -> Mapping[str, int]:
        """Count the live signals of each type that has any."""
        sizes = {name: len(known) for name, known in self._exact.copy().items()}
        return {PDQ: len(self._pdq), **sizes}

    def candidates(
        self, queries: Sequence[Signal], *, max_distance: int | None
    ) -> list[list[Candidate]]:
        """Find what may match.

        Takes about 2 ms for each PDQ query and million hashes: more than a few
        belong in a thread.

        Args:
            queries: Canonical signals of any type.
            max_distance: Where PDQ matches end; None for our threshold, and never
                beyond it, because the operator answers for what is a match.

        Returns:
            For each query, in order, the nearest ones, nearest first, at most
            `candidate_limit` of them.
        """
        threshold = self._pdq_threshold
        if max_distance is not None:
            threshold = min(max_distance, threshold)
        hashes = b"".join(bytes.fromhex(it.value) for it in queries if it.type == PDQ)
        limit = candidate_limit(len(queries))
        near = iter(self._pdq.search_many(hashes, threshold, limit=limit))
        return [
            [
                Candidate(hit.signal_id, PDQ, hit.digest.hex(), hit.distance, threshold)
                for hit in next(near)
            ]
            if query.type == PDQ
            else self._equal(query)
            for query in queries
        ]

    def _equal(self, query: Signal) -> list[Candidate]:
        signal_id = self._exact.get(query.type, {}).get(query.value)
        if signal_id is None:
            return []
        return [Candidate(signal_id, query.type, query.value, 0, 0)]


def assemble(
    queries: Sequence[Signal],
    candidates: Sequence[Sequence[Candidate]],
    evidence: Mapping[int, Sequence[RecordEvidence]],
    opinions: Iterable[StoredOpinion],
    *,
    policy: Policy,
    node_name: str,
) -> tuple[LookupResult, ...]:
    """Build the answer to a lookup.

    Args:
        queries: As asked.
        candidates: What `Matcher.candidates` gave for them.
        evidence: By signal id, the live records that assert it; a candidate without
            any is no match any more.
        opinions: Live opinions about these records, in any order.
        policy: Says what to do.
        node_name: Ours; our own opinions outweigh the rest.

    Returns:
        One result for each query, in order.
    """
    about: defaultdict[Ref, list[StoredOpinion]] = defaultdict(list)
    for opinion in opinions:
        about[opinion.about].append(opinion)
    limit = candidate_limit(len(queries))
    judge = _Judge(evidence, about, policy, node_name, limit)
    return tuple(
        judge.result(query, found)
        for query, found in zip(queries, candidates, strict=True)
    )


@dataclass(frozen=True, slots=True)
class _Judge:
    """What every match of one lookup is judged by."""

    evidence: Mapping[int, Sequence[RecordEvidence]]
    about: Mapping[Ref, Sequence[StoredOpinion]]
    policy: Policy
    node_name: str
    limit: int

    def result(self, query: Signal, candidates: Sequence[Candidate]) -> LookupResult:
        matches = tuple(
            self.match(candidate, records)
            for candidate in candidates
            if (records := self.evidence.get(candidate.signal_id))
        )
        return LookupResult(
            query=query,
            handling=strictest(it.handling for it in matches),
            matches=matches,
            truncated=len(candidates) >= self.limit
            or any(len(it.records) >= MAX_RECORDS_SHOWN for it in matches),
        )

    def match(self, candidate: Candidate, records: Sequence[RecordEvidence]) -> Match:
        opinion = fold(
            (said for it in records for said in self.about.get(it.ref, ())),
            node_name=self.node_name,
            reviewed=any(it.review == REVIEWED for it in records),
            signal_type=candidate.type,
        )
        kind = MatchKind.NEAR if candidate.distance else MatchKind.EXACT
        facts = (_facts(it, opinion, kind) for it in records)
        return Match(
            signal=Signal(candidate.type, candidate.value),
            distance=candidate.distance,
            threshold=candidate.threshold,
            opinion=opinion,
            handling=strictest(decide(self.policy, it) for it in facts),
            records=tuple(records),
        )


def _facts(record: RecordEvidence, opinion: OpinionFold, kind: MatchKind) -> MatchFacts:
    return MatchFacts(
        list=f"{record.origin_node}/{record.list_name}",
        labels=tuple(f"{it['scheme']}:{it['value']}" for it in record.labels),
        # Levels of a later version count as the lowest, as SPEC.md#records says.
        review=record.review if record.review in _REVIEW_LEVELS else "none",
        opinion=opinion,
        match=kind,
    )
