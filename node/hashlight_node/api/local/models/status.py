"""The node at a glance."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from hashlight_node.exchange.operating.alerts import AlertCode, Severity
from hashlight_node.model import FollowState, LogState, PeerState, Role

from .deliveries import StandingShown
from .peering import PeerGrant
from .wire import Count, HexHash, Timestamp

FreshnessName = Literal["fresh", "warn", "no-relay", "stale"]


class CopyingShown(TypedDict):
    """A copy that is being made."""

    size: Annotated[int, Field(description="Entries that are stored and applied.")]
    target_size: Annotated[int, Field(description="Entries there will be.")]
    entries_per_second: Annotated[
        int, Field(description="Since it was begun, or went on after a pause.")
    ]
    seconds_left: Annotated[
        int | None,
        Field(description="What the rest takes at that pace. Null: not known yet."),
    ]


class ListStatusShown(TypedDict):
    """One list, own or followed."""

    origin: str
    node: Annotated[str, Field(description="The node that publishes it.")]
    name: str
    role: Role
    state: LogState
    size: Count
    checkpoint_size: Count
    root_hash: HexHash
    follow_state: FollowState | None
    lag_seconds: Annotated[
        int | None,
        Field(description="Since the copy was last known to be complete."),
    ]
    error: str | None
    freshness: Annotated[
        FreshnessName,
        Field(description="What the copy may still be used for; `fresh` for our own."),
    ]
    copying: Annotated[
        CopyingShown | None,
        Field(description="How far the copy is. Null if none is being made."),
    ]


class AlertShown(TypedDict):
    """Something that an operator has to be told."""

    severity: Severity
    code: AlertCode
    peer: str
    list: str
    origin: str
    age_seconds: Count
    detail: str


class DeliveryShown(TypedDict):
    """A peer has seen our list up to this size, and signed that."""

    origin: str
    tree_size: Count
    cosigned_at: Timestamp


class AcknowledgementShown(TypedDict):
    """A peer has applied our list up to this size, and signed that."""

    origin: str
    tree_size: Count
    acknowledged_at: Timestamp


class PeerStatusShown(TypedDict):
    """One peer, and where the exchange with it stands."""

    name: str
    base: str
    state: PeerState
    contacted_at: Timestamp | None
    clock_offset_seconds: Annotated[
        int | None,
        Field(
            description="How far its clock is ahead of ours, negative if it is behind, "
            "as it says when it refuses the time of our signature. Null if it takes it."
        ),
    ]
    grants: Annotated[
        list[PeerGrant], Field(description="Our lists that it may fetch, and how far.")
    ]
    follows: Annotated[list[str], Field(description="Its lists that we copy.")]
    deliveries: list[DeliveryShown]
    acknowledgements: list[AcknowledgementShown]
    evidence: Annotated[int, Field(description="Pieces of evidence against it.")]
    lists: Annotated[
        list[StandingShown], Field(description="Where it stands with our lists.")
    ]


class StatusAnswer(TypedDict):
    """Everything at a glance."""

    node: str
    lists: list[ListStatusShown]
    peers: list[PeerStatusShown]
    behind_relays: Annotated[
        list[StandingShown], Field(description="Nodes that get our lists from peers.")
    ]
    alerts: list[AlertShown]
    signals: Annotated[
        dict[str, int], Field(description="Signals that match today, by type.")
    ]
