"""Witnessing: peers announce checkpoints of their logs, we cosign what is consistent.

One request is three things: news of more to fetch, a check that the log was only
appended to, and a signed receipt for the peer that we have seen this state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from hashlight_node.exchange.errors import (
    PeerQuarantinedError,
    UnknownLogError,
    UnknownPeerError,
)
from hashlight_node.exchange.following.sources import stop_list
from hashlight_node.exchange.logs.cosigning import cosigned_note
from hashlight_node.exchange.logs.evidence import quarantine_list
from hashlight_node.exchange.logs.forks import refuse_forked
from hashlight_node.model import PeerState
from hashlight_node.peers.errors import (
    PeerMisbehavedError,
    PeerRefusedError,
    PeerUnavailableError,
)
from hashlight_node.store import deliveries
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    BadProofError,
    ConflictError,
    MalformedError,
    ProtocolError,
    SplitViewError,
    UnknownKeyError,
    decide_add_checkpoint,
    open_checkpoint,
    parse_add_checkpoint,
    parse_origin,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashlight_node.exchange.following.list_notes import ListNotes
    from hashlight_node.exchange.logs.forks import ForkFinder
    from hashlight_node.model import Clock, Peer
    from hashlight_node.store.database import Connection, Database
    from hashlight_protocol import (
        AddCheckpoint,
        KnownHead,
        LogName,
        SignedCheckpoint,
        Signer,
        VerifierKey,
    )

_MOST_WITNESSED: Final = 256
"""Logs of one peer to remember checkpoints of, beyond those of lists that we follow."""

_log = structlog.get_logger()


class Witness:
    """Cosigns the checkpoints that peers announce of their own logs.

    Args:
        database: Remembers the newest checkpoint of every log.
        list_notes: Knows whose keys count for a log.
        signer: This node's witness key.
        clock: For the time in cosignatures.
        on_notice: Told (peer name, list name) when a list that we follow has grown.
        finder: Looks closer at what does not extend what we know.
    """

    def __init__(
        self,
        *,
        database: Database,
        list_notes: ListNotes,
        signer: Signer,
        clock: Clock,
        on_notice: Callable[[str, str], None],
        finder: ForkFinder,
    ) -> None:
        self._database = database
        self._list_notes = list_notes
        self._signer = signer
        self._clock = clock
        self._on_notice = on_notice
        self._finder = finder

    async def add_checkpoint(self, sender: Peer, raw: bytes) -> bytes:
        """Cosign a checkpoint, if it extends everything we know of its log.

        The new state is on disk before the cosignature leaves: two views of one log
        can never both be cosigned, not even across a crash.

        Args:
            sender: Who sent it, authenticated. Peers announce their own logs, and
                those that they relay to us.
            raw: The submission.

        Returns:
            Our signature line.

        Raises:
            UnknownLogError: The log is not one of the peer's, nor one that we follow
                through it, or we may not know it.
            ConflictError: The proof starts at another size than we know.
            SplitViewError: We know another tree of that size. Both signed checkpoints
                are kept as evidence, and the list is in quarantine.
            ForkedLogError: There is evidence that the log forked.
            UnknownKeyError: No key of the log signed.
            BadSignatureError: Its signature does not hold.
            BadProofError: The proof does not link the two trees.
            MalformedError: The bytes are not a submission.
            TooLargeError: They are too many.
            PeerUnavailableError: The keys of the log are needed and cannot be had.
            PeerMisbehavedError: What the peer says about the list breaks the rules.

        Source: SPEC.md#witnessing.
        """
        request = parse_add_checkpoint(raw)
        name = _log_name(request)
        peer = await self._database.read(lambda conn: _owner(conn, sender, name))
        known = await self._database.read(lambda conn: _known_head(conn, peer, name))
        try:
            signed = await self._decide(peer, name, request, known)
        except (SplitViewError, ConflictError, BadProofError) as error:
            await self._examine(peer, name, request, error)
            raise
        except PeerMisbehavedError as error:
            await self._keep(peer, name, error)
            raise
        line, note = cosigned_note(signed, self._signer, now=self._clock())
        is_followed = await self._database.write(
            lambda conn: self._remember(conn, peer, name, known, signed, note)
        )
        _log.info(
            "checkpoint cosigned",
            peer=peer.name,
            list=name.list_name,
            size=signed.head.tree_size,
        )
        if is_followed:
            self._on_notice(peer.name, name.list_name)
        return line

    async def _decide(
        self,
        peer: Peer,
        name: LogName,
        request: AddCheckpoint,
        known: KnownHead | None,
    ) -> SignedCheckpoint:
        keys = await self._keys(peer, name)
        try:
            return decide_add_checkpoint(request, known=known, keys=keys)
        except UnknownKeyError:
            # A new key, perhaps.
            keys = await self._keys(peer, name, refresh=True)
            return decide_add_checkpoint(request, known=known, keys=keys)

    async def _keys(
        self, peer: Peer, name: LogName, *, refresh: bool = False
    ) -> tuple[VerifierKey, ...]:
        fetch = self._list_notes.refresh if refresh else self._list_notes.current
        try:
            known = await fetch(peer, name.list_name)
            log = known.log(name.origin)
            if log is None and not refresh:
                log = (await self._list_notes.refresh(peer, name.list_name)).log(
                    name.origin
                )
        except (PeerRefusedError, PeerQuarantinedError, UnknownPeerError):
            # The last two: whoever relays the list to us is not asked any more.
            raise UnknownLogError from None
        if log is None:
            raise UnknownLogError
        return log.vkeys

    def _remember(
        self,
        conn: Connection,
        peer: Peer,
        name: LogName,
        known: KnownHead | None,
        signed: SignedCheckpoint,
        note: bytes,
    ) -> bool:
        # Compare and swap: what the decision was based on must still be so.
        latest = _known_head(conn, peer, name)
        if latest != known:
            raise ConflictError(0 if latest is None else latest.tree_size)
        deliveries.save_witnessed(
            conn,
            origin=name.origin,
            peer_id=peer.peer_id,
            tree_size=signed.head.tree_size,
            root_hash=signed.head.root_hash,
            note=note,
            now=self._clock(),
        )
        follow = peer_store.find_follow(conn, peer.peer_id, name.list_name)
        return follow is not None

    async def _examine(
        self, peer: Peer, name: LogName, request: AddCheckpoint, error: ProtocolError
    ) -> None:
        """Find out whether what we refuse shows a fork.

        A key of the log signed it, or it would have been refused before.
        """
        try:
            keys = await self._keys(peer, name)
            theirs = open_checkpoint(request.note, keys, origin=name.origin)
            if isinstance(error, ConflictError):
                # Happens to the honest as well, and often: not worth asking anybody.
                await self._finder.examine_here(peer, theirs)
                return
            note = await self._database.read(
                lambda conn: deliveries.read_witnessed(conn, name.origin)
            )
            ours = open_checkpoint(note or b"", keys, origin=name.origin)
            is_kept = await self._finder.examine(peer, ours=ours, theirs=theirs)
        except (ProtocolError, PeerUnavailableError):
            # Keys that changed in between, or an owner who does not serve the rest.
            _log.warning("log is suspect", peer=peer.name, code=error.code)
            is_kept = False
        if isinstance(error, SplitViewError) and not is_kept:
            await self._keep_fork(peer, name, request, error)

    async def _keep_fork(
        self, peer: Peer, name: LogName, request: AddCheckpoint, error: SplitViewError
    ) -> None:
        def keep(conn: Connection) -> None:
            ours = deliveries.read_witnessed(conn, name.origin) or b""
            blame = PeerMisbehavedError(
                peer.name,
                f"checkpoint of {name.origin}",
                error,
                ours + b"\n" + request.note,
            )
            quarantine_list(conn, peer, name.list_name, blame, now=self._clock())

        await self._database.write(keep)

    async def _keep(
        self, peer: Peer, name: LogName, error: PeerMisbehavedError
    ) -> None:
        now = self._clock()

        def keep(conn: Connection) -> None:
            stop_list(conn, peer, name.list_name, error, now=now)

        await self._database.write(keep)


def _owner(conn: Connection, sender: Peer, name: LogName) -> Peer:
    """Find whose log is announced: the sender's own, or one that it relays to us."""
    owner = peer_store.find_peer(conn, name.node)
    if sender.state is not PeerState.ACTIVE or owner is None:
        raise UnknownLogError
    if owner.name == sender.name:
        return sender
    follow = peer_store.find_follow(conn, owner.peer_id, name.list_name)
    if follow is None or follow.via != sender.name:
        raise UnknownLogError
    if owner.state is not PeerState.ACTIVE:
        raise UnknownLogError
    return owner


def _known_head(conn: Connection, peer: Peer, name: LogName) -> KnownHead | None:
    """Look up what we know of a log.

    Raises:
        UnknownLogError: Nothing, and we remember enough of this peer's.
        ForkedLogError: There is evidence that it forked.
    """
    refuse_forked(conn, name.origin)
    known = deliveries.known_head(conn, name.origin)
    if (
        known is None
        and peer_store.find_follow(conn, peer.peer_id, name.list_name) is None
        and deliveries.count_witnessed(conn, peer.peer_id) >= _MOST_WITNESSED
    ):
        raise UnknownLogError
    return known


def _log_name(request: AddCheckpoint) -> LogName:
    try:
        return parse_origin(request.origin)
    except MalformedError:
        # A checkpoint of some other kind of log: nothing that a peer of ours can have.
        raise UnknownLogError from None
