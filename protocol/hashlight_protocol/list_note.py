"""List notes: what a node says about one of its lists, to peers that hold a grant.

Source: SPEC.md#list-note.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hashlight_protocol._documents import open_document, sign_document
from hashlight_protocol._objects import JsonObject
from hashlight_protocol._text import encode_base64, parse_hash
from hashlight_protocol.checkpoint import KnownHead
from hashlight_protocol.entries import Meta
from hashlight_protocol.errors import (
    BadKeyError,
    ContradictionError,
    MalformedError,
)
from hashlight_protocol.ijson import JsonValue
from hashlight_protocol.keys import (
    ED25519,
    Signer,
    VerifierKey,
    encode_vkey,
    parse_vkey,
)
from hashlight_protocol.origins import list_id, parse_origin

MAX_LOGS = 1_024
"""Most logs of one list. Source: SPEC.md#limits."""

MAX_LOG_KEYS = 16
"""Most keys of one log. Source: SPEC.md#limits."""

_HEADER = b"hsf-list/v1\n"
_WHAT = "list note"
_META = "META entry"

LogState = Literal["active", "frozen", "abandoned"]
"""Whether a log grows, ended in order, or ended because its key cannot be trusted."""

# A log only ever moves on in this order.
_STATES: tuple[LogState, ...] = ("active", "frozen", "abandoned")


@dataclass(frozen=True, slots=True)
class LogInfo:
    """One log of a list.

    Attributes:
        origin: Name of the log.
        vkeys: Keys that sign its checkpoints; two while one replaces the other.
        state: Whether it grows.
        final: Last state that counts. An abandoned log has one: entries past it are
            undone. An active log has none.

    Source: SPEC.md#list-note.
    """

    origin: str
    vkeys: tuple[VerifierKey, ...]
    state: LogState
    final: KnownHead | None = None


@dataclass(frozen=True, slots=True)
class ListNote:
    """What a node says about one of its lists, to peers that hold a grant.

    Attributes:
        id: Id of the list.
        node: Node name.
        list_name: Name of the list.
        version: Counted up with every change.
        meta: What the list is, for people and policies.
        logs: Its logs by epoch, oldest first, at least 1. Only the last may be active.

    Source: SPEC.md#list-note.
    """

    id: str
    node: str
    list_name: str
    version: int
    meta: Mapping[str, JsonValue]
    logs: tuple[LogInfo, ...]


def sign_list_note(note: ListNote, signer: Signer) -> bytes:
    """Sign a list note with the identity key.

    Returns:
        The note.

    Raises:
        MalformedError: A value cannot stand in a list note.
        BadKeyError: A key is not one of its log.
        TooLargeError: The note would be too large.

    Source: SPEC.md#list-note.
    """
    document = {
        "id": note.id,
        "version": note.version,
        "meta": dict(note.meta),
        "logs": [_log_members(log) for log in note.logs],
    }
    raw = sign_document(_HEADER, document, signer)
    if open_list_note(raw, signer.key) != note:
        raise MalformedError(_WHAT, "it would be read as something else")
    return raw


def _log_members(log: LogInfo) -> dict[str, object]:
    members: dict[str, object] = {
        "origin": log.origin,
        "vkeys": [encode_vkey(key) for key in log.vkeys],
        "state": log.state,
    }
    if log.final is not None:
        root = encode_base64(log.final.root_hash)
        members["final"] = {"size": log.final.tree_size, "root": root}
    return members


