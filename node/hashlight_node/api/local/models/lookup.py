"""Asking whether content is known."""

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from hashlight_node.matching.policy import Because
from hashlight_node.model import Handling, OpinionFold

from .wire import Count, HexHash, RefText, Request, Timestamp

MAX_QUERIES = 1000
MAX_DISTANCE = 31

PurposeName = Literal["upload", "scan"]

SignalTypeName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=64,
        pattern=r"^[a-z0-9][a-z0-9_/-]{0,63}$",
        description="Type of the signal; types that are not registered match exactly.",
        examples=["pdq"],
    ),
]
SignalValue = Annotated[
    str,
    Field(
        min_length=1,
        max_length=4096,
        description="The value, for hashes in hexadecimal.",
        examples=["f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22"],
    ),
]


class Query(Request):
    """One signal to look up."""

    type: SignalTypeName
    value: SignalValue


class LookupRequest(Request):
    """Signals to look up, together."""

    queries: Annotated[list[Query], Field(min_length=1, max_length=MAX_QUERIES)]
    max_distance: Annotated[
        int | None,
        Field(
            ge=0,
            le=MAX_DISTANCE,
            description="Only matches at most this far; types that match by equality "
            "are not affected.",
        ),
    ] = None
    as_of: Annotated[
        Timestamp | None,
        Field(
            description="Answer from what was live then, as far as not erased since. "
            "With it at most 10 `queries`."
        ),
    ] = None
    purpose: Annotated[
        PurposeName,
        Field(
            description="With `scan`, for what was stored before, matches neither "
            "count for `flood_matches` nor enter the match log."
        ),
    ] = "upload"


class ImageUpload(TypedDict):
    """A form with a picture."""

    image: Annotated[
        str, Field(json_schema_extra={"contentMediaType": "application/octet-stream"})
    ]


class SignalShown(TypedDict):
    """A signal in canonical form."""

    type: str
    value: str


class LabelShown(TypedDict, total=False):
    """One classification of a record, as its author wrote it."""

    scheme: str
    value: str
    jurisdiction: str
    assigned_by: str


Labels = list[LabelShown]


class RecordShown(TypedDict):
    """A live record that asserts the signal: where it came from and what it says."""

    ref: RefText
    list: Annotated[str, Field(description="The list that holds it.")]
    origin_node: Annotated[str, Field(description="The node that published it.")]
    tree_size: Annotated[
        int, Field(description="Size of its log here, signed by its node.")
    ]
    labels: Labels
    source: str
    review: str
    created: Timestamp | None
    quality: Annotated[int | None, Field(description="Of the signal, 0 to 100.")]


HandlingShown = Annotated[
    Handling, Field(description="What this node's policy says to do.")
]


Truncated = Annotated[
    bool,
    Field(
        description="There may be more matches, of which the nearest are here, or more "
        "records of one. If matches were left out, `handling` is `review` at least, "
        "unless the allow list covers the query."
    ),
]


class MatchShown(TypedDict):
    """A known signal that the query matches, with the records that assert it."""

    signal: SignalShown
    distance: Annotated[int, Field(ge=0, description="In bits; 0 if equal.")]
    threshold: Annotated[int, Field(ge=0, description="Largest distance that counts.")]
    opinion: OpinionFold
    handling: HandlingShown
    allowed: Annotated[
        bool,
        Field(description="This node's allow list says that it is harmless."),
    ]
    flooded: Annotated[
        bool, Field(description="The signal matches far too much lately.")
    ]
    rule: Annotated[
        int | None,
        Field(ge=0, description="The policy's rule that applied, counted from 0."),
    ]
    because: Annotated[Because, Field(description="Why `handling` is what it is.")]
    records: list[RecordShown]


class ResultShown(TypedDict):
    """What is known about one query."""

    query: SignalShown
    handling: HandlingShown
    matches: Annotated[list[MatchShown], Field(description="Nearest first.")]
    truncated: Truncated


class BulkResultShown(TypedDict):
    """What is known about one hash of many."""

    index: Annotated[int, Field(ge=0, description="Of the hash in the request.")]
    handling: HandlingShown
    matches: Annotated[list[MatchShown], Field(description="Nearest first.")]
    truncated: Truncated


class ListShown(TypedDict):
    """How current a list is from which this answer was made."""

    origin: str
    tree_size: Count
    root_hash: HexHash
    age_seconds: Annotated[
        int,
        Field(
            ge=0,
            description="Since it was last known to be complete; with `as_of`, since "
            "it reached this state, until then.",
        ),
    ]
    erased_since: NotRequired[
        Annotated[
            int,
            Field(
                ge=0,
                description="With `as_of`: entries that were erased after this state, "
                "of which it is not known any more what they said.",
            ),
        ]
    ]


class LookupAnswer(TypedDict):
    """One result per query, in order."""

    results: list[ResultShown]
    lists: list[ListShown]


class ImageShown(TypedDict):
    """What the picture was looked up by."""

    pdq: HexHash
    quality: Annotated[int, Field(ge=0, le=100)]
    md5: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    sha1: Annotated[str, Field(pattern="^[0-9a-f]{40}$")]
    sha256: HexHash


class ImageLookupAnswer(TypedDict):
    """One result per signal of the picture."""

    image: ImageShown
    results: list[ResultShown]
    lists: list[ListShown]
