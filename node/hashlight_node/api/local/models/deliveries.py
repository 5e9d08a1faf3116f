"""What peers have seen and applied of our lists, by their signatures."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from hashlight_node.model import PeerState
from hashlight_node.store.delivery_history import Signed

from .wire import Count, Cursor, Timestamp


class ProgressShown(TypedDict):
    """How far a peer is with a list of ours."""

    tree_size: Annotated[
        int, Field(ge=0, description="Up to which size; 0 for nothing.")
    ]
    at: Annotated[Timestamp | None, Field(description="When it signed that first.")]
    lag_records: Annotated[int, Field(ge=0, description="Entries that it lacks.")]
    lag_seconds: Annotated[
        int, Field(ge=0, description="Since the oldest of them was signed; 0 if none.")
    ]


class OverdueShown(TypedDict):
    """The oldest withdrawal that a peer has not confirmed."""

    entry: Annotated[str, Field(description="The RETRACT or ERASE entry.")]
    kind: Literal["retract", "erase"]
    age_seconds: Count


class StandingShown(TypedDict):
    """Where a peer stands with a list of ours."""

    peer: Annotated[str, Field(description="The peer, or a node behind a relay.")]
    via: Annotated[
        str | None, Field(description="The peer that relays to it; null if none does.")
    ]
    peer_state: PeerState
    is_granted: Annotated[bool, Field(description="Whether it may fetch the list now.")]
    origin: str
    delivered: Annotated[
        ProgressShown | None,
        Field(description="What it has seen, by its witness key; null behind a relay."),
    ]
    applied: Annotated[
        ProgressShown,
        Field(description="What it has stored and applied, by its mirror key."),
    ]
    lag_records: Annotated[int, Field(ge=0, description="That of `applied`.")]
    lag_seconds: Annotated[int, Field(ge=0, description="That of `applied`.")]
    heartbeat_at: Annotated[
        Timestamp | None,
        Field(description="When it last signed the newest size that it has seen."),
    ]
    unacknowledged: Annotated[
        OverdueShown | None,
        Field(description="The oldest withdrawal that it has not confirmed."),
    ]


class StandingPage(TypedDict):
    """A page of peers that have a list of ours, or may have it."""

    deliveries: list[StandingShown]
    next_cursor: Cursor


class SignedNoteShown(TypedDict):
    """One checkpoint of ours with one cosignature of the peer."""

    kind: Annotated[
        Signed,
        Field(description="Seen (witness key), or stored and applied (mirror key)."),
    ]
    tree_size: Count
    at: Timestamp
    note: Annotated[str, Field(description="Proof to anybody who has both keys.")]
    cosigner: Annotated[
        str, Field(description="The peer's key today; it may have signed with another.")
    ]


class SignedNotePage(TypedDict):
    """A page of what a peer has signed about a list of ours, the newest first."""

    origin: str
    notes: list[SignedNoteShown]
    next_cursor: Cursor
