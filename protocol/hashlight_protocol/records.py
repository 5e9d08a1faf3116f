"""Records: what one node states about one piece of content, account or address.

The bytes of a record are its identity. They are committed to, stored and passed on as
they came; the values are a view for whoever acts on them. Members that this version
does not know are skipped, so that the format can grow, unless the author listed them in
`crit`.

Source: SPEC.md#records.
"""

import json
from collections.abc import Callable
from typing import Final

from hashlight_protocol.errors import (
    BadRecordError,
    BadSignalError,
    MalformedError,
    UnknownCriticalError,
)
from hashlight_protocol.ijson import JsonValue, parse_ijson
from hashlight_protocol.members import (
    LABEL_VALUE,
    OPAQUE,
    PARTY,
    TEXT,
    TOKEN,
    Members,
    as_member_name,
    as_object,
    as_token,
    read_array,
    read_instant,
    read_integer,
    read_optional_flag,
    read_optional_instant,
    read_optional_integer,
    read_optional_object,
    read_optional_text,
    read_text,
)
from hashlight_protocol.origins import Ref, encode_ref, parse_ref
from hashlight_protocol.record_values import (
    NOT_REVIEWED,
    Indicator,
    Label,
    Opinion,
    OwnRecord,
    Record,
    Review,
    Sighting,
    SignalClaim,
    UnknownRecord,
)
from hashlight_protocol.signals import PDQ_QUALITY_FLOOR, parse_signal
from hashlight_protocol.timestamps import encode_timestamp

__all__ = [
    "MAX_RECORD_BYTES",
    "NOT_REVIEWED",
    "Indicator",
    "Label",
    "Opinion",
    "OwnRecord",
    "Record",
    "Review",
    "Sighting",
    "SignalClaim",
    "UnknownRecord",
    "encode_record",
    "parse_record",
    "parse_record_value",
]

MAX_RECORD_BYTES: Final = 16_384
MAX_SIGNALS: Final = 32
MAX_LABELS: Final = 32
MAX_TAGS: Final = 16
MAX_CRITICAL: Final = 16
MAX_QUALITY: Final = 100
MAX_REVIEWERS: Final = 255

REFUSED_SOURCE: Final = "government"
"""Lists must not become a tool of states; SPEC.md#records says why."""


def parse_record(body: bytes) -> Record:
    """Read the body of an entry.

    A refusal says nothing about the log: the body stays committed to and stored, it
    only has no meaning. One bad record never stops the ones after it.

    Args:
        body: The exact bytes that the log commits to, at most 16,384.

    Returns:
        `UnknownRecord` if `type` is a token that this version does not know.

    Raises:
        TooLargeError: `body` is longer than allowed.
        MalformedError: `body` is not I-JSON.
        BadRecordError: A member is missing or wrong; its pointer says which.
        UnknownCriticalError: `crit` names a member that this version does not know,
            so acting on the rest could do harm.

    Source: SPEC.md#records.
    """
    return parse_record_value(
        parse_ijson(body, max_bytes=MAX_RECORD_BYTES, what="record")
    )


def parse_record_value(value: JsonValue) -> Record:
    """Read the body of an entry that was decoded elsewhere.

    Args:
        value: What `parse_ijson` gives for the body, within the limits that
            `parse_record` sets. Whoever has a quicker decoder answers for that.

    Returns:
        As `parse_record`.

    Raises:
        BadRecordError: As `parse_record`.
        UnknownCriticalError: As `parse_record`.

    Source: SPEC.md#records.
    """
    members = as_object(value)
    record_type = read_text(members, "type", TOKEN)
    known = _TYPES.get(record_type)
    if known is None:
        return UnknownRecord(record_type)
    names, parse = known
    if "crit" in members:
        _refuse_unknown_critical(members, names)
    return parse(members)


def encode_record(record: OwnRecord) -> bytes:
    """Write a record of our own as compact JSON.

    The result is read back before it is returned, so nothing leaves that a peer would
    refuse.

    Raises:
        TooLargeError: The record does not fit into a body.
        MalformedError: A time lies outside the years 1970 to 9999, or a string holds
            what JSON must not carry.
        BadRecordError: Another value is not allowed; the pointer says which.

    Source: SPEC.md#records.
    """
    text = json.dumps(
        _present(_members_of(record)), ensure_ascii=False, separators=(",", ":")
    )
    body = text.encode("utf-8", "surrogatepass")
    parse_record(body)
    return body


def _refuse_unknown_critical(members: Members, known: frozenset[str]) -> None:
    names = read_array(members, "crit", 1, MAX_CRITICAL, as_member_name)
    for position, name in enumerate(names):
        if name not in members or name in names[:position]:
            raise BadRecordError(f"/crit/{position}", "no such member, or named twice")
        if name not in known:
            raise UnknownCriticalError(name)


def _parse_indicator(members: Members) -> Indicator:
    created_at = read_instant(members, "created")
    expires_at = read_optional_instant(members, "expires")
    if expires_at is not None and expires_at <= created_at:
        raise BadRecordError("/expires", "it is not later than created")
    source = read_text(members, "source", TOKEN)
    if source == REFUSED_SOURCE:
        raise BadRecordError("/source", "a government is no source")
    return Indicator(
        signals=_parse_signals(members),
        kind=read_text(members, "kind", TOKEN),
        source=source,
        created_at=created_at,
        labels=read_array(members, "labels", 0, MAX_LABELS, _parse_label),
        review=read_optional_object(members, "review", _parse_review) or NOT_REVIEWED,
        synthetic=read_optional_flag(members, "synthetic"),
        case=read_optional_text(members, "case", OPAQUE),
        expires_at=expires_at,
        replaces=read_optional_integer(members, "replaces", 1),
        share=read_optional_text(members, "share", TOKEN) or "none",
    )


