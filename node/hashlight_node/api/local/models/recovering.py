"""Bringing back what a restored backup has lost."""

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from hashlight_node.model import LogState

from .wire import Count, ListName, Request


class RecoverRequest(Request):
    """Which lists, and on whose word."""

    list: ListName | None = None
    no_peers: Annotated[
        bool,
        Field(
            description="Sign the list again although no peer confirms what is here. "
            "Only where it is not known what was signed last; needs `list`."
        ),
    ] = False
    next_epoch: Annotated[
        bool,
        Field(
            description="Go on in a new log if not all can be brought back; the old "
            "one ends with what we have and no peer contradicts. Needs `list`."
        ),
    ] = False


class RecoveredShown(TypedDict):
    """How one list of ours stands."""

    name: str
    origin: str
    state: LogState
    old_size: Annotated[int, Field(description="Entries that were here before.")]
    new_size: Count
    signed_size: Annotated[
        int | None,
        Field(description="What was signed last; null if nobody knows yet."),
    ]
    missing_bodies: Annotated[
        int, Field(description="Records whose content no peer gave back.")
    ]
    answered: Annotated[list[str], Field(description="Peers that had seen the list.")]
    problems: list[str]


class RecoverAnswer(TypedDict):
    """How every list that was asked for stands."""

    lists: list[RecoveredShown]
