"""The values of records: what `parse_record` gives and `encode_record` takes.

Instants are integer Unix seconds here and RFC 3339 text in the JSON.

Source: SPEC.md#records.
"""

from dataclasses import dataclass
from typing import ClassVar, Final, TypeAlias

from hashlight_protocol.origins import Ref
from hashlight_protocol.signals import Signal


@dataclass(frozen=True, slots=True)
class SignalClaim:
    """One signal of an indicator.

    Attributes:
        signal: The signal in canonical form.
        quality: 0 to 100 as the hash algorithm reports it, None if not said. For
            `pdq` at least 50.
    """

    signal: Signal
    quality: int | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """One classification.

    Attributes:
        scheme: Whose vocabulary, for example `ncmec`.
        value: A word of it, for example `A1`.
        jurisdiction: Where it holds, for example `GB`; None for everywhere.
        assigned_by: Who decided, a node name or a token; None for the record's node.
    """

    scheme: str
    value: str
    jurisdiction: str | None = None
    assigned_by: str | None = None


@dataclass(frozen=True, slots=True)
class Review:
    """How thoroughly the content was looked at.

    Attributes:
        level: `none`, `automated` or `human`; readers take others for `none`.
        reviewers: People who looked independently, 1 to 255; None if not said.
    """

    level: str
    reviewers: int | None = None


NOT_REVIEWED: Final = Review("none")


@dataclass(frozen=True, slots=True)
class Indicator:
    """A statement that signals belong to abusive content.

    Attributes:
        signals: 1 to 32 different signals of the same content.
        kind: What it is: `image`, `video`, `url`, …
        source: Where the knowledge comes from: `hotline`, `person`, …
        created_at: When the statement was made, Unix seconds.
        labels: Classifications, at most 32.
        review: How thoroughly it was looked at.
        synthetic: Whether it was generated or manipulated; None if not said.
        case: Reference for the pair of nodes that exchange it.
        expires_at: When it stops counting, Unix seconds, later than `created_at`.
        replaces: Leaf index, in the same list, of the record that it supersedes.
        share: `peers` if a receiver may relay it; anything else forbids that.
    """

    type: ClassVar[str] = "indicator"

    signals: tuple[SignalClaim, ...]
    kind: str
    source: str
    created_at: int
    labels: tuple[Label, ...] = ()
    review: Review = NOT_REVIEWED
    synthetic: bool | None = None
    case: str | None = None
    expires_at: int | None = None
    replaces: int | None = None
    share: str = "none"


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a node thinks of another's record.

    Attributes:
        ref: The record.
        stance: `affirm`, `dispute` or `unsure`; readers take others for `unsure`.
        signal_type: Which of the record's signals is meant; None for all.
        reason: Why, as a token.
        tags: Further tokens, at most 16.
    """

    type: ClassVar[str] = "opinion"

    ref: Ref
    stance: str
    signal_type: str | None = None
    reason: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a record led to on the author's service.

    Attributes:
        ref: The record.
        outcome: `matched`, `blocked`, `removed`, `reviewed-not-violating`, …
        count: How often, at least 1.
        first_at: First time, Unix seconds.
        last_at: Last time, Unix seconds, not before `first_at`.
        signal_type: Which of the record's signals matched; None if not said.
    """

    type: ClassVar[str] = "sighting"

    ref: Ref
    outcome: str
    count: int
    first_at: int
    last_at: int
    signal_type: str | None = None


@dataclass(frozen=True, slots=True)
class UnknownRecord:
    """A record of a type that this version does not know: kept, never acted on.

    Attributes:
        type: The type it names.
    """

    type: str


OwnRecord: TypeAlias = Indicator | Opinion | Sighting
"""What this version can write."""

Record: TypeAlias = OwnRecord | UnknownRecord
"""What this version can read."""
