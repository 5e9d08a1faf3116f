"""Other nodes: peers, what we grant them, what we follow of theirs."""

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from hashlight_node.model import FollowState, PeerState

from .wire import Cursor, ListName, PeerName, Request, Timestamp

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


class NewGrant(Request):
    """A peer's right to fetch one of our lists."""

    peer: PeerName
    list: ListName


class GrantDetail(TypedDict):
    """A peer's right to fetch one of our lists, whole."""

    peer: str
    list: str
    granted_at: Timestamp


class GrantPage(TypedDict):
    """A page of grants."""

    grants: list[GrantDetail]
    next_cursor: Cursor


class NewFollow(Request):
    """A list of a peer that is copied from now on."""

    peer: PeerName
    list: ListName


class FollowDetail(TypedDict):
    """A list of a peer that we copy."""

    peer: str
    list: str
    state: FollowState
    followed_at: Timestamp
    synced_at: Timestamp | None
    error: str | None


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
