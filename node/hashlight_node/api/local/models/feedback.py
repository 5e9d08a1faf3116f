"""Opinions and sightings about records."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from hashlight_node.model import OpinionFold, RecordState

from .records import MAX_SAFE_INTEGER, OpinionShown, SightingTotalShown
from .wire import Cursor, RefText, Request, Timestamp, Token

MAX_SIGHTINGS = 500


class NewOpinion(Request):
    """What we think of a record; becomes a record in our list `feedback`."""

    ref: RefText
    stance: Literal["affirm", "dispute", "unsure"]
    signal: Annotated[
        Token | None, Field(description="Type of the signal that is meant.")
    ] = None
    reason: Annotated[Token | None, Field(examples=["not-abusive"])] = None
    tags: Annotated[list[Token], Field(default_factory=list, max_length=16)]


class NewSighting(Request):
    """What a record led to on our service; added to what our list `sightings` says."""

    ref: RefText
    outcome: Annotated[Token, Field(examples=["matched", "blocked", "removed"])]
    count: Annotated[int, Field(ge=1, le=MAX_SAFE_INTEGER)]
    first_at: Timestamp
    last_at: Timestamp
    signal: Annotated[
        Token | None, Field(description="Type of the signal that matched.")
    ] = None


class NewSightings(Request):
    """What records led to on our service, many at once."""

    sightings: Annotated[
        list[NewSighting], Field(min_length=1, max_length=MAX_SIGHTINGS)
    ]


class SightingsCounted(TypedDict):
    """How many sightings were counted; they are published together, later."""

    counted: int


class RecordFeedbackShown(TypedDict):
    """What all nodes whose feedback reaches us say about a record of ours."""

    ref: RefText
    state: RecordState
    opinion: Annotated[OpinionFold, Field(description="All opinions in one word.")]
    opinions: Annotated[
        list[OpinionShown], Field(description="The newest of each node.")
    ]
    sightings: Annotated[
        list[SightingTotalShown], Field(description="Added up by node and outcome.")
    ]


class FeedbackPage(TypedDict):
    """A page of records, and what is said about them."""

    feedback: list[RecordFeedbackShown]
    next_cursor: Cursor
