"""From queries to candidates, and from confirmed evidence to an answer."""

import pytest

from hashlight_node.matching.candidates import (
    MAX_CANDIDATES,
    MAX_CANDIDATES_A_CALL,
    Candidate,
    Candidates,
)
from hashlight_node.matching.judging import Criteria, assemble
from hashlight_node.matching.matcher import Matcher
from hashlight_node.matching.policy import Policy, Rule
from hashlight_node.model import (
    Handling,
    OpinionFold,
    RecordEvidence,
    SignalChange,
    StoredOpinion,
)
from hashlight_protocol import Ref, Signal

US = "beta.example"
LOG = "shield.example/hsf/v1/log/ncii/1"
MD5 = "d41d8cd98f00b204e9800998ecf8427e"
KNOWN = "f8" * 32
NEAR = "f9" + "f8" * 31  # 1 bit off
FAR = "00" * 32

BLOCK_ALL = Policy(rules=(Rule(handling=Handling.BLOCK),))


def pdq(value: str) -> Signal:
    return Signal("pdq", value)


def live(signal_id: int, signal_type: str, value: str) -> SignalChange:
    return SignalChange(signal_id, signal_type, value, live=True)


def dead(signal_id: int, signal_type: str, value: str) -> SignalChange:
    return SignalChange(signal_id, signal_type, value, live=False)


def record(
    at: int, *, review: str = "human", node: str = "shield.example"
) -> RecordEvidence:
    return RecordEvidence(
        record_id=at,
        ref=Ref(LOG, at),
        list_name="ncii",
        origin_node=node,
        tree_size=100,
        labels=({"scheme": "ncii", "value": "adult"},),
        source="hotline",
        review=review,
        created_at=1_700_000_000,
        quality=90,
    )


def dispute(node: str, about: int, *, signal_type: str | None = None) -> StoredOpinion:
    ref = Ref(f"{node}/hsf/v1/log/feedback/1", 1)
    return StoredOpinion(node, ref, Ref(LOG, about), signal_type, "dispute", None)


@pytest.fixture
def matcher() -> Matcher:
    matcher = Matcher(pdq_threshold=31)
    matcher.load([(1, "pdq", KNOWN), (2, "md5", MD5), (3, "netclean", "AbC==")])
    return matcher


def found(
    matcher: Matcher, *queries: Signal, max_distance: int | None = None
) -> list[set[int]]:
    candidates = matcher.candidates(queries, max_distance=max_distance)
    return [{it.signal_id for it in some} for some in candidates]


def test_each_query_gets_the_candidates_of_its_type(matcher: Matcher) -> None:
    queries = [
        pdq(NEAR),
        Signal("md5", MD5),
        pdq(FAR),
        pdq(KNOWN),
        Signal("netclean", "abc=="),
    ]
    assert matcher.candidates(queries, max_distance=None) == [
        Candidates([Candidate(1, "pdq", KNOWN, 1, 31)]),
        Candidates([Candidate(2, "md5", MD5, 0, 0)]),
        Candidates(()),
        Candidates([Candidate(1, "pdq", KNOWN, 0, 31)]),
        Candidates(()),
    ]


def test_equal_values_of_different_types_do_not_match(matcher: Matcher) -> None:
    assert found(matcher, Signal("sha256", KNOWN), Signal("netclean", MD5)) == [
        set(),
        set(),
    ]


def test_a_caller_may_narrow_the_distance_and_never_widen_it(matcher: Matcher) -> None:
    assert found(matcher, pdq(NEAR), Signal("md5", MD5), max_distance=0) == [set(), {2}]
    beyond = pdq("07" * 4 + "f8" * 28)  # 32 bits off
    assert found(matcher, beyond, max_distance=200) == [set()]
    at_threshold = pdq("07" * 3 + "06" + "f8" * 28)
    (some,) = matcher.candidates([at_threshold], max_distance=200)
    assert [it.threshold for it in some] == [31]


