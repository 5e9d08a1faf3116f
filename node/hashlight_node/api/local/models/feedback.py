"""Opinions and sightings about records."""

from typing import Annotated, Literal

from pydantic import Field

from .records import MAX_SAFE_INTEGER
from .wire import RefText, Request, Timestamp, Token


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
    """What a record led to on our service; becomes a record in our list `sightings`."""

    ref: RefText
    outcome: Annotated[Token, Field(examples=["matched", "blocked", "removed"])]
    count: Annotated[int, Field(ge=1, le=MAX_SAFE_INTEGER)]
    first_at: Timestamp
    last_at: Timestamp
    signal: Annotated[
        Token | None, Field(description="Type of the signal that matched.")
    ] = None
