"""What the models of several resources share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

MAX_INTEGER = 2**63 - 1
"""Largest integer on the wire: what every database holds."""


class Request(BaseModel):
    """Base of every request body: no conversions, no unknown members."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Nothing(Request):
    """An empty object."""


ListName = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9-]{0,63}$",
        description="Name of a list.",
        examples=["ncii"],
    ),
]

PeerName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9.-]+$",
        description="Name of a node.",
        examples=["shield.example"],
    ),
]

RefText = Annotated[
    str,
    Field(
        min_length=1,
        max_length=400,
        pattern=r"^[a-z0-9.-]+/hsf/v1/log/[a-z0-9-]+/[0-9]+#[0-9]+$",
        description="Reference of a record, `<origin>#<index>`.",
        examples=["shield.example/hsf/v1/log/ncii/1#33"],
    ),
]

Token = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9_/-]{0,63}$",
        description="One word of an open vocabulary.",
    ),
]

Timestamp = Annotated[
    str,
    Field(description="RFC 3339 in UTC.", examples=["2026-11-21T09:30:00Z"]),
]

Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]

HexHash = Annotated[
    str, Field(pattern="^[0-9a-f]{64}$", description="32 bytes in hexadecimal.")
]

Cursor = Annotated[
    str | None,
    Field(description="Where the next page starts; null on the last page."),
]


class Fault(TypedDict):
    """One place in a request body that breaks a rule."""

    pointer: Annotated[str, Field(description="JSON pointer (RFC 6901).")]
    detail: Annotated[str, Field(description="The rule.")]


class PeerFault(TypedDict, total=False):
    """What a peer did, of `peer-misbehaved` and `peer-refused`."""

    code: Annotated[str, Field(description="Which rule of SPEC.md it broke.")]
    status: Annotated[int, Field(description="What it answered.")]


class Problem(TypedDict, total=False):
    """Why a request was refused (RFC 9457). Programs act on `type` and `status`."""

    type: Annotated[str, Field(examples=["hsf:invalid-body"])]
    title: str
    status: int
    detail: str
    errors: Annotated[list[Fault], Field(description="Places in the body, if known.")]
    limit: Annotated[int, Field(description="What was exceeded, of `too-large`.")]
    scope: Annotated[str, Field(description="What is needed, of `scope-missing`.")]
    peer: PeerFault
