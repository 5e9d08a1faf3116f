"""Acknowledgements: peers' signed word that they stored and applied our logs.

An acknowledgement is our own checkpoint with the peer's mirror cosignature. For an
erasure it is the proof that matters: the peer states that it has destroyed the body,
and a third party can check the statement with two public keys.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from hashlight_node.exchange.errors import RolledBackError, UnknownListError
from hashlight_node.exchange.following.descriptors import (
    PeerDescriptors,
    descriptor_of,
    mirror_keys,
)
from hashlight_node.exchange.logs.cosigning import bare_note, note_cosigned_by
from hashlight_node.exchange.logs.evidence import keep_evidence
from hashlight_node.exchange.logs.forks import keep_own_fork
from hashlight_node.exchange.logs.linking import find_fork_here
from hashlight_node.model import Acknowledgement, PeerState, Role
from hashlight_node.peers.errors import (
    PeerMisbehavedError,
    PeerRefusedError,
    PeerUnavailableError,
    blaming,
)
from hashlight_node.store import deliveries, logs, relaying
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    ForkEvidence,
    MalformedError,
    ProtocolError,
    SplitViewError,
    UnknownKeyError,
    frontier_from_tiles,
    open_checkpoint,
    open_list_note,
    parse_vkey,
    verify_cosignature,
)

if TYPE_CHECKING:
    from hashlight_node.exchange.logs.self_check import SelfCheck
    from hashlight_node.keys import Keyring
    from hashlight_node.model import Clock, Log, Peer
    from hashlight_node.peers.client import PeerClient
    from hashlight_node.store.database import Connection, Database
    from hashlight_protocol import SignedCheckpoint, VerifierKey

_WAIT_SECONDS: Final = 30
_POLLS: Final = 20
"""Long polls in a row, ten minutes; after that the sweep asks again."""

_PAUSE_SECONDS: Final = 1
"""Least time from poll to poll, for a peer that does not hold answers back."""

_NONE_YET: Final = '"none"'
"""Names no version: with it a peer waits for the first one too."""

_REFUSALS: Final = (2, 10, 60)
"""Seconds to wait when the peer does not copy the log: it may be about to begin."""

_EARLIEST: Final = 1_577_836_800
"""1 January 2020, before there was any node."""

_AHEAD_SECONDS: Final = 300
"""How far a peer's clock may be ahead of ours."""

_log = structlog.get_logger()


def read_cosigned_at(note: bytes, key: VerifierKey, *, now: int) -> int:
    """Verify a cosignature that was just made, and read its time.

    The time is what we show as the moment of a delivery or an erasure, so it has to be
    one that can be.

    Args:
        note: A checkpoint with the cosignature.
        key: Whose it must be.
        now: Our own time, Unix seconds.

    Raises:
        ProtocolError: It does not hold.
        MalformedError: Its time cannot be true.
    """
    cosigned_at = verify_cosignature(note, key)
    check_time(cosigned_at, now=now)
    return cosigned_at


def check_time(cosigned_at: int, *, now: int) -> None:
    """Refuse a cosignature's time that cannot be true.

    Raises:
        MalformedError: It is one.
    """
    if not _EARLIEST <= cosigned_at <= now + _AHEAD_SECONDS:
        raise MalformedError("cosignature", "its time cannot be true")


