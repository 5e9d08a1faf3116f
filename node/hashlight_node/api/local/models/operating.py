"""The node itself: tokens, status, evidence."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from hashlight_node.model import Scope

from .wire import Cursor, Request, Timestamp

ScopeName = Literal["lookup", "publish", "feedback", "audit", "admin"]


class NewToken(Request):
    """A token to be made."""

    label: Annotated[
        str,
        Field(
            min_length=1,
            max_length=100,
            pattern=r"^[^\u0000-\u001f\u007f-\u009f]*$",
            description="Who will use it.",
        ),
    ]
    scopes: Annotated[
        list[ScopeName],
        Field(min_length=1, max_length=5, json_schema_extra={"uniqueItems": True}),
    ]


class TokenDetail(TypedDict):
    """A token, without its secret, which is not kept."""

    id: int
    label: str
    scopes: list[Scope]
    created_at: Timestamp


class TokenCreated(TypedDict):
    """A new token; the only answer that ever shows the secret."""

    id: int
    label: str
    scopes: list[Scope]
    created_at: Timestamp
    token: Annotated[str, Field(description="Send it as `Authorization: Bearer …`.")]


class TokenPage(TypedDict):
    """A page of tokens."""

    tokens: list[TokenDetail]
    next_cursor: Cursor


class EvidenceDetail(TypedDict):
    """What a peer was caught at; the bytes that show it are a resource of its own."""

    id: int
    peer: str
    list: str
    code: str
    what: str
    found_at: Timestamp
    size_bytes: int


class EvidencePage(TypedDict):
    """A page of evidence."""

    evidence: list[EvidenceDetail]
    next_cursor: Cursor


class ForkDetail(TypedDict):
    """A log that forked, a peer's or our own."""

    origin: str
    found_at: Timestamp
    evidence: Annotated[
        str, Field(description="Check it with `hashlight verify`, without a node.")
    ]


class ForkPage(TypedDict):
    """A page of logs that forked."""

    forks: list[ForkDetail]
    next_cursor: Cursor
