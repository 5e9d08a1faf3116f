"""What else decides besides the policy: thresholds, the allow list, floods; and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from hashlight_node import model
from hashlight_node.matching import judging
from hashlight_node.matching.allowing import AllowList
from hashlight_node.matching.candidates import Candidate, Candidates
from hashlight_node.matching.flood import (
    BUFFER_BYTES,
    FloodBreaker,
    FloodCounters,
    prepare_counts,
)
from hashlight_node.matching.judging import (
    Criteria,
    LookupResult,
    Match,
    assemble,
)
from hashlight_node.matching.policy import (
    Because,
    Decision,
    MatchFacts,
    MatchKind,
    Policy,
    Rule,
    decide,
)
from hashlight_node.matching.thresholds import Thresholds
from hashlight_node.model import (
    MAX_RECORDS_SHOWN,
    AllowedSignal,
    Handling,
    RecordEvidence,
    StoredOpinion,
    records_of_each,
)
from hashlight_protocol import Ref, Signal
from support.clock import ManualClock

US = "beta.example"
LOG = "shield.example/hsf/v1/log/ncii/1"
KNOWN = "f8" * 32
QUERY = "f9" + "f8" * 31  # 1 bit off
MD5 = "d41d8cd98f00b204e9800998ecf8427e"

BLOCK_NEAR = Policy(
    (
        Rule(Handling.IGNORE, list="nothing"),
        Rule(Handling.BLOCK, match=MatchKind.NEAR),
        Rule(Handling.BLOCK),
    )
)
CRITERIA = Criteria(BLOCK_NEAR, US)


def record(
    at: int, *, node: str = "shield.example", name: str = "ncii", review: str = "human"
) -> RecordEvidence:
    return RecordEvidence(
        record_id=at,
        ref=Ref(LOG.replace("shield.example", node).replace("ncii", name), at),
        list_name=name,
        origin_node=node,
        tree_size=100,
        labels=(),
        source="hotline",
        review=review,
        created_at=0,
        quality=None,
    )


def near(distance: int = 1, threshold: int = 31) -> Candidate:
    return Candidate(1, "pdq", KNOWN, distance, threshold)


def judged(
    criteria: Criteria,
    records: Sequence[RecordEvidence],
    *opinions: StoredOpinion,
    candidate: Candidate | None = None,
    query: Signal | None = None,
) -> LookupResult:
    (result,) = assemble(
        [query or Signal("pdq", QUERY)],
        [Candidates([candidate or near()])],
        {1: records},
        opinions,
        criteria=criteria,
    )
    return result


def match_of(result: LookupResult) -> Match:
    (match,) = result.matches
    return match


def test_a_match_names_the_rule_that_decided_and_the_record() -> None:
    match = match_of(judged(CRITERIA, [record(1, review="none"), record(2)]))
    assert match.handling is Handling.BLOCK
    assert match.decided_by.rule == 1
    assert match.decided_by.because is Because.RULE
    assert match.decided_by.ref == Ref(LOG, 2)
    assert match.signal_id == 1


def test_caution_default_and_our_own_word_are_named_as_such() -> None:
    caution = match_of(judged(CRITERIA, [record(1, review="none")]))
    assert (caution.decided_by.rule, caution.decided_by.because) == (1, Because.CAUTION)
    assert caution.handling is Handling.REVIEW
    default = match_of(judged(Criteria(Policy(), US), [record(1)]))
    assert (default.decided_by.rule, default.decided_by.because) == (
        None,
        Because.DEFAULT,
    )
    ours = Ref(f"{US}/hsf/v1/log/feedback/1", 1)
    dispute = StoredOpinion(US, ours, Ref(LOG, 1), None, "dispute", None)
    own = match_of(judged(CRITERIA, [record(1)], dispute))
    assert own.decided_by.because is Because.OWN_DISPUTE
    assert own.handling is Handling.IGNORE


def test_a_list_is_matched_as_far_as_its_own_threshold() -> None:
    thresholds = Thresholds(31, (("shield.example/*", 5),))
    criteria = replace(CRITERIA, thresholds=thresholds)
    strict, loose = record(1), record(2, node="hope.example")
    at_six = judged(criteria, [strict, loose], candidate=near(6))
    match = match_of(at_six)
    assert match.records == (loose,)
    assert match.threshold == 31
    at_five = match_of(judged(criteria, [strict, loose], candidate=near(5)))
    assert at_five.records == (strict, loose)
    only_strict = match_of(judged(criteria, [strict], candidate=near(5)))
    assert only_strict.threshold == 5
    nothing = judged(criteria, [strict], candidate=near(6))
    assert nothing.matches == ()
    assert nothing.handling is Handling.IGNORE


def test_a_caller_s_distance_narrows_every_list_s_threshold() -> None:
    criteria = replace(CRITERIA, thresholds=Thresholds(20, (("hope.example/*", 31),)))
    wide = record(1, node="hope.example")
    assert match_of(judged(criteria, [wide], candidate=near(25))).threshold == 31
    assert match_of(judged(criteria, [wide], candidate=near(9, 9))).threshold == 9
    assert not judged(criteria, [record(2)], candidate=near(25)).matches


def test_thresholds_are_of_no_concern_to_exact_types() -> None:
    criteria = replace(CRITERIA, thresholds=Thresholds(0, (("*", 0),)))
    exact = Candidate(1, "md5", MD5, 0, 0)
    match = match_of(
        judged(criteria, [record(1)], candidate=exact, query=Signal("md5", MD5))
    )
    assert match.threshold == 0


def allowing(value: str, reach: int) -> Criteria:
    entry = AllowedSignal(1, Signal("pdq", value), reach, "", 0)
    return replace(CRITERIA, allowed=AllowList([entry]))


@pytest.mark.parametrize(
    ("value", "reach"),
    [(KNOWN, 0), (QUERY, 0), (KNOWN, 1), ("fb" + "f8" * 31, 1)],
    ids=["the signal", "the query", "the query by reach", "near the query"],
)
def test_what_is_allowed_is_ignored_and_still_shown(value: str, reach: int) -> None:
    result = judged(allowing(value, reach), [record(1)])
    match = match_of(result)
    assert match.allowed
    assert match.handling is result.handling is Handling.IGNORE
    assert match.decided_by.because is Because.ALLOWED
    assert match.decided_by.rule is None
    assert match.records == (record(1),)


def test_what_is_near_an_allowed_hash_and_not_named_is_not_allowed() -> None:
    match = match_of(judged(allowing("fb" + "f8" * 31, 0), [record(1)]))
    assert not match.allowed
    assert match.handling is Handling.BLOCK


def test_an_allowed_signal_leaves_other_matches_of_the_query_alone() -> None:
    other = Candidate(2, "pdq", "fd" + "f8" * 31, 2, 31)
    (result,) = assemble(
        [Signal("pdq", QUERY)],
        [Candidates([near(), other])],
        {1: [record(1)], 2: [record(2)]},
        [],
        criteria=allowing(KNOWN, 0),
    )
    assert [it.allowed for it in result.matches] == [True, False]
    assert result.handling is Handling.BLOCK


def flooding(limit: int, criteria: Criteria = CRITERIA) -> Criteria:
    buffer = bytearray(BUFFER_BYTES)
    prepare_counts(buffer)
    counters = FloodCounters(buffer, window_seconds=3600)
    breaker = FloodBreaker(counters, limit=limit, clock=ManualClock())
    return replace(criteria, flood=breaker)


def test_a_flood_turns_block_into_review_and_says_so() -> None:
    criteria = flooding(2)
    seen = [match_of(judged(criteria, [record(1)])) for _ in range(3)]
    assert [it.handling for it in seen] == [Handling.BLOCK] * 2 + [Handling.REVIEW]
    assert [it.flooded for it in seen] == [False, False, True]
    assert seen[2].decided_by.because is Because.FLOODED
    assert seen[2].decided_by.rule == 1


def test_a_flood_leaves_what_is_not_blocked_as_it_is() -> None:
    criteria = flooding(0, Criteria(Policy(), US))
    match = match_of(judged(criteria, [record(1)]))
    assert match.flooded
    assert match.handling is Handling.REVIEW
    assert match.decided_by.because is Because.DEFAULT


def test_the_allow_list_wins_over_a_flood_and_is_not_counted() -> None:
    criteria = flooding(1, allowing(KNOWN, 0))
    for _ in range(3):
        match = match_of(judged(criteria, [record(1)]))
        assert (match.allowed, match.flooded) == (True, False)
    criteria.allowed.replace([])
    assert not match_of(judged(criteria, [record(1)])).flooded


def test_judging_again_can_leave_counting_out() -> None:
    criteria = flooding(1)
    for _ in range(5):
        assert not match_of(judged(criteria.uncounted(), [record(1)])).flooded
    assert not match_of(judged(criteria, [record(1)])).flooded
    assert match_of(judged(criteria, [record(1)])).flooded


def test_records_of_more_lists_than_are_shown_all_have_their_say() -> None:
    many = [
        record(at, node=f"n{at}.example", review="none")
        for at in range(MAX_RECORDS_SHOWN + 5)
    ]
    last = record(999, node="last.example")
    result = judged(CRITERIA, [*many, last])
    match = match_of(result)
    assert len(match.records) == MAX_RECORDS_SHOWN
    assert result.truncated
    assert match.handling is Handling.BLOCK
    assert match.decided_by.ref == last.ref


def test_what_a_search_left_out_is_said_even_if_it_found_nothing() -> None:
    (result,) = assemble(
        [Signal("pdq", QUERY)],
        [Candidates((), truncated=True)],
        {},
        [],
        criteria=CRITERIA,
    )
    assert result.truncated
    assert result.matches == ()
    assert result.handling is Handling.REVIEW


def test_what_was_left_out_is_never_ignored_unless_the_query_is_allowed() -> None:
    left_out = [Candidates([near()], truncated=True)]
    query = [Signal("pdq", QUERY)]
    ignoring = Criteria(Policy((Rule(Handling.IGNORE),)), US)
    named = replace(CRITERIA, allowed=allowing(KNOWN, 0).allowed)
    covered = replace(CRITERIA, allowed=allowing(QUERY, 0).allowed)
    for criteria, evidence, handling in (
        (ignoring, {1: [record(1)]}, Handling.REVIEW),
        (ignoring, {}, Handling.REVIEW),
        (named, {1: [record(1)]}, Handling.REVIEW),
        (CRITERIA, {1: [record(1)]}, Handling.BLOCK),
        (covered, {1: [record(1)]}, Handling.IGNORE),
        (covered, {}, Handling.IGNORE),
    ):
        (result,) = assemble(query, left_out, evidence, [], criteria=criteria)
        assert (result.handling, result.truncated) == (handling, True)


def test_records_that_were_not_even_read_are_said_whatever_the_thresholds() -> None:
    thresholds = Thresholds(31, (("far", 0),))
    criteria = replace(CRITERIA, thresholds=thresholds)
    half = MAX_RECORDS_SHOWN // 2
    records = [record(at, name="near" if at % 2 else "far") for at in range(2 * half)]
    shown = judged(criteria, records)
    assert len(match_of(shown).records) == half
    assert shown.truncated
    found = [Candidates([near()])]
    for cut in (frozenset[int](), frozenset({1})):
        (result,) = assemble(
            [Signal("pdq", QUERY)],
            found,
            {1: records[:4]},
            [],
            criteria=criteria,
            cut=cut,
        )
        assert len(match_of(result).records) == 2
        assert result.truncated == bool(cut)


def test_the_records_of_a_call_are_shared_and_what_decided_is_among_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model, "MAX_RECORDS_A_CALL", 8)
    records = [record(at, review="none") for at in range(1, 6)]
    records += [record(6), record(7, node="hope.example", review="none")]
    results = assemble(
        [Signal("pdq", QUERY)] * 4,
        [Candidates([near()])] * 4,
        {1: records},
        [],
        criteria=CRITERIA,
    )
    for result in results:
        match = match_of(result)
        assert match.decided_by.ref == records[5].ref
        assert match.records == (records[0], records[5])
        assert result.truncated
    (alone,) = assemble(
        [Signal("pdq", QUERY)],
        [Candidates([near()])],
        {1: records},
        [],
        criteria=CRITERIA,
    )
    assert match_of(alone).records == tuple(records)
    assert not alone.truncated


def test_a_signal_is_decided_once_however_many_queries_match_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[MatchFacts] = []

    def counting(policy: Policy, facts: MatchFacts) -> Decision:
        asked.append(facts)
        return decide(policy, facts)

    monkeypatch.setattr(judging, "decide", counting)
    thresholds = Thresholds(31, (("hope.example/*", 5),))
    criteria = flooding(700, replace(CRITERIA, thresholds=thresholds))
    records = [record(1), record(2, node="hope.example")]
    distances = [at % 32 for at in range(960)]
    results = assemble(
        [Signal("pdq", QUERY)] * len(distances),
        [Candidates([near(it)]) for it in distances],
        {1: records},
        [],
        criteria=criteria,
    )
    # Exact, near for both lists, and near for the one that allows more.
    assert len(asked) == 2 + 2 + 1
    assert [len(match_of(it).records) for it in results[:7]] == [2] * 6 + [1]
    assert [match_of(it).distance for it in results] == distances
    assert sum(match_of(it).flooded for it in results) == 260


@pytest.mark.parametrize(
    ("counts", "most"),
    [
        ([], MAX_RECORDS_SHOWN),
        ([10**6] * 200, MAX_RECORDS_SHOWN),
        ([10**6] * 1000, 20),
        ([10**6] * 1000 + [1] * 10_000, 10),
        ([100] * 150 + [101] * 50, MAX_RECORDS_SHOWN),
        ([2] * 15_000, 1),
        ([2] * 30_000, 1),
    ],
)
def test_a_call_s_records_are_shared_evenly(counts: list[int], most: int) -> None:
    assert records_of_each(counts) == most
