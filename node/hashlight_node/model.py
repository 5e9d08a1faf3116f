"""The values that travel between the parts of a node.

Plain frozen values: the store makes them out of rows, use cases and handlers
read them, nobody hands out rows. What is defined by the wire protocol (entries,
records, checkpoints, references) lives in `hashlight_protocol` and is used from
there. Instants are integer Unix seconds and end in `_at`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from hashlight_protocol import WHOLE_LIST

if TYPE_CHECKING:
    from hashlight_protocol import BodyStatus, GrantScope, Reason, Ref, Signal


Clock = Callable[[], int]
"""Gives the current time in whole Unix seconds; injected so that tests own time."""

MAX_RECORDS_SHOWN = 100
"""Records shown for one signal, every list's oldest first; an answer that reaches it
says `truncated`. One peer could otherwise make every lookup of a signal expensive by
asserting it a million times."""

MAX_RECORDS_A_CALL = 20_000
"""Records judged and shown in one call, of all its signals together; beyond one of each
list, which is there in any case."""


def records_of_each(counts: Iterable[int]) -> int:
    """Tell how many records of each of some signals or matches a call can have.

    Args:
        counts: How many records each has.

    Returns:
        1 to `MAX_RECORDS_SHOWN`, the same for all: whoever has fewer leaves the rest to
        the others, and `MAX_RECORDS_A_CALL` is kept, unless there are more that have
        any.
    """
    left, having = MAX_RECORDS_A_CALL, sorted(counts)
    for at, count in enumerate(having):
        each = left // (len(having) - at)
        if each < count:
            return max(1, min(each, MAX_RECORDS_SHOWN))
        left -= min(count, MAX_RECORDS_SHOWN)
    return MAX_RECORDS_SHOWN


def signal_digest(signal_type: str, value: str) -> int:
    """Give the number under which a signal is found: 64 bits, signed.

    Values may share a digest, and somebody may look for two that do. Whoever finds
    something by it compares type and value before using it.
    """
    digest = hashlib.sha256(f"{signal_type}\0{value}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


class Purpose(StrEnum):
    """What a lookup is for.

    Only an upload is a match that happened: the flood breaker counts it, and the match
    log has it. Whoever goes through what is stored already asks for a scan.
    """

    UPLOAD = "upload"
    SCAN = "scan"


class Role(StrEnum):
    """Whether we write a log or copy it."""

    OWN = "own"
    FOLLOWED = "followed"


class LogState(StrEnum):
    """What may still happen to a log; a quarantined one serves what it had.

    A copy is stale that nobody confirmed for so long that its records match no more;
    the sync that confirms it again ends that.
    """

    ACTIVE = "active"
    FROZEN = "frozen"
    ABANDONED = "abandoned"
    QUARANTINED = "quarantined"
    STALE = "stale"
    # Of our own only: the database is older than what we signed, or may be.
    ROLLED_BACK = "rolled-back"
    UNCONFIRMED = "unconfirmed"


class RecordState(StrEnum):
    """Whether lookups may use a record; only `LIVE` ones match.

    One that is `ENDED` is in a log that ended. It may go on in the next.
    """

    LIVE = "live"
    RETRACTED = "retracted"
    ERASED = "erased"
    SUPERSEDED = "superseded"
    WITHHELD = "withheld"
    INVALID = "invalid"
    ENDED = "ended"


class PeerState(StrEnum):
    """Whether we talk to a peer."""

    ACTIVE = "active"
    QUARANTINED = "quarantined"


class FollowState(StrEnum):
    """Where following one list of a peer stands."""

    WAITING = "waiting"
    ACTIVE = "active"
    QUARANTINED = "quarantined"


class Handling(StrEnum):
    """What local policy says to do with a match."""

    BLOCK = "block"
    REVIEW = "review"
    IGNORE = "ignore"


class OpinionFold(StrEnum):
    """All opinions about a signal, folded into one word."""

    POSITIVE = "positive"
    SEED = "seed"
    DISPUTED = "disputed"
    NEGATIVE = "negative"


class Scope(StrEnum):
    """What a bearer token of the local API allows."""

    LOOKUP = "lookup"
    PUBLISH = "publish"
    FEEDBACK = "feedback"
    AUDIT = "audit"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Log:
    """One log, own or followed, as far as it is verified and applied here.

    Attributes:
        tree_size: Entries stored and applied, each verified.
        root_hash: Root of the tree of that size, 32 bytes.
        checkpoint: Newest signed note whose whole tree is stored, None at first.
        checkpoint_size: Its tree size; at most `tree_size`.
        mirror_checkpoint: `checkpoint` with our mirror cosignature (followed logs).
        error: What an operator should know, for example why it is quarantined.
        counts_from: Since when lookups use its records; None if it goes on an older
            log and is not whole yet.
        counts_until: When it ended and another log took its place; None if it has not.
        doubted_at: Since when the clock has been before `verified_at`, by that clock;
            None while it is not. See `exchange.following.freshness`.
        stale_at: When the log became `LogState.STALE`; None if it is not.
    """

    log_id: int
    origin: str
    node: str
    list_name: str
    epoch: int
    role: Role
    state: LogState
    tree_size: int
    root_hash: bytes
    checkpoint: bytes | None
    checkpoint_size: int
    mirror_checkpoint: bytes | None
    verified_at: int | None
    created_at: int
    list_note: bytes | None
    list_note_version: int
    meta: Mapping[str, object]
    error: str | None
    counts_from: int | None = 0
    counts_until: int | None = None
    doubted_at: int | None = None
    stale_at: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether it may be older than what we signed: no peer is shown it."""
        return self.state in {LogState.ROLLED_BACK, LogState.UNCONFIRMED}