def test_an_operator_may_allow_exact_matches_only() -> None:
    matcher = Matcher(pdq_threshold=0)
    matcher.load([(1, "pdq", KNOWN)])
    assert found(matcher, pdq(NEAR), pdq(KNOWN)) == [set(), {1}]


def test_what_becomes_live_or_dead_is_found_or_not_at_once(matcher: Matcher) -> None:
    matcher.apply([live(4, "pdq", FAR), live(5, "sha1", "ab" * 20)])
    assert found(matcher, pdq(FAR), Signal("sha1", "ab" * 20)) == [{4}, {5}]
    matcher.apply([dead(4, "pdq", FAR), dead(1, "pdq", KNOWN), dead(2, "md5", MD5)])
    assert found(matcher, pdq(FAR), pdq(KNOWN), Signal("md5", MD5)) == [set()] * 3
    assert matcher.sizes() == {"pdq": 0, "md5": 0, "netclean": 1, "sha1": 1}


def test_applying_a_change_again_alters_nothing(matcher: Matcher) -> None:
    before = matcher.sizes()
    matcher.apply([live(1, "pdq", KNOWN), live(2, "md5", MD5)] * 2)
    matcher.apply([dead(9, "pdq", FAR), dead(9, "md5", "00" * 16)])
    assert matcher.sizes() == before


def test_the_last_change_of_a_commit_counts(matcher: Matcher) -> None:
    matcher.apply([dead(1, "pdq", KNOWN), live(1, "pdq", KNOWN)])
    matcher.apply([live(6, "md5", "00" * 16), dead(6, "md5", "00" * 16)])
    assert found(matcher, pdq(KNOWN), Signal("md5", "00" * 16)) == [{1}, set()]


def test_a_signal_is_told_from_another_by_id_and_value_together(
    matcher: Matcher,
) -> None:
    matcher.apply([dead(1, "pdq", KNOWN), live(1, "pdq", FAR)])
    matcher.apply([dead(2, "md5", MD5), live(7, "md5", MD5), dead(2, "md5", MD5)])
    assert found(matcher, pdq(KNOWN), pdq(FAR), Signal("md5", MD5)) == [set(), {1}, {7}]


def test_a_flood_is_cut_to_the_nearest_and_said_so(matcher: Matcher) -> None:
    matcher.load((at, "pdq", KNOWN) for at in range(10, 10 + 2 * MAX_CANDIDATES))
    queries = [pdq(NEAR), Signal("md5", MD5)]
    candidates = matcher.candidates(queries, max_distance=None)
    assert len(candidates[0]) == MAX_CANDIDATES
    evidence = {2: [record(1)]}
    flood, single = assemble(
        queries,
        candidates,
        evidence,
        [],
        criteria=Criteria(Policy(), US),
    )
    assert flood.truncated
    assert not single.truncated


def test_the_queries_of_a_call_share_its_candidates_and_say_so() -> None:
    matcher = Matcher(pdq_threshold=31)
    matcher.load((at, "pdq", KNOWN) for at in range(10, 10 + MAX_CANDIDATES))
    queries = [pdq(KNOWN)] * 1000
    candidates = matcher.candidates(queries, max_distance=None)
    assert sum(map(len, candidates)) == MAX_CANDIDATES_A_CALL
    criteria = Criteria(BLOCK_ALL, US)
    results = assemble(queries, candidates, {}, [], criteria=criteria)
    assert all(result.truncated for result in results)
    assert {result.handling for result in results} == {Handling.REVIEW}


def near_zero(*bits: int) -> str:
    """Give a hash that differs from zero in these bits."""
    return f"{sum(1 << bit for bit in bits):064x}"


