"""The node at a glance."""

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from hashlight_node.model import FollowState, LogState, PeerState, Role

from .wire import Count, HexHash, Timestamp


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
    grants: Annotated[list[str], Field(description="Our lists that it may fetch.")]
    follows: Annotated[list[str], Field(description="Its lists that we copy.")]
    deliveries: list[DeliveryShown]
    acknowledgements: list[AcknowledgementShown]
    evidence: Annotated[int, Field(description="Pieces of evidence against it.")]


class StatusAnswer(TypedDict):
    """Everything at a glance."""

    node: str
    lists: list[ListStatusShown]
    peers: list[PeerStatusShown]
    signals: Annotated[
        dict[str, int], Field(description="Signals that match today, by type.")
    ]