@dataclass(frozen=True, slots=True)
class Peer:
    """A pinned node: its identity key was exchanged by the operators by hand.

    Attributes:
        base: Where it can be asked; empty if nobody has said so.
        descriptor: Empty, and version 0, until one is known: nobody can authenticate
            as this peer then.
        is_dialable: Whether this node may connect to it. Who is not calls us, or
            others bring its lists.
    """

    peer_id: int
    name: str
    base: str
    identity_vkey: str
    descriptor: bytes
    descriptor_version: int
    state: PeerState
    added_at: int
    contacted_at: int | None
    is_dialable: bool = True


@dataclass(frozen=True, slots=True)
class Grant:
    """One peer's right to fetch one of our lists.

    Attributes:
        scope: Which of its records.
        may_relay: Whether the peer may pass on the records that say so themselves.
    """

    peer_name: str
    list_name: str
    granted_at: int
    scope: GrantScope = WHOLE_LIST
    may_relay: bool = False


@dataclass(frozen=True, slots=True)
class Follow:
    """Our wish to copy one list of one peer.

    Attributes:
        via: Name of the peer that relays it; None if its owner is asked.
        scope: Which of its records the peer lets us have, as it said last.
        may_relay: Whether we may pass on the records that say so themselves.
        grants_version: The version of our rights up to which bodies that were withheld
            have been asked for again; 0 before the first.
    """

    follow_id: int
    peer_id: int
    peer_name: str
    list_name: str
    state: FollowState
    followed_at: int
    synced_at: int | None
    error: str | None
    via: str | None = None
    scope: GrantScope = WHOLE_LIST
    may_relay: bool = False
    grants_version: int = 0


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as the store holds it; `salt` and `body` are empty unless present."""

    record_id: int
    ref: Ref
    node: str
    list_name: str
    status: BodyStatus
    state: RecordState
    reason: Reason | None
    withdrawn_by: int | None
    withdrawn_at: int | None
    applied_at: int
    expires_at: int | None
    salt: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class SignalChange:
    """A signal became live (first live record) or dead (last one gone)."""

    signal_id: int
    type: str
    value: str
    live: bool


class FeedMark(NamedTuple):
    """A row of the feed of changes: what tells one history from another as long.

    Attributes:
        seq: Its number; 0 for the beginning, before all rows.
        signal_id: What changed.
        changed_at: When, Unix seconds.
    """

    seq: int = 0
    signal_id: int = 0
    changed_at: int = 0

    @property
    def event_id(self) -> str:
        """Write it as readers of the feed keep it: `<seq>-<signal id>-<time>`."""
        return f"{self.seq}-{self.signal_id}-{self.changed_at}"

    @classmethod
    def parse(cls, event_id: str) -> FeedMark:
        """Read an `event_id`; a number alone is the row of that number in no history.

        Raises:
            ValueError: It has not that form.
        """
        return cls(*map(int, event_id.split("-", 2)))


@dataclass(frozen=True, slots=True)
class RecordEvidence:
    """One live record that asserts a signal: what a lookup answer shows of it."""

    record_id: int
    ref: Ref
    list_name: str
    origin_node: str
    tree_size: int
    labels: tuple[Mapping[str, object], ...]
    source: str
    review: str
    created_at: int | None
    quality: int | None


@dataclass(frozen=True, slots=True)
class StoredOpinion:
    """An opinion about a record, by the node whose feedback list holds it."""

    node: str
    ref: Ref
    about: Ref
    signal_type: str | None
    stance: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A peer has seen our log at this size and time, by its witness cosignature."""

    origin: str
    peer_name: str
    tree_size: int
    cosigned_at: int


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A peer's mirror cosignature: everything up to this size is stored and applied.

    Attributes:
        note: Our checkpoint of that size with the peer's mirror cosignature; the proof.
    """

    origin: str
    peer_name: str
    tree_size: int
    acknowledged_at: int
    note: bytes


@dataclass(frozen=True, slots=True)
class Evidence:
    """Bytes that show how a peer misbehaved."""

    evidence_id: int
    peer_name: str
    list_name: str
    code: str
    what: str
    found_at: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Fork:
    """A log that signed two histories, and the evidence that anybody can check."""

    origin: str
    evidence: bytes
    found_at: int


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token of the local API; only its hash is ever stored."""

    token_id: int
    label: str
    scopes: frozenset[Scope]
    created_at: int