def others(count: int) -> list[Signal]:
    """Give hashes that are near nothing."""
    return [pdq((bytes([at % 256, at // 256, 7, 9]) * 8).hex()) for at in range(count)]


def test_a_few_nearer_signals_hide_nothing_from_a_batch() -> None:
    matcher = Matcher(pdq_threshold=31)
    matcher.load((10 + bit, "pdq", near_zero(bit)) for bit in range(20))
    matcher.load([(1, "pdq", near_zero(100, 101, 102, 103))])
    single = matcher.candidates([pdq(FAR)], max_distance=None)
    batch = matcher.candidates([pdq(FAR), *others(999)], max_distance=None)
    assert batch[0] == single[0]
    assert len(batch[0]) == 21
    assert not any(batch[1:])
    digests = bytes.fromhex("".join(it.value for it in [pdq(FAR), *others(999)]))
    assert matcher.near(digests, max_distance=None) == batch


def test_what_is_left_of_a_call_goes_to_the_first_that_need_it() -> None:
    matcher = Matcher(pdq_threshold=31)
    matcher.load((at, "pdq", FAR) for at in range(10, 10 + 2 * MAX_CANDIDATES))
    queries = [*others(970), *[pdq(FAR)] * 30]
    found = matcher.candidates(queries, max_distance=None)[970:]
    assert sum(map(len, found)) == MAX_CANDIDATES_A_CALL
    sizes = [len(it) for it in found]
    assert sizes[:19] == [MAX_CANDIDATES] * 19
    assert 20 < sizes[19] < MAX_CANDIDATES
    assert sizes[20:] == [20] * 10
    assert all(it.truncated for it in found)


def answered(
    matcher: Matcher,
    query: Signal,
    evidence: dict[int, list[RecordEvidence]],
    *opinions: StoredOpinion,
    policy: Policy = BLOCK_ALL,
) -> tuple[Handling, list[OpinionFold]]:
    candidates = matcher.candidates([query], max_distance=None)
    (result,) = assemble(
        [query],
        candidates,
        evidence,
        opinions,
        criteria=Criteria(policy, US),
    )
    assert result.query == query
    return result.handling, [match.opinion for match in result.matches]


def test_an_answer_shows_the_signal_the_distance_and_every_record(
    matcher: Matcher,
) -> None:
    candidates = matcher.candidates([pdq(NEAR)], max_distance=None)
    records = [record(5), record(9, node="hope.example")]
    (result,) = assemble(
        [pdq(NEAR)],
        candidates,
        {1: records},
        [],
        criteria=Criteria(BLOCK_ALL, US),
    )
    (match,) = result.matches
    assert (match.signal, match.distance, match.threshold) == (pdq(KNOWN), 1, 31)
    assert match.records == tuple(records)
    assert match.opinion is OpinionFold.POSITIVE
    assert match.handling is result.handling is Handling.REVIEW


def test_a_candidate_without_a_live_record_is_no_match(matcher: Matcher) -> None:
    assert answered(matcher, pdq(KNOWN), {}) == (Handling.IGNORE, [])
    assert answered(matcher, pdq(KNOWN), {1: []}) == (Handling.IGNORE, [])


def test_an_exact_match_of_a_reviewed_record_may_be_blocked(matcher: Matcher) -> None:
    positive = [OpinionFold.POSITIVE]
    assert answered(matcher, pdq(KNOWN), {1: [record(5)]}) == (Handling.BLOCK, positive)
    assert answered(matcher, pdq(NEAR), {1: [record(5)]}) == (Handling.REVIEW, positive)


@pytest.mark.parametrize("review", ["none", "automated", "of a later version"])
def test_a_record_nobody_reviewed_is_a_seed(matcher: Matcher, review: str) -> None:
    evidence = {1: [record(5, review=review)]}
    seed = (Handling.REVIEW, [OpinionFold.SEED])
    assert answered(matcher, pdq(KNOWN), evidence) == seed


def test_one_reviewed_record_is_enough(matcher: Matcher) -> None:
    evidence = {1: [record(5, review="none"), record(6)]}
    expected = (Handling.BLOCK, [OpinionFold.POSITIVE])
    assert answered(matcher, pdq(KNOWN), evidence) == expected


def test_a_review_level_of_a_later_version_counts_as_none(matcher: Matcher) -> None:
    policy = Policy(rules=(Rule(review="none", handling=Handling.BLOCK),))
    evidence = {1: [record(5, review="jury")]}
    handling, _ = answered(matcher, pdq(KNOWN), evidence, policy=policy)
    assert handling is Handling.BLOCK


def test_a_peer_s_dispute_of_any_record_lowers_block_to_review(
    matcher: Matcher,
) -> None:
    evidence = {1: [record(5), record(6)]}
    said = dispute("alpha.example", 6)
    expected = (Handling.REVIEW, [OpinionFold.DISPUTED])
    assert answered(matcher, pdq(KNOWN), evidence, said) == expected


def test_our_own_dispute_of_one_record_silences_its_signal(matcher: Matcher) -> None:
    evidence = {1: [record(5), record(6, node="hope.example")]}
    expected = (Handling.IGNORE, [OpinionFold.NEGATIVE])
    assert answered(matcher, pdq(KNOWN), evidence, dispute(US, 5)) == expected
    elsewhere = dispute(US, 77)
    assert answered(matcher, pdq(KNOWN), evidence, elsewhere)[0] is Handling.BLOCK


def test_a_dispute_of_one_type_leaves_the_record_s_other_signals_alone(
    matcher: Matcher,
) -> None:
    said = dispute(US, 5, signal_type="md5")
    evidence = {1: [record(5)], 2: [record(5)]}
    assert answered(matcher, pdq(KNOWN), evidence, said)[0] is Handling.BLOCK
    assert answered(matcher, Signal("md5", MD5), evidence, said)[0] is Handling.IGNORE


def test_the_strictest_match_decides_for_its_query(matcher: Matcher) -> None:
    matcher.apply([live(8, "pdq", NEAR)])
    evidence = {1: [record(5, review="none")], 8: [record(6)]}
    candidates = matcher.candidates([pdq(NEAR)], max_distance=None)
    (result,) = assemble(
        [pdq(NEAR)],
        candidates,
        evidence,
        [],
        criteria=Criteria(BLOCK_ALL, US),
    )
    assert [match.signal.value for match in result.matches] == [NEAR, KNOWN]
    assert [match.handling for match in result.matches] == [
        Handling.BLOCK,
        Handling.REVIEW,
    ]
    assert result.handling is Handling.BLOCK


def test_one_query_and_many_find_the_same(matcher: Matcher) -> None:
    queries = [
        pdq(NEAR),
        Signal("md5", MD5),
        pdq(FAR),
        Signal("netclean", "AbC=="),
        Signal("md5", "00" * 16),
    ]
    together = matcher.candidates(queries, max_distance=None)
    for query, candidates in zip(queries, together, strict=True):
        assert matcher.candidates([query], max_distance=None) == [candidates]


def test_what_one_matcher_exports_another_restores(matcher: Matcher) -> None:
    matcher.apply([dead(2, "md5", MD5), live(8, "sha1", "ab" * 20)])
    other = Matcher(pdq_threshold=31)
    other.restore(matcher.export())
    assert other.sizes() == {"pdq": 1, "netclean": 1, "sha1": 1}
    queries = [pdq(NEAR), Signal("md5", MD5), Signal("sha1", "ab" * 20)]
    assert found(other, *queries) == [{1}, set(), {8}]
    other.apply([live(9, "md5", MD5)])
    assert found(other, Signal("md5", MD5)) == [{9}]
    other.close()


def test_a_load_of_many_signals_is_counted_by_type() -> None:
    matcher = Matcher(pdq_threshold=31)
    matcher.load((at, "md5" if at % 3 else "sha1", f"{at:032x}") for at in range(9000))
    assert matcher.sizes() == {"pdq": 0, "md5": 6000, "sha1": 3000}
    stats = matcher.stats()
    assert (stats.pdq.hashes, stats.exact_count) == (0, 9000)
    assert stats.exact_bytes == 12 * 9000
    assert found(matcher, Signal("md5", f"{8000:032x}")) == [{8000}]
