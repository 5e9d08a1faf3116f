"""What to do with a match: caution unless the operator names the case."""

import dataclasses
from itertools import product

import pytest

from hashlight_node.matching.policy import (
    MatchFacts,
    MatchKind,
    Policy,
    Rule,
    decide,
    strictest,
)
from hashlight_node.model import Handling, OpinionFold

BLOCK, REVIEW, IGNORE = Handling.BLOCK, Handling.REVIEW, Handling.IGNORE

CERTAIN = MatchFacts(
    list="shield.example/ncii",
    labels=("ncii:adult", "iwf:B"),
    review="human",
    opinion=OpinionFold.POSITIVE,
    match=MatchKind.EXACT,
)
NEAR = dataclasses.replace(CERTAIN, match=MatchKind.NEAR)
UNREVIEWED = dataclasses.replace(CERTAIN, review="none", opinion=OpinionFold.SEED)
AUTOMATED = dataclasses.replace(CERTAIN, review="automated", opinion=OpinionFold.SEED)
DISPUTED = dataclasses.replace(CERTAIN, opinion=OpinionFold.DISPUTED)
NEGATIVE = dataclasses.replace(CERTAIN, opinion=OpinionFold.NEGATIVE)
DOUBTS = [NEAR, UNREVIEWED, AUTOMATED, DISPUTED]


def decided(facts: MatchFacts, *rules: Rule, default: Handling = REVIEW) -> Handling:
    return decide(Policy(rules=rules, default=default), facts).handling


@pytest.mark.parametrize("facts", [CERTAIN, *DOUBTS])
def test_without_rules_everything_is_reviewed(facts: MatchFacts) -> None:
    assert decide(Policy(), facts).handling is REVIEW


def test_the_default_blocks_only_what_is_certain() -> None:
    assert decided(CERTAIN, default=BLOCK) is BLOCK
    for doubt in DOUBTS:
        assert decided(doubt, default=BLOCK) is REVIEW
        assert decided(doubt, default=IGNORE) is IGNORE


@pytest.mark.parametrize("facts", DOUBTS)
def test_a_rule_that_does_not_name_the_doubt_blocks_nothing(facts: MatchFacts) -> None:
    whole_list = Rule(list="shield.example/*", label="ncii:*", handling=BLOCK)
    assert decided(CERTAIN, whole_list) is BLOCK
    assert decided(facts, whole_list) is REVIEW


@pytest.mark.parametrize(
    ("facts", "rule"),
    [
        (NEAR, Rule(match=MatchKind.NEAR, handling=BLOCK)),
        (UNREVIEWED, Rule(review="none", handling=BLOCK)),
        (AUTOMATED, Rule(review="automated", handling=BLOCK)),
        (DISPUTED, Rule(opinion=OpinionFold.DISPUTED, handling=BLOCK)),
        (NEGATIVE, Rule(opinion=OpinionFold.NEGATIVE, handling=BLOCK)),
    ],
)
def test_a_rule_that_names_the_doubt_means_it(facts: MatchFacts, rule: Rule) -> None:
    assert decided(facts, rule) is BLOCK


def test_naming_one_doubt_does_not_name_another() -> None:
    both = dataclasses.replace(NEAR, review="none")
    assert decided(both, Rule(match=MatchKind.NEAR, handling=BLOCK)) is REVIEW
    assert decided(both, Rule(review="none", handling=BLOCK)) is REVIEW
    named = Rule(match=MatchKind.NEAR, review="none", handling=BLOCK)
    assert decided(both, named) is BLOCK


def test_what_we_dispute_is_ignored_whatever_rules_say_that_do_not_name_it() -> None:
    assert decided(NEGATIVE, Rule(handling=BLOCK), default=BLOCK) is IGNORE
    later = Rule(opinion=OpinionFold.NEGATIVE, handling=REVIEW)
    assert decided(NEGATIVE, Rule(handling=BLOCK), later) is REVIEW


def test_the_first_rule_that_applies_decides() -> None:
    rules = [Rule(list="a.example/*", handling=IGNORE), Rule(handling=BLOCK)]
    assert decided(CERTAIN, *rules) is BLOCK
    rules.insert(0, Rule(list="shield.example/ncii", handling=REVIEW))
    assert decided(CERTAIN, *rules) is REVIEW


def test_a_rule_may_ignore_without_naming_doubts() -> None:
    for facts in (CERTAIN, *DOUBTS):
        assert decided(facts, Rule(list="ncii", handling=IGNORE)) is IGNORE


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("shield.example/ncii", True),
        ("shield.example/*", True),
        ("*/ncii", True),
        ("ncii", True),
        ("nc*", True),
        ("*", True),
        ("shield.example", False),
        ("SHIELD.example/ncii", False),
        ("shield.example/nc", False),
        ("other.example/*", False),
    ],
)
def test_lists_are_named_by_pattern(pattern: str, fits: bool) -> None:
    assert decided(CERTAIN, Rule(list=pattern, handling=BLOCK)) is (
        BLOCK if fits else REVIEW
    )


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("ncii:*", True),
        ("iwf:B", True),
        ("iwf:?", True),
        ("iwf:A", False),
        ("B", False),
    ],
)
def test_labels_are_named_by_pattern(pattern: str, fits: bool) -> None:
    assert decided(CERTAIN, Rule(label=pattern, handling=BLOCK)) is (
        BLOCK if fits else REVIEW
    )


def test_every_condition_of_a_rule_has_to_hold() -> None:
    whole = Rule(
        handling=BLOCK,
        list="shield.example/ncii",
        label="ncii:adult",
        review="human",
        opinion=OpinionFold.POSITIVE,
        match=MatchKind.EXACT,
    )
    assert decided(CERTAIN, whole) is BLOCK
    for other in (
        dataclasses.replace(whole, list="x.example/ncii"),
        dataclasses.replace(whole, label="iwf:A"),
        dataclasses.replace(whole, review="none"),
        dataclasses.replace(whole, opinion=OpinionFold.SEED),
        dataclasses.replace(whole, match=MatchKind.NEAR),
    ):
        assert decided(CERTAIN, other) is REVIEW


def test_nothing_uncertain_is_blocked_by_rules_that_name_only_lists_and_labels() -> (
    None
):
    patterns = product([None, "*", "ncii"], [None, "*", "iwf:*"])
    rules = [Rule(list=it, label=label, handling=BLOCK) for it, label in patterns]
    for rule, facts in product(rules, DOUBTS):
        assert decided(facts, rule, default=BLOCK) is not BLOCK


def test_the_strictest_of_several_counts() -> None:
    assert strictest([IGNORE, REVIEW, BLOCK, IGNORE]) is BLOCK
    assert strictest([IGNORE, REVIEW]) is REVIEW
    assert strictest([IGNORE]) is IGNORE
    assert strictest([]) is IGNORE