class Collector:
    """Asks peers up to where they have copied our logs.

    Args:
        database: The store.
        client: Asks the peers.
        keyring: Knows the keys of our logs.
        self_check: Is told of every checkpoint of them.
        clock: Unix seconds.
    """

    def __init__(
        self,
        *,
        database: Database,
        client: PeerClient,
        keyring: Keyring,
        self_check: SelfCheck,
        clock: Clock,
    ) -> None:
        self._database = database
        self._client = client
        self._keyring = keyring
        self._descriptors = PeerDescriptors(
            database=database, client=client, clock=clock
        )
        self._self_check = self_check
        self._clock = clock
        self._etags: dict[tuple[str, str], str] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}

    def start(self, origin: str, peer: Peer) -> None:
        """Collect in the background until the peer has all of the log, or a while."""
        key = (origin, peer.name)
        if key in self._tasks:
            return
        task = asyncio.create_task(self._keep_asking(origin, peer))
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._tasks.pop(key, None))

    def stop(self, origin: str, peer_name: str) -> None:
        """End what `start` began for a peer; it is not to be asked any more."""
        task = self._tasks.get((origin, peer_name))
        if task is not None:
            task.cancel()

    @property
    def is_collecting(self) -> bool:
        """Whether anything that `start` began is under way."""
        return bool(self._tasks)

    async def close(self) -> None:
        """Stop everything that `start` began."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def collect(
        self, origin: str, peer: Peer, *, wait_seconds: int
    ) -> Acknowledgement | None:
        """Ask once.

        Args:
            origin: One of our logs.
            peer: Who copies it.
            wait_seconds: How long it may hold back the answer for want of news.

        Returns:
            What it signed and we stored, None if there is nothing new.

        Raises:
            UnknownListError: It is not one of our logs.
            PeerUnavailableError: The peer does not answer.
            PeerRefusedError: It does not copy the log.
            PeerMisbehavedError: What it says is not about our log, or not signed.
            RolledBackError: It has a checkpoint of ours that we do not have.
        """
        key = (origin, peer.name)
        fetched = await self._client.fetch_mirror_checkpoint(
            peer,
            origin,
            wait_seconds=wait_seconds,
            etag=self._etags.get(key, _NONE_YET),
        )
        if fetched is None:
            return None
        # Read after the answer came: until then the log may have grown.
        log, root_hash, signed = await self._database.read(
            lambda conn: self._compare(conn, origin, peer, fetched.body)
        )
        if signed.head.root_hash != root_hash:
            await self._keep_fork(log, signed)
        if log.role is Role.OWN and not await self._self_check.judge(peer.name, signed):
            # We signed this and do not have it: our store is an old one.
            raise RolledBackError(log.list_name)
        acknowledgement = await self._open(peer, log, root_hash, signed)
        if acknowledgement is None:
            return None
        await self._database.write(lambda conn: _save(conn, log, peer, acknowledgement))
        if fetched.etag is not None:
            self._etags[key] = fetched.etag
        return acknowledgement

    async def _keep_fork(self, log: Log, signed: SignedCheckpoint) -> None:
        """Keep what shows that our own key signed two histories."""
        now = self._clock()

        def keep(conn: Connection) -> None:
            found = find_fork_here(conn, signed)
            if isinstance(found, ForkEvidence):
                keep_own_fork(conn, found, log, now=now)

        await self._database.write(keep)

    async def _open(
        self, peer: Peer, log: Log, root_hash: bytes, signed: SignedCheckpoint
    ) -> Acknowledgement | None:
        """Verify what a peer signed; None if it signed with a key of the past."""
        now = self._clock()
        try:
            return _verify(peer, log, root_hash, signed, now=now)
        except PeerMisbehavedError as error:
            if not isinstance(error.cause, UnknownKeyError):
                raise
        # True when it was signed, and nothing since: the peer signs anew soon.
        if await self._is_by_old_key(peer, signed):
            return None
        # A key that is newer than the descriptor that we have, perhaps.
        fresh = await self._descriptors.renew(peer)
        if await self._is_by_old_key(fresh, signed):
            return None
        return _verify(fresh, log, root_hash, signed, now=now)

    async def _is_by_old_key(self, peer: Peer, signed: SignedCheckpoint) -> bool:
        """Tell whether a key signed that the peer had once and has no more."""
        mirror = descriptor_of(peer).mirror
        said = {(one.name, one.key_id) for one in signed.opened.note.signatures}
        known = await self._database.read(lambda conn: mirror_keys(conn, peer))
        return (mirror.name, mirror.key_id) not in said and any(
            (key.name, key.key_id) in said for key in known
        )

    def _compare(
        self, conn: Connection, origin: str, peer: Peer, raw: bytes
    ) -> tuple[Log, bytes, SignedCheckpoint]:
        """Open the note, and recompute our own root at its size."""
        log = logs.find_log(conn, origin)
        if log is None:
            raise UnknownListError(origin)
        with blaming(peer.name, f"mirror checkpoint of {origin}", raw):
            keys = _keys(conn, log, self._keyring)
            signed = open_checkpoint(raw, keys, origin=origin)
            size = signed.head.tree_size
            if log.role is Role.FOLLOWED and size > log.checkpoint_size:
                # It has the log from somebody else, too, and is ahead of us.
                raise PeerUnavailableError(peer.name, "it has more than we have")
            size = min(size, log.checkpoint_size)
        tiles = logs.tile_fetcher(conn, log.log_id)
        return log, frontier_from_tiles(tiles, size).root, signed

    async def _keep_asking(self, origin: str, peer: Peer) -> None:
        try:
            await self._ask_until_all(origin, peer)
        except PeerUnavailableError:
            _log.info("peer acknowledges later", peer=peer.name)
        except PeerRefusedError as error:
            _log.info("peer does not copy this log", peer=peer.name, code=error.code)
        except PeerMisbehavedError as error:
            await self._blame(origin, peer, error)
        except RolledBackError as error:
            _log.info("job had nothing to do", peer=peer.name, code=error.code)
        except ProtocolError as error:
            # Not about what it sent: about what its base makes of our request.
            _log.error("peer cannot be asked", peer=peer.name, code=error.code)

    async def _blame(self, origin: str, peer: Peer, error: PeerMisbehavedError) -> None:
        def keep(conn: Connection) -> None:
            log = logs.find_log(conn, origin)
            name = "" if log is None else log.list_name
            keep_evidence(conn, peer, name, error, now=self._clock())

        await self._database.write(keep)

    async def _ask_until_all(self, origin: str, peer: Peer) -> None:
        refusals = iter(_REFUSALS)
        for _ in range(_POLLS):
            if await self._is_over(origin, peer):
                return
            # From the question on: a peer that held its answer back is asked at once.
            again_at = asyncio.get_running_loop().time() + _PAUSE_SECONDS
            try:
                await self.collect(origin, peer, wait_seconds=_WAIT_SECONDS)
            except PeerRefusedError:
                pause_seconds = next(refusals, None)
                if pause_seconds is None:
                    raise
                again_at += pause_seconds
            await asyncio.sleep(again_at - asyncio.get_running_loop().time())

    async def _is_over(self, origin: str, peer: Peer) -> bool:
        """Tell whether the peer has all, or is not to be asked any more."""

        def read(conn: Connection) -> bool:
            log = logs.find_log(conn, origin)
            if log is None or not is_recipient(conn, log, peer):
                return True
            newest = deliveries.newest_acknowledgement(conn, log.log_id, peer.peer_id)
            return newest is not None and newest.tree_size >= log.checkpoint_size

        return await self._database.read(read)


def is_recipient(conn: Connection, log: Log, peer: Peer) -> bool:
    """Tell whether a peer is to hear of a log from us, as of this transaction.

    Of one of ours if it has a grant, of a copy if we relay that to it.
    """
    if log.is_held:
        return False  # Peers know better than we do what it is.
    latest = peer_store.find_peer(conn, peer.name)
    if latest is None or latest.state is not PeerState.ACTIVE or not latest.is_dialable:
        return False
    match log.role:
        case Role.OWN:
            return peer_store.has_grant(conn, latest.peer_id, log.list_name)
        case Role.FOLLOWED:
            permission = relaying.find_permission(
                conn, latest.peer_id, node=log.node, list_name=log.list_name
            )
            return permission is not None


def _keys(conn: Connection, log: Log, keyring: Keyring) -> tuple[VerifierKey, ...]:
    """Give the keys of a log: our own, or what its owner's list note says."""
    if log.role is Role.OWN:
        # Retired ones too: the peer may have been away since.
        return tuple(keyring.log_keys(log.origin))
    owner = peer_store.find_peer(conn, log.node)
    if owner is None or log.list_note is None:
        return ()
    note = open_list_note(log.list_note, parse_vkey(owner.identity_vkey))
    return next((one.vkeys for one in note.logs if one.origin == log.origin), ())


def _verify(
    peer: Peer, log: Log, root_hash: bytes, signed: SignedCheckpoint, *, now: int
) -> Acknowledgement:
    size = signed.head.tree_size
    mirror = descriptor_of(peer).mirror
    what = f"mirror checkpoint of {log.origin}"
    with blaming(peer.name, what, signed.note_bytes):
        if signed.head.root_hash != root_hash:
            raise SplitViewError(log.origin, size)
        sent = signed.opened.note.signatures
        note = note_cosigned_by(bare_note(signed), sent, mirror)
        acknowledged_at = read_cosigned_at(note, mirror, now=now)
    return Acknowledgement(log.origin, peer.name, size, acknowledged_at, note)


def _save(
    conn: Connection, log: Log, peer: Peer, acknowledgement: Acknowledgement
) -> None:
    deliveries.save_acknowledgement(
        conn,
        log_id=log.log_id,
        peer_id=peer.peer_id,
        tree_size=acknowledgement.tree_size,
        acknowledged_at=acknowledgement.acknowledged_at,
        note=acknowledgement.note,
    )
