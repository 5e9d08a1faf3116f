"""What a node is asked and what it answers, as frozen values.

Members that a later node adds are ignored, so an older client goes on working.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

Handling = Literal["block", "review", "ignore"]
"""What the node's policy says to do."""

Opinion = Literal["positive", "seed", "disputed", "negative"]
"""All opinions about a signal in one word."""

ChangeKind = Literal["live", "dead"]

Reason = Literal[
    "unspecified", "withdrawn", "false-positive", "expired", "superseded", "compromise"
]
"""Why a record is taken back."""

Stance = Literal["affirm", "dispute", "unsure"]

Purpose = Literal["upload", "scan"]
"""Whether a lookup is about content that came in just now, or was stored before."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A hash, an address or another matchable value.

    Attributes:
        type: For example `pdq`, `md5`, `sha256`, `url`.
        value: For hashes in hexadecimal.
    """

    type: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Signal:
        """Read `TYPE:VALUE`; the value may hold colons.

        Raises:
            ValueError: There is no type, or no value.
        """
        type_name, _, value = text.partition(":")
        if not type_name or not value:
            message = "a signal is written TYPE:VALUE"
            raise ValueError(message)
        return cls(type_name, value)


@dataclass(frozen=True, slots=True)
class Label:
    """One classification of a record, as its author wrote it."""

    scheme: str
    value: str
    jurisdiction: str | None = None
    assigned_by: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A live record that asserts a signal: where it came from and what it says.

    Attributes:
        ref: `<origin>#<index>`, unique for ever.
        list: The list that holds it.
        origin_node: The node that published it.
        tree_size: Size of its log at our node, signed by its own.
        labels: Its classifications.
        source: Who reported the content.
        review: How thoroughly the content was looked at.
        created_at: When its author says that it was made.
        quality: Of the signal, 0 to 100, if its type has one.
        expires_at: When it stops counting; only exports tell.
    """

    ref: str
    list: str
    origin_node: str
    tree_size: int
    labels: tuple[Label, ...]
    source: str
    review: str
    created_at: datetime | None
    quality: int | None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """A known signal that a query matches, with the records that assert it.

    Attributes:
        signal: The known signal.
        distance: In bits; 0 if equal.
        threshold: Largest distance that counts.
        opinion: All opinions about it in one word.
        handling: What policy says to do about this match alone.
        records: At least one.
        allowed: Whether the operator's own allow list covers it.
        flooded: Whether it matched so often lately that `block` became `review`.
        rule: Which rule of the policy applied, counted from 0; None if none did.
        because: What decided: `rule`, `default`, `allowed`, … as docs/local-api.md
            lists them.
    """

    signal: Signal
    distance: int
    threshold: int
    opinion: Opinion
    handling: Handling
    records: tuple[Record, ...]
    allowed: bool = False
    flooded: bool = False
    rule: int | None = None
    because: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What is known about one query.

    Attributes:
        query: In canonical form.
        handling: What to do; the strictest of its matches, `ignore` without any, and
            `review` at least if matches were left out.
        matches: Nearest first.
        truncated: There may be more matches than these.
    """

    query: Signal
    handling: Handling
    matches: tuple[Match, ...]
    truncated: bool

    @property
    def is_known(self) -> bool:
        """Whether anything matches."""
        return bool(self.matches)


@dataclass(frozen=True, slots=True)
class ListState:
    """How current a list was when it was searched.

    Attributes:
        origin: Name of its log.
        tree_size: Entries that its newest checkpoint covers.
        root_hash: Root of that tree, 64 hex digits.
        age_seconds: Time since the copy was last known to be complete.
    """

    origin: str
    tree_size: int
    root_hash: str
    age_seconds: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known about several queries.

    Attributes:
        results: One for each query, in order.
        lists: Everything that was searched, as it was at the first request if there
            were so many queries that they took several.
    """

    results: tuple[Result, ...]
    lists: tuple[ListState, ...]


@dataclass(frozen=True, slots=True)
class ImageHashes:
    """What a picture was looked up by.

    Attributes:
        pdq: 64 hex digits.
        quality: Of the PDQ hash, 0 to 100.
        md5: Of the file.
        sha1: Of the file.
        sha256: Of the file.
    """

    pdq: str
    quality: int
    md5: str
    sha1: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ImageAnswer:
    """What is known about a picture.

    Attributes:
        image: Its hashes, computed by the node.
        results: One for each of them.
        lists: Everything that was searched.
    """

    image: ImageHashes
    results: tuple[Result, ...]
    lists: tuple[ListState, ...]

    @property
    def handling(self) -> Handling:
        """What to do: the strictest of all results."""
        return strictest(result.handling for result in self.results)


@dataclass(frozen=True, slots=True)
class BulkMatch:
    """A hash of a bulk lookup that matched; hashes that did not have none.

    Attributes:
        index: Its place among the hashes that were sent, from 0.
        handling: What to do.
        matches: Nearest first.
        truncated: There may be more matches than these.
    """

    index: int
    handling: Handling
    matches: tuple[Match, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class Change:
    """A signal that became live, or that nothing asserts any more.

    Attributes:
        id: Where the feed is resumed after it; says of which history of the node.
        kind: `live` or `dead`.
        signal_id: Names the signal in the snapshot and in earlier changes.
        signal: Only of `live`: what died may have been erased.
    """

    id: str
    kind: ChangeKind
    signal_id: int
    signal: Signal | None


@dataclass(frozen=True, slots=True)
class Current:
    """Whoever knows all changes up to here knew everything, at some moment.

    Attributes:
        id: Of the last change.
        pdq_threshold: Largest distance at which PDQ hashes match at this node.
        clock_ms: When that was, by a clock of the node; only differences within one
            connection mean something.
        true_at: The earliest that it can have been, by our clock (`clocks.now`). Not
            when it was read: it may have lain in a buffer for long.
    """

    id: str
    pdq_threshold: int
    clock_ms: int
    true_at: float = float("-inf")


@dataclass(frozen=True, slots=True)
class ExportedSignal:
    """A live signal with records that assert it.

    A signal with very many records comes in several, one right after the other.
    """

    signal: Signal
    records: tuple[Record, ...]


_STRICTNESS: Final[dict[Handling, int]] = {"ignore": 0, "review": 1, "block": 2}


def strictest(handlings: Iterable[Handling]) -> Handling:
    """Give the strictest of several handlings; `ignore` if there are none."""
    return max(handlings, key=_STRICTNESS.__getitem__, default="ignore")