@dataclass(frozen=True, slots=True)
class AllowedSignal:
    """A signal that this node's operator says is harmless; it stays in this node.

    Attributes:
        signal: The signal.
        max_distance: For PDQ, how far a query may be from it, in bits; else 0.
        note: Why, in the operator's words.
    """

    allowed_id: int
    signal: Signal
    max_distance: int
    note: str
    created_at: int


@dataclass(frozen=True, slots=True)
class RelayGrant:
    """One peer's right to fetch our copy of another node's list.

    Attributes:
        peer_name: Who may fetch it.
        node: Whose list it is.
        list_name: Its name.
        granted_at: Since when.
    """

    peer_name: str
    node: str
    list_name: str
    granted_at: int


@dataclass(frozen=True, slots=True)
class Permission:
    """The owner of a list lets us relay it.

    Attributes:
        scope: What it lets us see ourselves.
    """

    scope: GrantScope


@dataclass(frozen=True, slots=True)
class RelayedAcknowledgement:
    """What a node that has a log of ours from a relay signed about it, newest first.

    Attributes:
        node: Its name.
        via: The peer through which we know of it.
        tree_size: Up to where it has stored and applied the log; 0 if it never said.
        acknowledged_at: When it signed that; None if it never did.
        note: Our checkpoint with its mirror cosignature; empty if there is none.
        identity_vkey: The identity key that it has according to the relay.
        descriptor: What that key signed, and what names its mirror key.
    """

    node: str
    via: str
    tree_size: int
    acknowledged_at: int | None
    note: bytes
    identity_vkey: str
    descriptor: bytes
