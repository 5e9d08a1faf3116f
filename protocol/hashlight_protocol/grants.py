"""Grants: what of a list one peer may fetch.

Entries are for everybody who may fetch the list at all: without them nobody could
verify it. A scope is about bodies. What it does not let through is withheld.

Source: SPEC.md#grants and SPEC.md#scopes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hashlight_protocol._objects import JsonObject, encode_json
from hashlight_protocol.bodies import Body, BodyStatus
from hashlight_protocol.errors import MalformedError, ProtocolError, TooLargeError
from hashlight_protocol.ijson import JsonValue
from hashlight_protocol.members import TOKEN
from hashlight_protocol.origins import is_node_name, list_id, parse_origin
from hashlight_protocol.record_values import Indicator, Record, UnknownRecord
from hashlight_protocol.records import parse_record
from hashlight_protocol.timestamps import encode_timestamp, parse_timestamp

MAX_GRANTS_BYTES: Final = 1024 * 1024
"""Largest answer about a caller's rights. Source: SPEC.md#limits."""

MAX_GRANTS: Final = 1_024
"""Most lists in such an answer. Source: SPEC.md#limits."""

MAX_SCOPE_WORDS: Final = 64
"""Most label patterns, and most signal types, of a scope. Source: SPEC.md#limits."""

_SCOPE = "scope"
_GRANTS = "grants"
_CRITERIA = frozenset({"labels", "signals", "about"})
_ANY = "*"
_SHARED = "peers"
# A scheme and a value of it; a value may end in, or be nothing but, a star.
_PATTERN = re.compile(
    rf"{TOKEN.pattern.pattern}:(?:[A-Za-z0-9][A-Za-z0-9_:/-]{{0,63}}\*?|\*)"
)


@dataclass(frozen=True, slots=True)
class RecordFacts:
    """What a scope looks at in a record.

    Attributes:
        labels: Each as `<scheme>:<value>`.
        signal_types: Types of all its signals.
        about: Node whose record it is about; None if it is about none.

    Source: SPEC.md#scopes.
    """

    labels: frozenset[str] = frozenset()
    signal_types: frozenset[str] = frozenset()
    about: str | None = None


@dataclass(frozen=True, slots=True)
class GrantScope:
    """What a peer may see of a list: records that meet every criterion it has.

    An empty criterion is met by no record. `WHOLE_LIST` has no criteria.

    Attributes:
        labels: The record has a label that matches one of these patterns: a label
            `<scheme>:<value>`, or the beginning of one, not less than
            `<scheme>:`, and a star. None if labels do not matter.
        signals: All signals of the record, and at least one, are of these types.
            None if types do not matter.
        about: The record is about a record of this node. None if that does not matter.

    Raises:
        MalformedError: A pattern, type or node is none.
        TooLargeError: There are too many.

    Source: SPEC.md#scopes.
    """

    labels: frozenset[str] | None
    signals: frozenset[str] | None
    about: str | None

    def __post_init__(self) -> None:
        for words, pattern in (
            (self.labels, _PATTERN),
            (self.signals, TOKEN.pattern),
        ):
            if not all(map(pattern.fullmatch, words or ())):
                raise MalformedError(_SCOPE, "a label or signal type is none")
            if len(words or ()) > MAX_SCOPE_WORDS:
                raise TooLargeError("words of a scope", MAX_SCOPE_WORDS)
        if self.about is not None and not is_node_name(self.about):
            raise MalformedError(_SCOPE, "about is not the name of a node")

    def allows(self, facts: RecordFacts) -> bool:
        """Tell whether the peer may see a record."""
        return (
            self._allows_labels(facts.labels)
            and self._allows_signals(facts.signal_types)
            and self.about in {None, facts.about}
        )

    def _allows_labels(self, labels: frozenset[str]) -> bool:
        return self.labels is None or any(
            _matches(pattern, label) for pattern in self.labels for label in labels
        )

    def _allows_signals(self, types: frozenset[str]) -> bool:
        # A body is shown whole or not at all, so one other signal hides it.
        return self.signals is None or (bool(types) and types <= self.signals)


WHOLE_LIST: Final = GrantScope(labels=None, signals=None, about=None)
"""Every record of the list."""


def _matches(pattern: str, label: str) -> bool:
    if pattern.endswith(_ANY):
        return label.startswith(pattern[:-1])
    return label == pattern


@dataclass(frozen=True, slots=True)
class ListGrant:
    """The right of one peer to fetch one list.

    Attributes:
        list_id: Id of the list.
        granted_at: Since when, Unix seconds.
        scope: Which of its records.
        may_relay: Whether the peer may pass on the records that say so themselves.

    Source: SPEC.md#grants and SPEC.md#relays.
    """

    list_id: str
    granted_at: int
    scope: GrantScope
    may_relay: bool = False


@dataclass(frozen=True, slots=True)
class Grants:
    """All rights of one peer at one node.

    Attributes:
        version: Counted up with every change of them.
        grants: At most one for each list.

    Source: SPEC.md#grants.
    """

    version: int
    grants: tuple[ListGrant, ...]


def facts_of(record: Record | None) -> RecordFacts:
    """Find what a scope looks at in a record.

    Args:
        record: The record; None for a body that is not one.

    Returns:
        Nothing but empty facts if this version cannot read the record, so that only
        `WHOLE_LIST` lets it through.

    Source: SPEC.md#scopes.
    """
    if record is None or isinstance(record, UnknownRecord):
        return RecordFacts()
    if isinstance(record, Indicator):
        return RecordFacts(
            frozenset(f"{label.scheme}:{label.value}" for label in record.labels),
            frozenset(claim.signal.type for claim in record.signals),
        )
    types = () if record.signal_type is None else (record.signal_type,)
    about = record.ref.origin.partition("/")[0]
    return RecordFacts(frozenset(), frozenset(types), about)


