"""What to do with a match: the operator's rules, and the caution that they override.

Nothing is blocked unless the operator says so, and an operator who says "block this
list" is taken to mean exact matches of reviewed, undisputed records. For near
matches, unreviewed or disputed records a rule has to name that very case; otherwise
`block` becomes `review`. What we ourselves dispute is ignored, again unless a rule
names it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from hashlight_node.matching.opinions import REVIEWED
from hashlight_node.model import Handling, OpinionFold

_BY_SEVERITY: Final = (Handling.BLOCK, Handling.REVIEW, Handling.IGNORE)


class MatchKind(StrEnum):
    """How a query matched a signal."""

    EXACT = "exact"
    NEAR = "near"


@dataclass(frozen=True, slots=True)
class Rule:
    """Conditions, of which each that is not None must hold, and what to do then.

    Attributes:
        handling: What to do.
        list: Pattern of `<node>/<list>` with `*` and `?`, for example
            `shield.example/*`; without a slash, of the list's name on any node.
        label: Pattern of `<scheme>:<value>` that one label must fit: `ncii:*`.
        review: Exactly this review level.
        opinion: Exactly this fold of opinions.
        match: Exactly this kind of match.
    """

    handling: Handling
    list: str | None = None
    label: str | None = None
    review: str | None = None
    opinion: OpinionFold | None = None
    match: MatchKind | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """The operator's rules; the first that applies decides.

    Attributes:
        rules: In order.
        default: What to do if none applies.
    """

    rules: tuple[Rule, ...] = ()
    default: Handling = Handling.REVIEW


@dataclass(frozen=True, slots=True)
class MatchFacts:
    """What rules can ask about one record that asserts a matched signal.

    Attributes:
        list: `<node>/<list>` that holds the record.
        labels: Its labels, each as `<scheme>:<value>`.
        review: Its review level.
        opinion: Fold of all opinions about the signal.
        match: How the query matched.
    """

    list: str
    labels: tuple[str, ...]
    review: str
    opinion: OpinionFold
    match: MatchKind


class Because(StrEnum):
    """Why a match is handled as it is."""

    RULE = "rule"
    """The rule says so."""

    DEFAULT = "default"
    """No rule applies."""

    CAUTION = "caution"
    """`block` is meant for certain cases, and nobody named this doubt."""

    OWN_DISPUTE = "own-dispute"
    """We ourselves say that the signal is wrong."""

    ALLOWED = "allowed"
    """The operator's allow list says that it is harmless."""

    FLOODED = "flooded"
    """`block` is not believed of a signal that suddenly matches far too much."""


class Decision(NamedTuple):
    """What policy says about one record that asserts a matched signal.

    Attributes:
        handling: What to do.
        rule: Index of the rule that applied; None if none did.
        because: What made it so.
    """

    handling: Handling
    rule: int | None
    because: Because


def decide(policy: Policy, facts: MatchFacts) -> Decision:
    """Say what to do about a match, judged by one record that asserts it."""
    index, rule = next(
        ((at, it) for at, it in enumerate(policy.rules) if _applies(it, facts)),
        (None, None),
    )
    because = Because.RULE
    if rule is None:
        if facts.opinion is OpinionFold.NEGATIVE:
            return Decision(Handling.IGNORE, None, Because.OWN_DISPUTE)
        rule, because = Rule(handling=policy.default), Because.DEFAULT
    if rule.handling is Handling.BLOCK and not _names_every_doubt(rule, facts):
        return Decision(Handling.REVIEW, index, Because.CAUTION)
    return Decision(rule.handling, index, because)


def severity(handling: Handling) -> int:
    """Give a number by which to sort what to do, the strictest first."""
    return _BY_SEVERITY.index(handling)


def strictest(handlings: Iterable[Handling]) -> Handling:
    """Combine what several records or matches call for; `ignore` if there are none."""
    return min(handlings, key=severity, default=Handling.IGNORE)


def fits_list(pattern: str, list_id: str) -> bool:
    """Tell whether a pattern is of a list, `<node>/<list>`; see `Rule.list`."""
    if "/" not in pattern:
        pattern = f"*/{pattern}"
    return fnmatchcase(list_id, pattern)


def _applies(rule: Rule, facts: MatchFacts) -> bool:
    return (
        rule.opinion in _opinions_meant(facts.opinion)
        and rule.match in {None, facts.match}
        and rule.review in {None, facts.review}
        and (rule.list is None or fits_list(rule.list, facts.list))
        and (
            rule.label is None
            or any(fnmatchcase(label, rule.label) for label in facts.labels)
        )
    )


def _opinions_meant(opinion: OpinionFold) -> set[OpinionFold | None]:
    """Give the conditions that hold: our own "no" has to be overruled by name."""
    return {opinion} if opinion is OpinionFold.NEGATIVE else {None, opinion}


def _names_every_doubt(rule: Rule, facts: MatchFacts) -> bool:
    return (
        (facts.match is MatchKind.EXACT or rule.match is not None)
        and (facts.review == REVIEWED or rule.review is not None)
        and (facts.opinion is not OpinionFold.DISPUTED or rule.opinion is not None)
    )
