"""Other nodes: peers, what we grant them, what we follow of theirs."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from hashlight_node.model import FollowState, PeerState, RecordState

from .wire import Cursor, ListName, PeerName, RefText, Request, Timestamp

IdentityKey = Annotated[
    str,
    Field(
        min_length=1,
        max_length=400,
        pattern=r"^[a-z0-9.-]+\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+$",
        description="Verifier key of the node's identity.",
    ),
]


class NewPeer(Request):
    """A node whose operator gave us its address and identity key by hand."""

    base: Annotated[
        str,
        Field(
            min_length=1,
            max_length=300,
            pattern=r"^https?://[a-z0-9.:\[\]-]+(/[A-Za-z0-9._~-]+)*$",
            examples=["https://hsf.shield.example"],
        ),
    ]
    vkey: IdentityKey


class NewPin(Request):
    """A node that this one does not connect to."""

    vkey: IdentityKey
    descriptor: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=262_144,
            description="Its signed descriptor, which `hashlight descriptor` gives its "
            "operator. Without it nobody can authenticate as this node.",
        ),
    ] = None


class PeerDetail(TypedDict):
    """A pinned node. `base` is empty if it is not known."""

    name: str
    base: str
    vkey: str
    state: PeerState
    is_dialable: bool
    added_at: Timestamp
    contacted_at: Timestamp | None


class PeerPage(TypedDict):
    """A page of peers."""

    peers: list[PeerDetail]
    next_cursor: Cursor


ScopeWord = Annotated[str, Field(min_length=1, max_length=200)]


class NewScope(Request):
    """Which records of a list: those that meet every criterion that is here.

    A criterion that is an empty array is met by no record.
    """

    labels: Annotated[
        list[ScopeWord] | None,
        Field(
            description="It has one of these labels; `ncmec:*` is all that begin so.",
            examples=[["ncmec:*", "iwf:A"]],
        ),
    ] = None
    signals: Annotated[
        list[ScopeWord] | None,
        Field(
            description="It has signals, and all of them are of these types.",
            examples=[["pdq", "md5"]],
        ),
    ] = None
    about: Annotated[
        PeerName | None,
        Field(
            description="It is an opinion or sighting about a record of this node, "
            "which has to be the peer."
        ),
    ] = None


class NewGrant(Request):
    """A peer's right to fetch one of our lists: whole, or as far as a scope goes."""

    peer: PeerName
    list: ListName
    scope: NewScope | None = None
    relay: Annotated[
        bool,
        Field(
            description="Whether the peer may pass on, to those whom its operator "
            "chooses, the records whose `share` is `peers`."
        ),
    ] = False


class GrantDraft(NewGrant):
    """A grant to be tried."""

    examples: Annotated[
        int,
        Field(ge=0, le=1_000, description="Most records to name of each kind."),
    ] = 20


class GrantQuestion(Request):
    """A record, and the peer that may see it."""

    peer: PeerName
    ref: RefText
    scope: Annotated[
        NewScope | None,
        Field(description="Instead of that of the grant which the peer has."),
    ] = None


class ScopeShown(TypedDict, total=False):
    """Which records of a list."""

    labels: list[str]
    signals: list[str]
    about: str


class PeerGrant(TypedDict):
    """A list of ours that a peer may fetch, and how far."""

    list: str
    granted_at: Timestamp
    scope: Annotated[
        ScopeShown | None, Field(description="Null: every record of the list.")
    ]
    relay: bool


class OnePeer(PeerDetail):
    """A pinned node, and what it may fetch of ours."""

    grants: list[PeerGrant]


class GrantDetail(TypedDict):
    """A peer's right to fetch one of our lists."""

    peer: str
    list: str
    granted_at: Timestamp
    scope: Annotated[
        ScopeShown | None, Field(description="Null: every record of the list.")
    ]
    relay: bool


class ShareShown(TypedDict):
    """How many records are shown, and how many are not."""

    shown: int
    hidden: int


