"""What a body means for lookups; the only reader of bodies in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from hashlight_node.store.bodies import read_record
from hashlight_node.store.shapes import Shapes
from hashlight_protocol import (
    Indicator,
    Opinion,
    ProtocolError,
    Sighting,
    UnknownRecord,
)

if TYPE_CHECKING:
    from hashlight_protocol import Record


class Meaning(NamedTuple):
    """What is kept of a body beside its bytes.

    A tuple, like all values here that are made once for each record: a sync makes them
    by the ten thousand a second.

    Attributes:
        kind: `indicator`, `opinion`, `sighting` or `unknown`.
        is_valid: Whether it is a record at all.
        evidence: What a lookup shows of an indicator, as JSON; else empty.
        expires_at: When an indicator stops counting.
        replaces: Leaf index that an indicator says it replaces.
        claims: Type, value and quality of each signal of an indicator.
        statement: An opinion or sighting.
    """

    kind: str = "unknown"
    is_valid: bool = True
    evidence: str = ""
    expires_at: int | None = None
    replaces: int | None = None
    claims: tuple[tuple[str, str, int | None], ...] = ()
    statement: Opinion | Sighting | None = None


NOTHING: Final = Meaning()
"""Of a body that is not there."""

_LABEL_MEMBERS: Final = ("scheme", "value", "jurisdiction", "assigned_by")

_INVALID: Final = Meaning(is_valid=False)


def read_meaning(body: bytes) -> Meaning:
    """Read a body that a log commits to; whatever it holds, it has a meaning.

    A body that is no record is kept, served and withdrawn like the others, so that one
    node's mistake never stops its list. It only matches nothing.
    """
    known = known_meaning(body)
    return _read(body) if known is None else known


def require_meaning(body: bytes) -> Meaning:
    """Read a body that is to become part of a log.

    Raises:
        ProtocolError: It is no record.
    """
    known = known_meaning(body)
    return meaning_of(read_record(body)) if known is None else known


def known_meaning(body: bytes) -> Meaning | None:
    """Give what a body means if it is an indicator like others that came before.

    Returns:
        None if it has to be read; it may then be no record at all.
    """
    return _SHAPES.meaning(body)


def _read(body: bytes) -> Meaning:
    try:
        return meaning_of(read_record(body))
    except ProtocolError:
        return _INVALID


_SHAPES: Final = Shapes(_read)
"""What was read before, as a cache of a function is: nobody can tell but by time."""


def meaning_of(record: Record) -> Meaning:
    """Give what a record means that was read already."""
    match record:
        case Indicator():
            return _meaning_of_indicator(record)
        case Opinion() | Sighting():
            return Meaning(record.type, statement=record)
        case UnknownRecord():
            return NOTHING


def shown(evidence: str) -> tuple[tuple[dict[str, object], ...], str, str, int]:
    """Read what `Meaning.evidence` holds.

    Returns:
        Labels, source, review level and time of creation.
    """
    labels, source, review, created_at = orjson.loads(evidence)
    return tuple(map(_label_of, labels)), source, review, created_at


def _meaning_of_indicator(record: Indicator) -> Meaning:
    labels = [
        (label.scheme, label.value, label.jurisdiction, label.assigned_by)
        for label in record.labels
    ]
    evidence = (labels, record.source, record.review.level, record.created_at)
    claims = [(it.signal.type, it.signal.value, it.quality) for it in record.signals]
    return Meaning(
        record.type,
        evidence=orjson.dumps(evidence).decode(),
        expires_at=record.expires_at,
        replaces=record.replaces,
        claims=tuple(claims),
    )


def _label_of(values: list[str | None]) -> dict[str, object]:
    members = zip(_LABEL_MEMBERS, values, strict=True)
    return {name: value for name, value in members if value is not None}
