"""From what the store confirmed to an answer: what matches, and what to do about it.

Pure but for the flood breaker, which counts what it is asked about. To judge again
what was judged before (a trial, an explanation), leave it out of the criteria.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Final, NamedTuple, Self

from hashlight_node.matching.allowing import AllowList
from hashlight_node.matching.candidates import Candidate, Candidates
from hashlight_node.matching.flood import FloodBreaker
from hashlight_node.matching.opinions import REVIEWED, fold
from hashlight_node.matching.policy import (
    Because,
    Decision,
    MatchFacts,
    MatchKind,
    Policy,
    decide,
    severity,
    strictest,
)
from hashlight_node.matching.thresholds import Thresholds
from hashlight_node.model import (
    MAX_RECORDS_SHOWN,
    Handling,
    OpinionFold,
    RecordEvidence,
    StoredOpinion,
    records_of_each,
)
from hashlight_protocol import Ref, Signal

_REVIEW_LEVELS: Final = frozenset({"none", "automated", REVIEWED})

_ANY: Final = 256
"""As a threshold: whatever was found counts."""


@dataclass(frozen=True, slots=True)
class Criteria:
    """What this node's operator judges matches by.

    Attributes:
        policy: Says what to do.
        node_name: Ours; our own opinions outweigh the rest.
        thresholds: How near a record's list must be; None if all count that were found.
        allowed: Overrules everything else.
        flood: Counts matches and stops believing floods; None to do neither.
    """

    policy: Policy
    node_name: str
    thresholds: Thresholds | None = None
    allowed: AllowList = field(default_factory=AllowList)
    flood: FloodBreaker | None = None

    def uncounted(self) -> Self:
        """Give the same without the flood breaker, to judge what is no new match."""
        return replace(self, flood=None)


@dataclass(frozen=True, slots=True)
class DecidedBy:
    """Which part of the operator's settings decided about a match.

    Attributes:
        rule: Index of the policy's rule; None if it was no rule.
        because: What made the outcome differ from that rule, or take its place.
        ref: The record that called for the strictest handling.
    """

    rule: int | None
    because: Because
    ref: Ref


@dataclass(frozen=True, slots=True)
class Match:
    """A known signal that a query matches, with the live records that assert it.

    Attributes:
        signal_id: Under which the store has it.
        signal: The known signal.
        distance: In bits; 0 if equal.
        threshold: Largest distance that counts, in the list that allows most.
        opinion: All opinions about it in one word.
        handling: What policy says to do about this match alone.
        records: At least one, at most `MAX_RECORDS_SHOWN`.
        decided_by: Why `handling` is what it is.
        allowed: The allow list names this signal, or covers the query.
        flooded: The signal matches far too much lately.
    """

    signal_id: int
    signal: Signal
    distance: int
    threshold: int
    opinion: OpinionFold
    handling: Handling
    records: tuple[RecordEvidence, ...]
    decided_by: DecidedBy
    allowed: bool = False
    flooded: bool = False


@dataclass(frozen=True, slots=True)
class LookupResult:
    """What is known about one query.

    Attributes:
        query: As asked.
        handling: The strictest of its matches; `ignore` if there are none. Where
            `truncated` is about signals at least `review`, unless the allow list covers
            the query: nobody knows what was left out.
        matches: Nearest first.
        truncated: There may be more signals, of which the nearest are here, or more
            records of one, of which every list's oldest are, as far as there is room.
    """

    query: Signal
    handling: Handling
    matches: tuple[Match, ...]
    truncated: bool


def assemble(
    queries: Sequence[Signal],
    candidates: Sequence[Candidates],
    evidence: Mapping[int, Sequence[RecordEvidence]],
    opinions: Iterable[StoredOpinion],
    *,
    criteria: Criteria,
    cut: Collection[int] = frozenset(),
) -> tuple[LookupResult, ...]:
    """Build the answer to a lookup.

    Args:
        queries: As asked.
        candidates: What `Matcher.candidates` gave for them, of exact types those
            that the store confirmed.
        evidence: By signal id, live records that assert it, at least one of every list
            that does; a candidate without any is no match any more.
        opinions: Live opinions about these records, in any order.
        criteria: What to judge by.
        cut: Signals that have more records than there are in `evidence`.

    Returns:
        One result for each query, in order.
    """
    about: defaultdict[Ref, list[StoredOpinion]] = defaultdict(list)
    for opinion in opinions:
        about[opinion.about].append(opinion)
    return _Judge(evidence, about, criteria, cut).results(queries, candidates)


class _Key(NamedTuple):
    """What decides about a candidate, whatever the query.

    Attributes:
        signal: The known signal.
        signal_id: Its id.
        threshold: Largest distance that was searched.
        kind: How it matched.
        reach: Smallest threshold of a list that counts it.
    """

    signal: Signal
    signal_id: int
    threshold: int
    kind: MatchKind
    reach: int


@dataclass(frozen=True, slots=True)
class _Known:
    """The records of a signal.

    Attributes:
        records: Oldest first, each with its list's threshold.
        reaches: Those thresholds, each once, ascending.
    """

    records: Sequence[tuple[RecordEvidence, int]]
    reaches: Sequence[int]


@dataclass(frozen=True, slots=True, eq=False)
class _Decided:
    """What is said of a signal in every result where the same records count.

    Attributes:
        decision: What the policy says.
        ref: The record that called for it.
        opinion: All opinions in one word.
        records: Those that count.
        threshold: Of the list that allows most.
        is_named: The allow list names the signal.
    """

    decision: Decision
    ref: Ref
    opinion: OpinionFold
    records: Sequence[RecordEvidence]
    threshold: int
    is_named: bool


class _Judge:
    """What every match of one lookup is judged by; judges nothing twice.

    One list may put a thousand records of each of many signals near a thousand queries
    of a call. So each signal is decided once for each set of its records that counts,
    of which there are no more than thresholds; only the flood breaker and the allow
    list are asked for each query.
    """

    def __init__(
        self,
        evidence: Mapping[int, Sequence[RecordEvidence]],
        about: Mapping[Ref, Sequence[StoredOpinion]],
        criteria: Criteria,
        cut: Collection[int],
    ) -> None:
        self._evidence = evidence
        self._about = about
        self._criteria = criteria
        self._cut = cut
        self._known: dict[int, _Known] = {}
        self._reaches: dict[str, int] = {}
        self._decided: dict[_Key, _Decided] = {}
        self._shown: dict[_Decided, tuple[RecordEvidence, ...]] = {}

    def results(
        self, queries: Sequence[Signal], candidates: Sequence[Candidates]
    ) -> tuple[LookupResult, ...]:
        confirmed = [self.confirmed(found) for found in candidates]
        counts = (len(it.records) for found in confirmed for _, it in found)
        most = records_of_each(counts)
        return tuple(
            self.result(query, found.truncated, matching, most)
            for query, found, matching in zip(
                queries, candidates, confirmed, strict=True
            )
        )

    def confirmed(self, candidates: Candidates) -> Sequence[tuple[Candidate, _Decided]]:
        """Keep the candidates that a list counts at their distance, decided."""
        return [
            (candidate, self.decided(candidate, reach))
            for candidate in candidates.signals
            if (reach := self.reach(candidate)) is not None
        ]

    def result(
        self,
        query: Signal,
        truncated: bool,  # noqa: FBT001 - as found
        matching: Sequence[tuple[Candidate, _Decided]],
        most: int,
    ) -> LookupResult:
        if not matching and not truncated:
            return LookupResult(query, Handling.IGNORE, (), truncated=False)
        covered = self._criteria.allowed.covers(query)
        matches = tuple(
            self.match(candidate, decided, covered=covered, most=most)
            for candidate, decided in matching
        )
        handling = strictest(it.handling for it in matches)
        if truncated and not covered and handling is Handling.IGNORE:
            # Among what was left out may be what is to be blocked.
            handling = Handling.REVIEW
        return LookupResult(
            query=query,
            handling=handling,
            matches=matches,
            truncated=truncated
            or any(self.is_cut(it.signal_id) for it in matches)
            or any(len(it.records) > most for _, it in matching),
        )

    def is_cut(self, signal_id: int) -> bool:
        """Tell whether there may be records that were not even judged."""
        records = self._evidence[signal_id]
        return signal_id in self._cut or len(records) >= MAX_RECORDS_SHOWN

    def known(self, signal_id: int) -> _Known:
        known = self._known.get(signal_id)
        if known is None:
            records = [
                (it, self.reach_of(_list_of(it)))
                for it in self._evidence.get(signal_id, ())
            ]
            reaches = sorted({reach for _, reach in records})
            known = self._known[signal_id] = _Known(records, reaches)
        return known

    def reach_of(self, list_id: str) -> int:
        thresholds = self._criteria.thresholds
        if thresholds is None:
            return _ANY
        reach = self._reaches.get(list_id)
        if reach is None:
            reach = self._reaches[list_id] = thresholds.of(list_id)
        return reach

    def reach(self, candidate: Candidate) -> int | None:
        """Find the smallest threshold that counts a candidate; None if none does."""
        reaches = self.known(candidate.signal_id).reaches
        # Thresholds are no concern of types that match by equality: distance is 0.
        first = bisect_left(reaches, candidate.distance)
        return reaches[first] if first < len(reaches) else None

    def decided(self, candidate: Candidate, reach: int) -> _Decided:
        key = _Key(
            Signal(candidate.type, candidate.value),
            candidate.signal_id,
            candidate.threshold,
            MatchKind.NEAR if candidate.distance else MatchKind.EXACT,
            reach,
        )
        decided = self._decided.get(key)
        if decided is None:
            decided = self._decided[key] = self.decide(key)
        return decided

    def decide(self, key: _Key) -> _Decided:
        counted = [
            (record, reach)
            for record, reach in self.known(key.signal_id).records
            if reach >= key.reach
        ]
        records = [it for it, _ in counted]
        opinion = fold(
            (said for it in records for said in self._about.get(it.ref, ())),
            node_name=self._criteria.node_name,
            reviewed=any(it.review == REVIEWED for it in records),
            signal_type=key.signal.type,
        )
        policy = self._criteria.policy
        decisions = (
            (decide(policy, _facts(it, opinion, key.kind)), it.ref) for it in records
        )
        decision, ref = min(decisions, key=lambda it: severity(it[0].handling))
        return _Decided(
            decision=decision,
            ref=ref,
            opinion=opinion,
            records=records,
            threshold=min(key.threshold, max(reach for _, reach in counted)),
            is_named=self._criteria.allowed.names(key.signal),
        )

    def match(
        self, candidate: Candidate, decided: _Decided, *, covered: bool, most: int
    ) -> Match:
        allowed = covered or decided.is_named
        flooded = not allowed and self.is_flooded_by(candidate.signal_id)
        decision = _overruled(decided.decision, allowed=allowed, flooded=flooded)
        return Match(
            signal_id=candidate.signal_id,
            signal=Signal(candidate.type, candidate.value),
            distance=candidate.distance,
            threshold=decided.threshold,
            opinion=decided.opinion,
            handling=decision.handling,
            records=self.shown(decided, most),
            decided_by=DecidedBy(decision.rule, decision.because, decided.ref),
            allowed=allowed,
            flooded=flooded,
        )

    def shown(self, decided: _Decided, most: int) -> tuple[RecordEvidence, ...]:
        shown = self._shown.get(decided)
        if shown is None:
            shown = self._shown[decided] = _fair_share(decided, most)
        return shown

    def is_flooded_by(self, signal_id: int) -> bool:
        flood = self._criteria.flood
        return flood is not None and flood.is_flooded_by(signal_id)


def _fair_share(decided: _Decided, most: int) -> tuple[RecordEvidence, ...]:
    """Choose records: what decided, each log's oldest, each log's second, and on."""
    records = decided.records
    if len(records) <= most:
        return tuple(records)
    by_log: defaultdict[str, list[RecordEvidence]] = defaultdict(list)
    for record in records:
        by_log[record.ref.origin].append(record)
    turns = (it for turn in zip_longest(*by_log.values()) for it in turn if it)
    others = (it for it in turns if it.ref != decided.ref)
    chosen = (*(it for it in records if it.ref == decided.ref), *others)
    return tuple(sorted(chosen[:most], key=lambda it: it.record_id))


def _overruled(decision: Decision, *, allowed: bool, flooded: bool) -> Decision:
    if allowed:
        return Decision(Handling.IGNORE, None, Because.ALLOWED)
    if flooded and decision.handling is Handling.BLOCK:
        return Decision(Handling.REVIEW, decision.rule, Because.FLOODED)
    return decision


def _facts(record: RecordEvidence, opinion: OpinionFold, kind: MatchKind) -> MatchFacts:
    return MatchFacts(
        list=_list_of(record),
        labels=tuple(f"{it['scheme']}:{it['value']}" for it in record.labels),
        # Levels of a later version count as the lowest, as SPEC.md#records says.
        review=record.review if record.review in _REVIEW_LEVELS else "none",
        opinion=opinion,
        match=kind,
    )


def _list_of(record: RecordEvidence) -> str:
    return f"{record.origin_node}/{record.list_name}"
