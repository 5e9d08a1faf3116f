"""Lists and what is published in them."""

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue
from typing_extensions import TypedDict

from hashlight_node.model import LogState, Role

from .wire import (
    MAX_INTEGER,
    Count,
    Cursor,
    HexHash,
    ListName,
    RefText,
    Request,
    Timestamp,
)


class NewList(Request):
    """A list to be started."""

    name: ListName
    meta: Annotated[
        dict[str, JsonValue],
        Field(
            default_factory=dict,
            max_length=32,
            description="What peers with a grant are told about the list.",
            examples=[{"title": "Intimate images reported by the people in them"}],
        ),
    ]


class ListDetail(TypedDict):
    """A list of this node or one that it follows, as far as it is verified here."""

    name: str
    node: Annotated[str, Field(description="The node that publishes it.")]
    origin: Annotated[str, Field(description="Its newest log.")]
    epoch: int
    role: Role
    state: LogState
    size: Count
    root_hash: HexHash
    vkey: Annotated[
        str | None,
        Field(description="The newest key that verifies its checkpoints."),
    ]
    vkeys: Annotated[list[str], Field(description="All keys that do.")]
    checkpoint: Annotated[
        str | None, Field(description="Newest signed note whose tree is all here.")
    ]
    checkpoint_size: Count
    created_at: Timestamp
    verified_at: Timestamp | None
    lag_seconds: Annotated[
        int, Field(ge=0, description="Since it was last known to be complete.")
    ]
    meta: dict[str, Any]
    error: Annotated[str | None, Field(description="Why it is quarantined.")]


class ListPage(TypedDict):
    """A page of lists."""

    lists: list[ListDetail]
    next_cursor: Cursor


class RefsAnswer(TypedDict):
    """References of what was published, in order."""

    refs: list[RefText]


class RefAnswer(TypedDict):
    """Reference of the entry that was published."""

    ref: RefText


class WithdrawalAnswer(TypedDict):
    """Reference of the entry that takes a record back, and of the record."""

    ref: RefText
    record: Annotated[
        RefText,
        Field(
            description="The record; another than was named if it goes on in a "
            "later log of its list."
        ),
    ]


class NextLog(Request):
    """How the newest log of a list ends."""

    ending: Annotated[
        Literal["frozen", "abandoned"],
        Field(
            description="`frozen`: in order, with its newest checkpoint. `abandoned`: "
            "at an earlier state, because its key or its history was lost."
        ),
    ]
    final_size: Annotated[
        int | None,
        Field(
            ge=1,
            le=MAX_INTEGER,
            description="Entries of an abandoned log that count.",
        ),
    ] = None
    later: Annotated[
        Literal["drop", "keep"],
        Field(description="Whether our own records beyond them are genuine and go on."),
    ] = "drop"


class NextLogAnswer(TypedDict):
    """The log in which a list goes on."""

    origin: str
    ended: Annotated[str, Field(description="The log whose place it takes.")]
    final_size: Count
    final_root: HexHash
    reissued: Annotated[int, Field(ge=0, description="Records that go on.")]


ReasonName = Literal[
    "unspecified", "withdrawn", "false-positive", "expired", "superseded", "compromise"
]


class Retraction(Request):
    """A record that is taken back."""

    ref: RefText
    reason: Annotated[ReasonName, Field(description="Why; peers see it.")]


class Erasure(Request):
    """A record that is taken back and destroyed everywhere."""

    ref: RefText
    reason: Annotated[ReasonName, Field(description="Why; peers see it.")] = "withdrawn"