def open_list_note(raw: bytes, identity: VerifierKey) -> ListNote:
    """Read a list note that a node's identity key must have signed.

    Whether it follows the one seen before is for `verify_successor`.

    Args:
        raw: The note.
        identity: Identity key, pinned out of band.

    Raises:
        MalformedError: The bytes are not a note about a list of this node.
        TooLargeError: They are too many.
        BadKeyError: A key proves nothing or is not one of its log.
        BadSignatureError: The signature does not hold.
        UnknownKeyError: The identity key did not sign.

    Source: SPEC.md#list-note.
    """
    document = open_document(raw, identity, header=_HEADER, what=_WHAT)
    logs = tuple(map(_parse_log, document.children("logs", most=MAX_LOGS)))
    if not logs:
        raise MalformedError(_WHAT, "logs is empty")
    names = [parse_origin(log.origin) for log in logs]
    node, list_name = names[0].node, names[0].list_name
    identifier = document.string("id")
    if node != identity.name or identifier != list_id(node, list_name):
        raise MalformedError(_WHAT, "it is about a list of another node")
    if any(name.list_id != identifier for name in names):
        raise MalformedError(_WHAT, "a log is not one of the list")
    epochs = [name.epoch for name in names]
    if epochs != sorted(set(epochs)):
        raise MalformedError(_WHAT, "epochs do not go up")
    if any(log.state == "active" for log in logs[:-1]):
        raise MalformedError(_WHAT, "a log before the last one is active")
    return ListNote(
        identifier,
        node,
        list_name,
        document.number("version"),
        document.child("meta").members,
        logs,
    )


def _parse_log(document: JsonObject) -> LogInfo:
    origin = document.string("origin")
    vkeys = tuple(map(parse_vkey, document.strings("vkeys", most=MAX_LOG_KEYS)))
    if any((key.name, key.key_type) != (origin, ED25519) for key in vkeys):
        raise BadKeyError("the key of a log is not named or typed like one")
    if not vkeys or len(set(vkeys)) != len(vkeys):
        raise MalformedError(_WHAT, "vkeys is empty or repeats a key")
    final = document.optional_child("final")
    head = None
    if final is not None:
        root = parse_hash(final.string("root"), _WHAT)
        head = KnownHead(final.number("size"), root)
    return LogInfo(origin, vkeys, _parse_state(document.string("state"), head), head)


def _parse_state(text: str, final: KnownHead | None) -> LogState:
    match text:
        case "active" if final is None:
            return "active"
        case "frozen":
            return "frozen"
        case "abandoned" if final is not None:
            return "abandoned"
        case _:
            raise MalformedError(_WHAT, "state is unknown or does not fit final")


def verify_logs_go_on(old: ListNote, new: ListNote) -> None:
    """Check that a list note takes nothing back that an older one said for good.

    Nothing is said about keys: versions can be missed, so the keys of one version need
    not overlap with those of an older one.

    Args:
        old: The note seen before.
        new: A later one about the same list.

    Raises:
        ContradictionError: A log is gone, is in an earlier state again, or has
            another end; or a log was added that is not behind all others.

    Source: SPEC.md#successions.
    """
    logs = {log.origin: log for log in new.logs}
    for log in old.logs:
        later = logs.pop(log.origin, None)
        if later is None:
            raise ContradictionError(_WHAT, "a log is gone")
        if _STATES.index(later.state) < _STATES.index(log.state):
            raise ContradictionError(_WHAT, "a log is in an earlier state again")
        if log.final not in {None, later.final}:
            raise ContradictionError(_WHAT, "the end of a log moved")
    # What is left is new; the epochs of one note go up.
    if any(log.origin in logs for log in new.logs[: len(old.logs)]):
        raise ContradictionError(_WHAT, "a log was added before another")


def verify_meta(meta: Meta, note: ListNote) -> None:
    """Check that a log begins where its list note says that the one before it ended.

    If the log before is frozen without `final`, only its name is compared; who
    followed it knows where it ended.

    Args:
        meta: First entry of the log, which names the log.
        note: Newest list note.

    Raises:
        MalformedError: The log is not one of the list note.
        ContradictionError: The first log continues another, or a later one does not
            continue the one before it from its end.

    Source: SPEC.md#successions.
    """
    origins = [log.origin for log in note.logs]
    if meta.origin not in origins:
        raise MalformedError(_META, "its log is not in the list note")
    position = origins.index(meta.origin)
    before = note.logs[position - 1] if position else None
    if before is None and meta.prev is None:
        return
    if before is None or meta.prev is None:
        raise ContradictionError(_META, "the first log continues none, each other does")
    if meta.prev.origin != before.origin:
        raise ContradictionError(_META, "it does not continue the log before it")
    prev = KnownHead(meta.prev.tree_size, meta.prev.root_hash)
    if before.final not in {None, prev}:
        raise ContradictionError(_META, "it does not begin where the log before ended")
