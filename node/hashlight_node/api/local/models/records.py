"""Records: how they look when they are published, and what is told about them.

The protocol's `parse_record` decides what a record is, for our own as for everybody's.
The shapes here describe the same to people and programs; a test holds the two together.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from hashlight_node.model import OpinionFold, PeerState, RecordState

from .wire import RefText, Timestamp, Token

MAX_RECORDS = 1000
MAX_SAFE_INTEGER = 2**53 - 1

LabelValue = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_:/-]{0,63}$")]
Positive = Annotated[int, Field(ge=1, le=MAX_SAFE_INTEGER)]


class SignalClaim(TypedDict):
    """One signal of the content."""

    type: Annotated[Token, Field(examples=["pdq"])]
    value: Annotated[str, Field(min_length=1, max_length=4096)]
    quality: NotRequired[
        Annotated[int, Field(ge=0, le=100, description="At least 50 for pdq.")]
    ]


class LabelClaim(TypedDict):
    """One classification."""

    scheme: Annotated[Token, Field(examples=["ncii"])]
    value: Annotated[LabelValue, Field(examples=["adult"])]
    jurisdiction: NotRequired[Annotated[LabelValue, Field(examples=["GB"])]]
    assigned_by: NotRequired[
        Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._/-]{0,252}$")]
    ]


class ReviewClaim(TypedDict):
    """How thoroughly the content was looked at."""

    level: Annotated[Token, Field(description="none, automated or human.")]
    reviewers: NotRequired[Annotated[int, Field(ge=1, le=255)]]


class IndicatorBody(TypedDict):
    """A statement that signals belong to abusive content."""

    type: Literal["indicator"]
    signals: Annotated[list[SignalClaim], Field(min_length=1, max_length=32)]
    kind: Annotated[Token, Field(examples=["image"])]
    source: Annotated[Token, Field(examples=["person"])]
    created: Timestamp
    labels: NotRequired[Annotated[list[LabelClaim], Field(max_length=32)]]
    review: NotRequired[ReviewClaim]
    synthetic: NotRequired[bool]
    case: NotRequired[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]]
    expires: NotRequired[Timestamp]
    replaces: NotRequired[Positive]
    share: NotRequired[Token]
    crit: NotRequired[list[str]]


class OpinionBody(TypedDict):
    """What a node thinks of another's record."""

    type: Literal["opinion"]
    ref: RefText
    stance: Token
    signal: NotRequired[Token]
    reason: NotRequired[Token]
    tags: NotRequired[Annotated[list[Token], Field(max_length=16)]]
    crit: NotRequired[list[str]]


class SightingBody(TypedDict):
    """What a record led to on its author's service."""

    type: Literal["sighting"]
    ref: RefText
    outcome: Token
    count: Positive
    first_at: Timestamp
    last_at: Timestamp
    signal: NotRequired[Token]
    crit: NotRequired[list[str]]


RecordBody = Annotated[
    IndicatorBody | OpinionBody | SightingBody, Field(discriminator="type")
]
"""A record body as SPEC.md#records defines it; further members are kept."""


class RecordBatch(TypedDict):
    """Records that are published together, all or none."""

    records: Annotated[list[RecordBody], Field(min_length=1, max_length=MAX_RECORDS)]


RecordsBody = RecordBatch | RecordBody
"""One record, or many."""


class OpinionShown(TypedDict):
    """An opinion about a record, by the node whose list holds it."""

    node: str
    ref: RefText
    signal: str | None
    stance: str
    reason: str | None


class SightingShown(TypedDict):
    """What a record led to on a node's service."""

    node: str
    ref: RefText
    signal: str | None
    outcome: str
    count: int
    first_at: Timestamp
    last_at: Timestamp


Opinions = list[OpinionShown]


class RecordDetail(TypedDict):
    """A record, its state here, and what is said about it."""

    ref: RefText
    list: Annotated[str, Field(description="The list that holds it.")]
    node: Annotated[str, Field(description="The node that published it.")]
    state: RecordState
    reason: Annotated[str | None, Field(description="Why it was taken back.")]
    withdrawn_by: Annotated[
        RefText | None, Field(description="The RETRACT or ERASE entry.")
    ]
    applied_at: Timestamp
    withdrawn_at: Timestamp | None
    expires_at: Timestamp | None
    body: Annotated[
        dict[str, Any] | None, Field(description="Null if there is none here.")
    ]
    opinion: OpinionFold
    opinions: Opinions


class ProofShown(TypedDict):
    """Whether somebody has confirmed one withdrawal."""

    state: Literal["acknowledged", "missing"]
    tree_size: Annotated[
        int | None, Field(description="Size of the log that it acknowledged.")
    ]
    acknowledged_at: Timestamp | None
    missing_seconds: Annotated[
        int | None, Field(description="Since the withdrawal was signed, while missing.")
    ]
    note: Annotated[
        str | None,
        Field(
            description="Our checkpoint with the peer's mirror cosignature, for "
            "`hashlight verify NOTE --vkey LOG --cosigner PEER`."
        ),
    ]
    cosigner: Annotated[
        str, Field(description="The peer's mirror key, as far as it is known now.")
    ]


class PeerErasureShown(ProofShown):
    """What a peer confirmed about the ERASE; about the RETRACT if that is all."""

    peer: Annotated[str, Field(description="The peer, or a node behind a relay.")]
    via: Annotated[
        str | None, Field(description="The peer that relays to it; null if none does.")
    ]
    is_granted: Annotated[bool, Field(description="Whether it may fetch the list now.")]
    peer_state: PeerState
    retraction: Annotated[
        ProofShown | None,
        Field(description="About the RETRACT; null if there is none."),
    ]


class ErasureAnswer(TypedDict):
    """Which peers have confirmed by signature that a record was taken back."""

    ref: RefText
    erased_by: Annotated[RefText | None, Field(description="The ERASE entry.")]
    erased_at: Timestamp | None
    retracted_by: Annotated[RefText | None, Field(description="The RETRACT entry.")]
    retracted_at: Timestamp | None
    is_complete: Annotated[
        bool, Field(description="Whether every one of these peers confirmed it.")
    ]
    peers: list[PeerErasureShown]


class WithdrawalAnswer(TypedDict):
    """Reference of the RETRACT or ERASE entry, and who has confirmed it by now."""

    ref: RefText
    is_complete: Annotated[
        bool, Field(description="Whether every one of these peers confirmed it.")
    ]
    peers: list[PeerErasureShown]
