"""Explaining what was or would be answered."""

from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from hashlight_node.matching.policy import Because
from hashlight_node.model import OpinionFold, RecordState

from .lookup import (
    HandlingShown,
    ListShown,
    ResultShown,
    SignalShown,
    SignalTypeName,
    SignalValue,
)
from .wire import Count, Cursor, HexHash, RefText, Request, Timestamp

MatchId = Annotated[int, Field(ge=1, description="Names the match in this node.")]

Rule = Annotated[
    dict[str, str], Field(description="The policy's rule as it stands in the settings.")
]

More = Annotated[int, Field(ge=0, description="How many more there are.")]


class ExplainRequest(Request):
    """A signal to be explained."""

    type: SignalTypeName
    value: SignalValue
    as_of: Annotated[
        Timestamp | None,
        Field(description="Explain what would have been answered then."),
    ] = None


class PolicyShown(TypedDict, total=False):
    """What matches are judged by."""

    default: HandlingShown
    rules: list[Rule]
    pdq_threshold: int
    thresholds: list[list[Any]]


class DecisionShown(TypedDict):
    """What decided about one match."""

    signal: SignalShown
    handling: HandlingShown
    rule: Annotated[int | None, Field(ge=0, description="Counted from 0.")]
    rule_text: Rule | None
    because: Because
    ref: Annotated[RefText, Field(description="The record that was judged.")]


class ProofShown(TypedDict):
    """That a record was in its list at a time: an inclusion proof."""

    leaf_index: Count
    tree_size: Count
    root_hash: HexHash
    hashes: Annotated[list[HexHash], Field(description="From the leaf to the root.")]


class ProvenShown(TypedDict):
    """A record behind an answer, as it is now, and the proof of it."""

    ref: RefText
    state: Annotated[
        RecordState | None, Field(description="Null if it is not here any more.")
    ]
    withdrawn_at: Timestamp | None
    receipt: Annotated[
        str | None,
        Field(description="A `.tlog-proof` that `hashlight verify` checks."),
    ]
    problem: Annotated[
        str | None, Field(description="Why there is no receipt, as a problem code.")
    ]
    proof: Annotated[
        ProofShown | None,
        Field(description="For the state of the list then; null if asked about now."),
    ]


class ExplainAnswer(TypedDict):
    """What a lookup says about a signal, and why."""

    result: ResultShown
    lists: list[ListShown]
    policy: PolicyShown
    decisions: list[DecisionShown]
    records: list[ProvenShown]
    more_records: More


class LoggedSignal(TypedDict):
    """A signal that was matched once."""

    signal_id: Annotated[int, Field(ge=1)]
    distance: Count
    threshold: Count
    opinion: OpinionFold
    handling: HandlingShown
    allowed: bool
    flooded: bool
    rule: int | None
    because: Because
    decided_by: RefText
    records: list[RefText]
    more_records: More


class LoggedMatch(TypedDict):
    """A query that matched, as it was written down; without any value."""

    id: MatchId
    matched_at: Timestamp
    request_id: Annotated[
        str | None, Field(description="`X-Request-Id` of the answer that said so.")
    ]
    type: Annotated[str, Field(description="Of the query.")]
    handling: HandlingShown
    matches: list[LoggedSignal]
    more_matches: More
    truncated: bool


class MatchPage(TypedDict):
    """Matches that were written down, oldest first."""

    matches: list[LoggedMatch]
    next_cursor: Cursor


class KnownSignal(TypedDict):
    """A signal that matched, as far as it is still known."""

    signal_id: Annotated[int, Field(ge=1)]
    signal: Annotated[
        SignalShown | None, Field(description="Null if it was erased since.")
    ]
    rule_text: Rule | None


class StateShown(TypedDict):
    """The state of a list when a match was answered."""

    origin: str
    tree_size: Count
    root_hash: HexHash
    applied_at: Timestamp


class ExplainedMatch(TypedDict):
    """A match that was written down, and what it was based on."""

    match: LoggedMatch
    policy: PolicyShown
    signals: list[KnownSignal]
    lists: list[StateShown]
    records: list[ProvenShown]
    more_records: More
