"""What must be stored of a leaf, by its entry and its body."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashlight_node.model import RecordState
from hashlight_node.store.applying import columns_of
from hashlight_node.store.meanings import read_meaning
from hashlight_node.store.stored import WithdrawalRow
from hashlight_protocol import (
    BodyStatus,
    EntryKind,
    Erase,
    ProtocolError,
    Retract,
    commit,
    parse_entry,
)

from .fsck_findings import DamageKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hashlight_node.store.meanings import Meaning
    from hashlight_node.store.stored import StoredLeaf

Problem = tuple[DamageKind, str]
"""What is wrong, and more about it in a few words."""

_BESIDE: Mapping[int, frozenset[RecordState]] = {
    BodyStatus.ERASED: frozenset({RecordState.ERASED}),
    BodyStatus.WITHHELD: frozenset(
        {
            RecordState.WITHHELD,
            RecordState.RETRACTED,
            RecordState.SUPERSEDED,
            RecordState.ENDED,
        }
    ),
}
"""States of records without a body, by the status of that."""


def withdrawal_row(raw: bytes, leaf_index: int) -> WithdrawalRow | None:
    """Say what must be remembered of an entry; None of one that takes nothing back."""
    if raw[0] not in {EntryKind.RETRACT, EntryKind.ERASE}:
        return None
    entry = parse_entry(raw, leaf_index=leaf_index)
    if not isinstance(entry, (Retract, Erase)):  # pragma: no cover -- by its kind
        return None
    kind = "erase" if isinstance(entry, Erase) else "retract"
    return WithdrawalRow(leaf_index, kind, entry.first, entry.count, entry.reason)


def problem_of(
    identifier: str, entry: bytes, leaf: StoredLeaf | None
) -> Problem | None:
    """Hold what is stored of a leaf against its entry.

    Args:
        identifier: Id of the list.
        entry: The entry, authentic.
        leaf: What is stored; None if there is no record.

    Returns:
        None if all is as it must be.
    """
    if entry[0] != EntryKind.RECORD:
        if leaf is None:
            return None
        return DamageKind.RECORD, "there is a record where the log has none"
    if leaf is None:
        return DamageKind.RECORD, "the record is missing"
    if leaf.status == BodyStatus.PRESENT:
        return _problem_of_body(identifier, entry[1:], leaf)
    return _problem_of_absent(leaf)


def _problem_of_absent(leaf: StoredLeaf) -> Problem | None:
    if leaf.state not in _BESIDE.get(leaf.status, ()):
        return DamageKind.RECORD, "its state and its status contradict each other"
    if leaf.content_id is not None or leaf.claims or leaf.statement is not None:
        return DamageKind.RECORD, "something is left of a body that is not here"
    return None


def _problem_of_body(
    identifier: str, commitment: bytes, leaf: StoredLeaf
) -> Problem | None:
    try:
        made = commit(identifier, leaf.salt or b"", leaf.body or b"")
    except ProtocolError:
        return DamageKind.BODY, "it is missing or cannot be one"
    if made != commitment:
        return DamageKind.BODY, "it is not what the entry commits to"
    return _problem_of_meaning(read_meaning(leaf.body or b""), leaf)


def _problem_of_meaning(meaning: Meaning, leaf: StoredLeaf) -> Problem | None:
    shown = (meaning.kind, meaning.expires_at, meaning.evidence)
    wrong = {
        "its state does not fit its body": leaf.state not in _states_of(meaning),
        "what is shown of it is not what its body says": (
            (leaf.kind, leaf.expires_at, leaf.evidence) != shown
        ),
        "its signals are not those of its body": (
            leaf.claims != tuple(sorted(meaning.claims, key=repr))
        ),
        "its statement is not that of its body": (
            leaf.statement != _statement_row(meaning)
        ),
    }
    found = next((what for what, is_so in wrong.items() if is_so), None)
    return None if found is None else (DamageKind.RECORD, found)


def _states_of(meaning: Meaning) -> Sequence[RecordState]:
    counts = RecordState.LIVE if meaning.is_valid else RecordState.INVALID
    return (counts, RecordState.RETRACTED, RecordState.SUPERSEDED, RecordState.ENDED)


def _statement_row(meaning: Meaning) -> tuple[object, ...] | None:
    return None if meaning.statement is None else columns_of(meaning.statement)
