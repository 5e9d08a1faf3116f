"""Why a use case does not do what it was asked to.

ExchangeError
├── UnknownLogError           no such log, or not for this caller: one answer for both
├── NotServedError            the log has no such tile, bundle or record
├── ErasedError               the record was erased
├── WithheldError             the record's body is not here
├── UnknownListError          this node has no such list of its own
├── UnknownRecordError        this node holds no such record
├── UnknownCaseError          no record of ours names this case
├── UnknownPeerError          no peer of that name is pinned
├── UnknownFollowError        that list of that peer is not followed
├── ListExistsError           this node has a list of that name
├── ListInactiveError         the list takes no more entries
├── RolledBackError           the list is older than what was signed: nothing is signed
├── UnconfirmedError          nobody has said yet that the list is not older
├── LogHeldError              peers do not get a log that may be older
├── ForeignRecordError        only the origin of a record can withdraw it
├── PeerPinnedError           a peer of that name is pinned with another key
├── OwnNodeError              the peer to be added is this node
├── PeerQuarantinedError      we do not talk to this peer
├── FollowQuarantinedError    a list is not copied further until an operator says so
├── ForkedLogError            the log showed two histories: nothing more of it counts
├── NoRoomError               the disk is nearly full: no new content is taken
├── EmptyRequestError         there is nothing to publish
├── StoreSilentError          the store cannot be heard, so memory may be too old
└── IdempotencyConflictError  the same key came with another request

What is wrong with *data* is a `ProtocolError`; trouble with a peer is a `PeerError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from hashlight_protocol import Ref


class ExchangeError(Exception):
    """A use case refuses; only subclasses are raised.

    `code` is the fragment of the problem type on either listener.
    """

    code: ClassVar[str]


class UnknownLogError(ExchangeError):
    """There is no such log, or not for this caller.

    Carries no facts: a peer without a grant must learn nothing, not even whether
    there is something to be granted.

    Source: SPEC.md#grants.
    """

    code = "unknown-log"

    def __init__(self) -> None:
        super().__init__("there is no such log for this caller")


class NotServedError(ExchangeError):
    """The log is known to the caller and does not have this (yet).

    Attributes:
        what: What was asked for.
    """

    code = "not-found"

    def __init__(self, what: str) -> None:
        super().__init__(f"the log has no such {what}")
        self.what = what


class ErasedError(ExchangeError):
    """The record was erased; nothing of it is left but its commitment.

    Attributes:
        leaf_index: Its position in the log.
    """

    code = "erased"

    def __init__(self, leaf_index: int) -> None:
        super().__init__(f"the record at leaf {leaf_index} was erased")
        self.leaf_index = leaf_index


class WithheldError(ExchangeError):
    """The record's body is not given out, or was never given to us.

    Attributes:
        leaf_index: Its position in the log.
    """

    code = "withheld"

    def __init__(self, leaf_index: int) -> None:
        super().__init__(f"the body of leaf {leaf_index} is withheld")
        self.leaf_index = leaf_index


class UnknownListError(ExchangeError):
    """This node has no list of its own by that name.

    Attributes:
        list_name: The name.
    """

    code = "unknown-list"

    def __init__(self, list_name: str) -> None:
        super().__init__(f"this node has no list {list_name!r}")
        self.list_name = list_name


class UnknownRecordError(ExchangeError):
    """This node holds no record by that reference.

    Attributes:
        ref: The reference.
    """

    code = "unknown-record"

    def __init__(self, ref: Ref) -> None:
        super().__init__(f"this node holds no record {ref.origin}#{ref.leaf_index}")
        self.ref = ref


class UnknownCaseError(ExchangeError):
    """No record that this node published, and did not erase, names this case.

    Carries no facts: a case is a person's.
    """

    code = "unknown-case"

    def __init__(self) -> None:
        super().__init__("no record of this node names this case")


class UnknownPeerError(ExchangeError):
    """No peer of that name is pinned.

    Attributes:
        peer_name: The name.
    """

    code = "unknown-peer"

    def __init__(self, peer_name: str) -> None:
        super().__init__(f"no peer {peer_name!r} is pinned")
        self.peer_name = peer_name


class UnknownFollowError(ExchangeError):
    """That list of that peer is not followed.

    Attributes:
        peer_name: The peer.
        list_name: The list.
    """

    code = "unknown-follow"

    def __init__(self, peer_name: str, list_name: str) -> None:
        super().__init__(f"list {list_name!r} of {peer_name} is not followed")
        self.peer_name = peer_name
        self.list_name = list_name


class ListExistsError(ExchangeError):
    """This node has a list of that name already.

    Attributes:
        list_name: The name.
    """

    code = "list-exists"

    def __init__(self, list_name: str) -> None:
        super().__init__(f"list {list_name!r} exists already")
        self.list_name = list_name


class ListInactiveError(ExchangeError):
    """The list was frozen or abandoned and takes no more entries.

    Attributes:
        list_name: The name.
    """

    code = "list-inactive"

    def __init__(self, list_name: str) -> None:
        super().__init__(f"list {list_name!r} takes no more entries")
        self.list_name = list_name


class RolledBackError(ExchangeError):
    """The database is older than what this node has signed of a list.

    To sign on would show peers two histories. `recover` heals it.

    Attributes:
        list_name: The list.
    """

    code = "rolled-back"

    def __init__(self, list_name: str) -> None:
        super().__init__(
            f"list {list_name!r} is older here than what this node has signed, as after"
            f" a restore from backup; heal it with `hashlight recover {list_name}`"
        )
        self.list_name = list_name


class UnconfirmedError(ExchangeError):
    """It is not known what this node signed last of a list.

    Once a peer that has seen the list confirms that we stand where we did, the node
    signs again by itself.

    Attributes:
        list_name: The list.
    """

    code = "unconfirmed"

    def __init__(self, list_name: str) -> None:
        super().__init__(
            f"it is not known what was signed last of list {list_name!r}, and no peer "
            f"has said so yet; ask them again with `hashlight recover {list_name}`"
        )
        self.list_name = list_name


class LogHeldError(ExchangeError):
    """A log of ours may be older than what we signed, so no peer is shown it now.

    Carries no facts: it is for peers, who have only to come back later.
    """

    code = "unavailable"

    def __init__(self) -> None:
        super().__init__("this log cannot be served now")


class ForeignRecordError(ExchangeError):
    """Only the node that published a record can withdraw it.

    Attributes:
        ref: The record.
    """

    code = "foreign-record"

    def __init__(self, ref: Ref) -> None:
        super().__init__(
            f"{ref.origin}#{ref.leaf_index} was published by another node; "
            "dispute it with an opinion"
        )
        self.ref = ref


class PeerPinnedError(ExchangeError):
    """A peer of that name is pinned with another identity key.

    Attributes:
        peer_name: The peer.
    """

    code = "peer-pinned"

    def __init__(self, peer_name: str) -> None:
        super().__init__(f"peer {peer_name} is pinned with another identity key")
        self.peer_name = peer_name


class OwnNodeError(ExchangeError):
    """The peer to be added is this node itself."""

    code = "own-node"

    def __init__(self) -> None:
        super().__init__("this node cannot be a peer of itself")


class PeerQuarantinedError(ExchangeError):
    """An operator, or evidence, ended the exchange with this peer.

    Attributes:
        peer_name: The peer.
    """

    code = "peer-quarantined"

    def __init__(self, peer_name: str) -> None:
        super().__init__(f"peer {peer_name} is in quarantine")
        self.peer_name = peer_name


class FollowQuarantinedError(ExchangeError):
    """A followed list showed something it must not; it is not copied further.

    What was verified before goes on serving lookups. `Peering.follow` or
    `Peering.release` start again.

    Attributes:
        peer_name: The peer.
        list_name: The list.
    """

    code = "follow-quarantined"

    def __init__(self, peer_name: str, list_name: str) -> None:
        super().__init__(f"list {list_name!r} of {peer_name} is in quarantine")
        self.peer_name = peer_name
        self.list_name = list_name


class ForkedLogError(ExchangeError):
    """A log signed two histories, and there is evidence; nobody releases it again.

    Attributes:
        origin: The log.

    Source: SPEC.md#fork-evidence.
    """

    code = "forked"

    def __init__(self, origin: str) -> None:
        super().__init__(
            f"the log {origin} forked; only a later one can take its place"
        )
        self.origin = origin


class NoRoomError(ExchangeError):
    """The disk is nearly full, so no new content is taken; withdrawals are.

    Carries no facts: peers are told it, too.
    """

    code = "no-room"

    def __init__(self) -> None:
        super().__init__(
            "the node's disk is nearly full; it takes withdrawals and no new content"
        )


class EmptyRequestError(ExchangeError):
    """There is nothing to publish."""

    code = "empty-request"

    def __init__(self) -> None:
        super().__init__("there is no record to publish")


class IdempotencyConflictError(ExchangeError):
    """The same idempotency key came with another request before."""

    code = "idempotency-conflict"

    def __init__(self) -> None:
        super().__init__("this idempotency key was used for another request")


class StoreSilentError(ExchangeError):
    """The store was not heard for so long that memory may be too old to answer from."""

    code = "unavailable"

    def __init__(self) -> None:
        super().__init__("the database cannot be heard, and others may be writing")
