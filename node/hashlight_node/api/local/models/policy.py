"""What the operator decides: the allow list, policies to try, clusters to look at."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from hashlight_node.matching.policy import Because
from hashlight_node.model import Handling

from .lookup import (
    MAX_DISTANCE,
    MAX_QUERIES,
    Query,
    SignalShown,
    SignalTypeName,
    SignalValue,
)
from .wire import Cursor, HexHash, Request, Timestamp

MAX_RULES = 1000

HandlingName = Literal["block", "review", "ignore"]
Pattern = Annotated[str, Field(min_length=1, max_length=400)]


class NewAllowed(Request):
    """A signal that is harmless, whatever a list says of it."""

    type: SignalTypeName
    value: SignalValue
    max_distance: Annotated[
        int,
        Field(
            ge=0,
            le=MAX_DISTANCE,
            description="For `pdq` how far a query may be from it; else 0.",
        ),
    ] = 0
    note: Annotated[
        str,
        Field(
            max_length=500,
            pattern=r"^[^\u0000-\u001f\u007f-\u009f]*$",
            description="Why; for whoever reads the list later.",
        ),
    ] = ""


class AllowedDetail(TypedDict):
    """An entry of the allow list."""

    id: int
    signal: SignalShown
    max_distance: int
    note: str
    created_at: Timestamp


class AllowedPage(TypedDict):
    """A page of the allow list."""

    allowed: list[AllowedDetail]
    next_cursor: Cursor


class PolicyRule(Request):
    """Conditions that must all hold, and what to do then."""

    handling: HandlingName
    list: Annotated[
        Pattern | None,
        Field(description="Pattern of `<node>/<list>`, or of a list's name."),
    ] = None
    label: Annotated[
        Pattern | None, Field(description="Pattern of `<scheme>:<value>`.")
    ] = None
    review: Literal["none", "automated", "human"] | None = None
    opinion: Literal["positive", "seed", "disputed", "negative"] | None = None
    match: Literal["exact", "near"] | None = None


class PolicyDraft(Request):
    """A policy, as in the node's settings."""

    default: HandlingName = "review"
    rules: list[PolicyRule] = Field(default_factory=list, max_length=MAX_RULES)


class PolicyTrial(Request):
    """A policy to try on signals."""

    policy: PolicyDraft
    queries: Annotated[list[Query], Field(min_length=1, max_length=MAX_QUERIES)]


class TriedShown(TypedDict):
    """What one query leads to."""

    query: SignalShown
    now: Annotated[Handling, Field(description="With the policy that counts.")]
    then: Annotated[Handling, Field(description="With the policy that is tried.")]
    matches: Annotated[int, Field(ge=0, description="Known signals it matches.")]
    rule: Annotated[
        int | None, Field(ge=0, description="The tried rule that decided, from 0.")
    ]
    because: Because | None


class HandlingCounts(TypedDict):
    """Queries by handling."""

    block: int
    review: int
    ignore: int


class TrialCounts(TypedDict):
    """Queries by handling, before and after."""

    now: HandlingCounts
    then: HandlingCounts
    changed: Annotated[int, Field(description="Queries with another handling.")]


class TrialAnswer(TypedDict):
    """One result per query, in order; nothing was changed."""

    results: list[TriedShown]
    counts: TrialCounts


class ClusterRequest(Request):
    """A hash whose near duplicates are wanted."""

    type: Literal["pdq"]
    value: HexHash
    max_distance: Annotated[
        int | None,
        Field(ge=0, le=MAX_DISTANCE, description="Between neighbours, in bits."),
    ] = None


class MemberShown(TypedDict):
    """A known hash that hangs together with the one asked about."""

    signal: SignalShown
    distance: Annotated[int, Field(ge=0, description="From the one asked about.")]
    links: Annotated[int, Field(ge=1, description="Steps on the way from there.")]
    records: Annotated[int, Field(description="Live records, at most 100.")]
    lists: Annotated[list[str], Field(description="Each as `<node>/<list>`.")]


class ClusterList(TypedDict):
    """How much of a cluster one list holds."""

    list: Annotated[str, Field(description="`<node>/<list>`.")]
    members: int


class ClusterShown(TypedDict):
    """Known hashes that hang together, each near some other."""

    query: SignalShown
    threshold: Annotated[int, Field(description="Between neighbours, in bits.")]
    members: Annotated[list[MemberShown], Field(description="Fewest links first.")]
    lists: list[ClusterList]
    truncated: Annotated[bool, Field(description="There may be more members.")]
