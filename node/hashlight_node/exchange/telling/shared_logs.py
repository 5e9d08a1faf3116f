"""Logs that this node and the caller may both know, and whose keys count for them.

Whoever shows a checkpoint by a key of a log knows the log; nobody else learns whether
we do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from hashlight_node.exchange.errors import UnknownLogError
from hashlight_node.model import PeerState, Role
from hashlight_node.peers.errors import PeerError
from hashlight_node.store import deliveries, logs
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    MalformedError,
    UnknownKeyError,
    open_checkpoint,
    parse_origin,
    verify_fork,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashlight_node.exchange.following.list_notes import KnownNote, ListNotes
    from hashlight_node.keys import Keyring
    from hashlight_node.model import Log, Peer
    from hashlight_node.store.database import Connection, Database
    from hashlight_protocol import (
        ForkEvidence,
        LogName,
        SignedCheckpoint,
        VerifierKey,
    )

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class SharedLog:
    """A log that we know.

    Attributes:
        name: Its origin, taken apart.
        owner: Whose it is; None if it is ours.
        own: Our own log, if it is ours.
        note: The largest checkpoint of it that we signed or cosigned.
        is_followed: Whether we copy the list.
        may_ask: Whether its owner may be asked for newer keys. Not while a peer waits
            for an answer: the time that takes would tell it that we know the log.
    """

    name: LogName
    owner: Peer | None
    own: Log | None
    note: bytes | None
    is_followed: bool
    may_ask: bool

    @property
    def origin(self) -> str:
        """The log."""
        return self.name.origin


class SharedLogs:
    """Finds logs that we know, and opens what is signed by them.

    Args:
        database: The store.
        list_notes: Knows the keys of peers' logs.
        keyring: Knows those of ours.
        node_name: This node.
    """

    def __init__(
        self,
        *,
        database: Database,
        list_notes: ListNotes,
        keyring: Keyring,
        node_name: str,
    ) -> None:
        self._database = database
        self._list_notes = list_notes
        self._keyring = keyring
        self._node_name = node_name

    async def find(self, origin: str, caller: Peer | None = None) -> SharedLog:
        """Look a log up.

        Args:
            origin: The log.
            caller: Who asks, None for ourselves.

        Raises:
            UnknownLogError: We do not know it; or it is ours, and the caller has no
                grant; or we do not talk to the caller.
        """
        try:
            name = parse_origin(origin)
        except MalformedError:
            raise UnknownLogError from None
        return await self._database.read(lambda conn: self._find(conn, name, caller))

    async def open(self, log: SharedLog, raw: bytes) -> SignedCheckpoint:
        """Open a checkpoint of a log.

        Raises:
            BadSignatureError: A signature by a key of the log does not hold.
            UnknownKeyError: No key of the log signed, as far as we can tell.
            MalformedError: It is not a checkpoint of this log.
            TooLargeError: It exceeds a limit.
        """
        return await self._with_keys(
            log, lambda keys: open_checkpoint(raw, keys, origin=log.origin)
        )

    async def verify(self, log: SharedLog, evidence: ForkEvidence) -> None:
        """Check evidence against a log.

        Raises:
            BadSignatureError: A signature by a key of the log does not hold.
            UnknownKeyError: No key of the log signed, as far as we can tell.
            BadProofError: The proof leads nowhere.
            NoForkError: Both checkpoints can be true.
        """
        await self._with_keys(log, lambda keys: verify_fork(evidence, keys))

    async def _with_keys(
        self, log: SharedLog, work: Callable[[tuple[VerifierKey, ...]], Result]
    ) -> Result:
        if log.owner is None:
            return work(tuple(self._keyring.log_keys(log.origin)))
        owner, list_name = log.owner, log.name.list_name
        # What we have first: whoever lies may not serve its list note any more.
        known = await self._list_notes.recall(owner, list_name)
        try:
            return work(_keys(known, log.origin))
        except UnknownKeyError:
            if not log.may_ask:
                raise
            try:
                fresh = await self._list_notes.refresh(owner, list_name)
            except PeerError:
                raise UnknownKeyError("checkpoint") from None
            return work(_keys(fresh, log.origin))

    def _find(self, conn: Connection, name: LogName, caller: Peer | None) -> SharedLog:
        if caller is not None:
            latest = peer_store.find_peer(conn, caller.name)
            if latest is None or latest.state is not PeerState.ACTIVE:
                raise UnknownLogError
        log = logs.find_log(conn, name.origin)
        if name.node == self._node_name:
            return _own(conn, name, log, caller)
        owner = peer_store.find_peer(conn, name.node)
        if owner is None:
            raise UnknownLogError
        follow = peer_store.find_follow(conn, owner.peer_id, name.list_name)
        note = deliveries.read_witnessed(conn, name.origin)
        if note is None and log is None and follow is None:
            raise UnknownLogError
        return SharedLog(
            name, owner, None, note, follow is not None, may_ask=caller is None
        )


def _own(
    conn: Connection, name: LogName, log: Log | None, caller: Peer | None
) -> SharedLog:
    # What is held may be older than what we signed: no peer is shown it.
    if log is None or log.role is not Role.OWN or log.is_held:
        raise UnknownLogError
    if caller is not None and not peer_store.has_grant(
        conn, caller.peer_id, name.list_name
    ):
        raise UnknownLogError
    return SharedLog(name, None, log, log.checkpoint, is_followed=False, may_ask=False)


def _keys(note: KnownNote | None, origin: str) -> tuple[VerifierKey, ...]:
    log = None if note is None else note.log(origin)
    return () if log is None else log.vkeys