def _parse_signals(members: Members) -> tuple[SignalClaim, ...]:
    claims = read_array(members, "signals", 1, MAX_SIGNALS, _parse_claim)
    if len({claim.signal for claim in claims}) < len(claims):
        raise BadRecordError("/signals", "a signal is repeated")
    return claims


def _parse_claim(value: JsonValue) -> SignalClaim:
    members = as_object(value)
    signal_type = read_text(members, "type", TEXT)
    try:
        signal = parse_signal(signal_type, read_text(members, "value", TEXT))
    except BadSignalError as error:
        raise BadRecordError("", error.reason) from error
    quality = read_optional_integer(members, "quality", 0, MAX_QUALITY)
    if signal_type == "pdq" and quality is not None and quality < PDQ_QUALITY_FLOOR:
        raise BadRecordError("/quality", f"it is below {PDQ_QUALITY_FLOOR}")
    return SignalClaim(signal, quality)


def _parse_label(value: JsonValue) -> Label:
    members = as_object(value)
    return Label(
        scheme=read_text(members, "scheme", TOKEN),
        value=read_text(members, "value", LABEL_VALUE),
        jurisdiction=read_optional_text(members, "jurisdiction", LABEL_VALUE),
        assigned_by=read_optional_text(members, "assigned_by", PARTY),
    )


def _parse_review(value: JsonValue) -> Review:
    members = as_object(value)
    return Review(
        level=read_text(members, "level", TOKEN),
        reviewers=read_optional_integer(members, "reviewers", 1, MAX_REVIEWERS),
    )


def _parse_opinion(members: Members) -> Opinion:
    return Opinion(
        ref=_parse_ref(members),
        stance=read_text(members, "stance", TOKEN),
        signal_type=read_optional_text(members, "signal", TOKEN),
        reason=read_optional_text(members, "reason", TOKEN),
        tags=read_array(members, "tags", 0, MAX_TAGS, as_token),
    )


def _parse_sighting(members: Members) -> Sighting:
    first_at = read_instant(members, "first_at")
    last_at = read_instant(members, "last_at")
    if last_at < first_at:
        raise BadRecordError("/last_at", "it is before first_at")
    return Sighting(
        ref=_parse_ref(members),
        outcome=read_text(members, "outcome", TOKEN),
        count=read_integer(members, "count", 1),
        first_at=first_at,
        last_at=last_at,
        signal_type=read_optional_text(members, "signal", TOKEN),
    )


def _parse_ref(members: Members) -> Ref:
    try:
        return parse_ref(read_text(members, "ref", TEXT))
    except MalformedError as error:
        raise BadRecordError("/ref", error.reason) from error


_INDICATOR_MEMBERS: Final = frozenset(
    {
        "case",
        "created",
        "crit",
        "expires",
        "kind",
        "labels",
        "replaces",
        "review",
        "share",
        "signals",
        "source",
        "synthetic",
        "type",
    }
)
_OPINION_MEMBERS: Final = frozenset(
    {"crit", "reason", "ref", "signal", "stance", "tags", "type"}
)
_SIGHTING_MEMBERS: Final = frozenset(
    {"count", "crit", "first_at", "last_at", "outcome", "ref", "signal", "type"}
)

_TYPES: Final[dict[str, tuple[frozenset[str], Callable[[Members], OwnRecord]]]] = {
    "indicator": (_INDICATOR_MEMBERS, _parse_indicator),
    "opinion": (_OPINION_MEMBERS, _parse_opinion),
    "sighting": (_SIGHTING_MEMBERS, _parse_sighting),
}


def _members_of(record: OwnRecord) -> dict[str, JsonValue]:
    if isinstance(record, Indicator):
        return _indicator_members(record)
    if isinstance(record, Opinion):
        return _opinion_members(record)
    return _sighting_members(record)


def _indicator_members(record: Indicator) -> dict[str, JsonValue]:
    return {
        "type": record.type,
        "signals": [
            _present(
                {
                    "type": claim.signal.type,
                    "value": claim.signal.value,
                    "quality": claim.quality,
                }
            )
            for claim in record.signals
        ],
        "kind": record.kind,
        "labels": [
            _present(
                {
                    "scheme": label.scheme,
                    "value": label.value,
                    "jurisdiction": label.jurisdiction,
                    "assigned_by": label.assigned_by,
                }
            )
            for label in record.labels
        ],
        "source": record.source,
        "review": _present(
            {"level": record.review.level, "reviewers": record.review.reviewers}
        ),
        "synthetic": record.synthetic,
        "case": record.case,
        "created": encode_timestamp(record.created_at),
        "expires": _optional_timestamp(record.expires_at),
        "replaces": record.replaces,
        "share": record.share,
    }


def _opinion_members(record: Opinion) -> dict[str, JsonValue]:
    return {
        "type": record.type,
        "ref": encode_ref(record.ref),
        "signal": record.signal_type,
        "stance": record.stance,
        "reason": record.reason,
        "tags": list(record.tags),
    }


def _sighting_members(record: Sighting) -> dict[str, JsonValue]:
    return {
        "type": record.type,
        "ref": encode_ref(record.ref),
        "signal": record.signal_type,
        "outcome": record.outcome,
        "count": record.count,
        "first_at": encode_timestamp(record.first_at),
        "last_at": encode_timestamp(record.last_at),
    }


def _optional_timestamp(seconds: int | None) -> str | None:
    return None if seconds is None else encode_timestamp(seconds)


def _present(members: dict[str, JsonValue]) -> dict[str, JsonValue]:
    # A missing member and one that is null would be two ways to say the same.
    return {name: value for name, value in members.items() if value is not None}