def withhold(bodies: Sequence[Body], scope: GrantScope) -> tuple[Body, ...]:
    """Withhold the bodies that a peer may not see; the entries stay as they are.

    Args:
        bodies: A body bundle.
        scope: What the peer may see.

    Returns:
        As many bodies; those that are there and are not let through are withheld.

    Source: SPEC.md#scopes.
    """
    return tuple(
        Body(BodyStatus.WITHHELD)
        if body.status == BodyStatus.PRESENT
        and scope != WHOLE_LIST
        and not scope.allows(facts_of(_record_or_none(body.body)))
        else body
        for body in bodies
    )


def withhold_unshared(bodies: Sequence[Body]) -> tuple[Body, ...]:
    """Withhold what may not be relayed: whatever does not say `peers` itself.

    Args:
        bodies: A body bundle.

    Returns:
        As many bodies; those that are there and are not shared are withheld.

    Source: SPEC.md#mirroring.
    """
    return tuple(
        Body(BodyStatus.WITHHELD)
        if body.status == BodyStatus.PRESENT and not _is_shared(body.body)
        else body
        for body in bodies
    )


def _is_shared(body: bytes) -> bool:
    record = _record_or_none(body)
    return isinstance(record, Indicator) and record.share == _SHARED


def _record_or_none(body: bytes) -> Record | None:
    try:
        return parse_record(body)
    except ProtocolError:
        return None


def encode_scope(scope: GrantScope) -> dict[str, JsonValue] | None:
    """Write a scope as a JSON object; None for `WHOLE_LIST`, which is not written.

    Source: SPEC.md#scopes.
    """
    members: dict[str, JsonValue] = {}
    if scope.labels is not None:
        members["labels"] = [*sorted(scope.labels)]
    if scope.signals is not None:
        members["signals"] = [*sorted(scope.signals)]
    if scope.about is not None:
        members["about"] = scope.about
    return members or None


def parse_scope(value: JsonValue) -> GrantScope:
    """Read a scope; never gives `WHOLE_LIST`.

    Unlike elsewhere, an unknown member is refused: it would be a criterion, and to
    leave out a criterion is to show more.

    Args:
        value: A JSON object.

    Raises:
        MalformedError: It is not a scope, or has no criterion.
        TooLargeError: It has too many words.

    Source: SPEC.md#scopes.
    """
    document = JsonObject(value, _SCOPE)
    if not document.members or not document.members.keys() <= _CRITERIA:
        raise MalformedError(_SCOPE, "it has no criterion, or one that is not known")
    has_about = "about" in document.members
    return GrantScope(
        _words(document, "labels"),
        _words(document, "signals"),
        document.string("about") if has_about else None,
    )


def _words(document: JsonObject, name: str) -> frozenset[str] | None:
    if name not in document.members:
        return None
    words = document.strings(name, most=MAX_SCOPE_WORDS)
    if len(set(words)) != len(words):
        raise MalformedError(_SCOPE, "a word is repeated")
    return frozenset(words)


def encode_grants(grants: Grants) -> bytes:
    """Write the answer to a caller about its own rights.

    Raises:
        MalformedError: A list id, time or number cannot stand in it, or a list occurs
            twice.
        TooLargeError: A limit is exceeded.

    Source: SPEC.md#grants.
    """
    names = [parse_origin(f"{grant.list_id}/1") for grant in grants.grants]
    rows: list[JsonValue] = []
    for name, grant in zip(names, grants.grants, strict=True):
        row: dict[str, JsonValue] = {
            "list": name.list_name,
            "id": grant.list_id,
            "granted": encode_timestamp(grant.granted_at),
        }
        scope = encode_scope(grant.scope)
        if scope is not None:
            row["scope"] = scope
        if grant.may_relay:
            row["relay"] = True
        rows.append(row)
    raw = encode_json({"version": grants.version, "grants": rows})
    if parse_grants(raw, node=names[0].node if names else "") != grants:
        raise MalformedError(_GRANTS, "they would be read as something else")
    return raw


def parse_grants(raw: bytes, *, node: str) -> Grants:
    """Read what a node answers about the caller's rights.

    Args:
        raw: The answer.
        node: Name of the node; its lists are the only ones that it can grant.

    Raises:
        MalformedError: The bytes are no such answer, name a list of another node or
            a list twice, or have a scope that this version does not know.
        TooLargeError: A limit is exceeded.

    Source: SPEC.md#grants.
    """
    document = JsonObject.parse(raw, _GRANTS, max_bytes=MAX_GRANTS_BYTES)
    grants = tuple(
        _parse_grant(row, node) for row in document.children("grants", most=MAX_GRANTS)
    )
    if len({grant.list_id for grant in grants}) != len(grants):
        raise MalformedError(_GRANTS, "a list occurs twice")
    return Grants(document.number("version"), grants)


def _parse_grant(document: JsonObject, node: str) -> ListGrant:
    identifier = document.string("id")
    if identifier != list_id(node, document.string("list")):
        raise MalformedError(_GRANTS, "id is not that of a list of this node")
    scope = WHOLE_LIST
    if "scope" in document.members:
        scope = parse_scope(document.members["scope"])
    granted_at = parse_timestamp(document.string("granted"))
    # Anything else than true, as missing, is no permission.
    may_relay = document.members.get("relay") is True
    return ListGrant(identifier, granted_at, scope, may_relay)