class GrantCounts(TypedDict):
    """All records, by what they are and say. Each word is counted once a record."""

    states: dict[str, ShareShown]
    labels: dict[str, ShareShown]
    signal_types: dict[str, ShareShown]
    sources: dict[str, ShareShown]
    about: Annotated[
        dict[str, ShareShown],
        Field(description="Opinions and sightings, by whose records they are about."),
    ]


class GrantExamples(TypedDict):
    """The first records of each kind."""

    shown: list[str]
    hidden: list[str]
    newly_shown: list[str]
    no_longer_shown: list[str]


class GrantPreview(TypedDict):
    """What a peer would see of a list."""

    peer: str
    list: str
    is_granted: Annotated[bool, Field(description="Whether it may fetch it now.")]
    present: Annotated[
        ScopeShown | None,
        Field(description="How far its grant goes now; null: all, or no grant."),
    ]
    proposed: ScopeShown | None
    live: ShareShown
    newly_shown: int
    no_longer_shown: Annotated[
        int, Field(description="It may have them already, and keeps them.")
    ]
    counts: GrantCounts
    examples: GrantExamples


class RecordFactsShown(TypedDict):
    """What a scope looks at in a record."""

    labels: list[str]
    signals: list[str]
    about: str | None


class GrantVerdict(TypedDict):
    """Whether a peer is given a record."""

    peer: str
    ref: str
    state: RecordState
    is_shown: bool
    scope: ScopeShown | None
    facts: Annotated[
        RecordFactsShown | None, Field(description="Null: its body is not here.")
    ]
    obstacles: Annotated[
        list[
            Literal[
                "no-grant",
                "quarantined",
                "erased",
                "no-body",
                "labels",
                "signals",
                "about",
            ]
        ],
        Field(description="Why it is not shown; the last three are its criteria."),
    ]


class GrantPage(TypedDict):
    """A page of grants."""

    grants: list[GrantDetail]
    next_cursor: Cursor


class NewRelay(Request):
    """A peer that may fetch our copy of another node's list."""

    peer: PeerName
    owner: PeerName
    list: ListName


class RelayDetail(TypedDict):
    """A peer that may fetch our copy of another node's list."""

    peer: str
    owner: str
    list: str
    granted_at: Timestamp
    is_allowed: Annotated[
        bool, Field(description="Whether the owner lets us, as it said last.")
    ]


class RelayPage(TypedDict):
    """A page of relays."""

    relays: list[RelayDetail]
    next_cursor: Cursor


class NewFollow(Request):
    """A list of a peer that is copied from now on."""

    peer: PeerName
    list: ListName
    via: Annotated[
        PeerName | None,
        Field(description="The peer that relays it. Null: its owner is asked."),
    ] = None


class FollowDetail(TypedDict):
    """A list of a peer that we copy."""

    peer: str
    list: str
    state: FollowState
    followed_at: Timestamp
    synced_at: Timestamp | None
    error: str | None
    via: str | None
    may_relay: bool
    withheld: Annotated[
        int, Field(description="Records whose bodies we were not given.")
    ]


class FollowPage(TypedDict):
    """A page of follows."""

    follows: list[FollowDetail]
    next_cursor: Cursor


class SyncRequest(Request):
    """Which followed lists to pull: all, those of a peer, or one."""

    peer: PeerName | None = None
    list: ListName | None = None


class SyncedShown(TypedDict):
    """What one pull brought."""

    peer: str
    list: str
    origin: str | None
    state: FollowState
    old_size: int
    new_size: int
    records: int
    retractions: int
    erasures: int
    seconds: float


class SyncFailure(TypedDict):
    """Why one list could not be pulled."""

    peer: str
    list: str
    detail: str


class SyncAnswer(TypedDict):
    """What was pulled, and what failed."""

    synced: list[SyncedShown]
    errors: list[SyncFailure]
