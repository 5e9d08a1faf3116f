"""Uploading: a node that nobody can dial brings its lists to those it has granted them.

For them a push does not end with the announcement. The peer is told first who we are
and what the list is, then of the checkpoint, as any other; and then it is sent what it
would have fetched. Bodies follow their entries before the next entries are sent, so the
peer's own word where it stands tells, after any break, from where on it lacks bodies:
not further back than one request.

Source: SPEC.md#uploads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from hashlight_node.exchange.errors import UnknownListError
from hashlight_node.exchange.following.descriptors import PeerDescriptors, descriptor_of
from hashlight_node.exchange.logs.cosigning import note_cosigned_by
from hashlight_node.exchange.logs.evidence import keep_evidence
from hashlight_node.exchange.notices import Backoff
from hashlight_node.exchange.telling.acknowledgements import (
    is_recipient,
    read_cosigned_at,
)
from hashlight_node.model import Role
from hashlight_node.peers.errors import (
    PeerError,
    PeerMisbehavedError,
    PeerRefusedError,
    PeerUnavailableError,
    blaming,
)
from hashlight_node.peers.uploads import Acknowledged, UploadClient, Wanted
from hashlight_node.store import deliveries, logs
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    MAX_UPLOAD_PACKAGES,
    TILE_WIDTH,
    AddEntries,
    RollbackError,
    encode_add_entries,
    parse_signatures,
)

from .upload_content import body_ranges, read_body_parts, read_entries

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashlight_node.exchange.notices import Notices
    from hashlight_node.model import Clock, Log, Peer
    from hashlight_node.peers.client import PeerClient
    from hashlight_node.store.database import Connection, Database
    from hashlight_protocol import BodyBundleId, GrantScope, MirrorInfo

    from .push import Pusher

_RETRY_LIMIT_SECONDS: Final = 300

_REQUEST_ENTRIES: Final = MAX_UPLOAD_PACKAGES * TILE_WIDTH

_UNKNOWN: Final = frozenset({"unknown-log", "unknown-key"})
"""What a peer answers that has not heard who we are, or no longer knows."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Upload:
    """What one peer is to have of one log.

    Attributes:
        peer: The peer.
        log: The log at the checkpoint that the peer has seen.
        scope: Which bodies it may have.
    """

    peer: Peer
    log: Log
    scope: GrantScope


@dataclass(slots=True)
class _Progress:
    """What we know of a peer's copy; forgotten when the node stops.

    Attributes:
        scope: By which bodies were chosen: with another one, more may be due.
        next_entry: First entry that it lacks.
        ticket: What it wants to see again.
        next_body: First entry whose body we may still have to send.
        is_uncertain: A request with entries was sent and not answered: the peer may
            have kept part of them.
    """

    scope: GrantScope
    next_entry: int
    ticket: bytes
    next_body: int
    is_uncertain: bool = False


@dataclass(frozen=True, slots=True)
class UploadTo:
    """Who is brought our lists.

    Attributes:
        names: The peers.
        read_descriptor: Gives this node's newest descriptor, which they cannot fetch;
            None if there is none yet.
    """

    names: frozenset[str]
    read_descriptor: Callable[[], bytes | None]


class Uploader:
    """Pushes to every peer, and uploads to those that cannot dial us.

    Args:
        database: The store.
        client: Asks the peers.
        pusher: Announces checkpoints.
        clock: Unix seconds.
        notices: Where an upload that failed is queued again.
        upload_to: Whom to upload to.
    """

    def __init__(
        self,
        *,
        database: Database,
        client: PeerClient,
        pusher: Pusher,
        clock: Clock,
        notices: Notices,
        upload_to: UploadTo,
    ) -> None:
        self._database = database
        self._client = UploadClient(client)
        self._descriptors = PeerDescriptors(
            database=database, client=client, clock=clock
        )
        self._pusher = pusher
        self._clock = clock
        self._notices = notices
        self._upload_to = upload_to.names
        self._read_descriptor = upload_to.read_descriptor
        self._backoff: Backoff[tuple[str, str]] = Backoff(
            limit_seconds=_RETRY_LIMIT_SECONDS
        )
        self._said: dict[tuple[str, str], bytes] = {}
        self._progress: dict[tuple[str, str], _Progress] = {}

    async def push_to(self, peer_name: str, origin: str) -> None:
        """Announce a log's newest checkpoint to one peer, and upload it if need be.

        A peer that does not answer is tried again later, one that refuses is not
        before the next sweep. Not for two tasks at a time with the same arguments.

        Args:
            peer_name: The peer.
            origin: One of our logs.

        Raises:
            UnknownListError: It is not one of our logs.
        """
        if peer_name not in self._upload_to:
            await self._pusher.push_to(peer_name, origin)
            return
        key = (peer_name, origin)
        waiting = self._backoff.remaining_seconds(key, self._clock())
        if waiting:
            self._notices.push_later(peer_name, origin, waiting)
            return
        try:
            await self._announce_and_bring(peer_name, origin)
        except PeerError as error:
            await self._fail(peer_name, origin, error)
        else:
            self._backoff.succeeded(key)

    async def sweep(self) -> None:
        """Queue what peers still lack, and what we do not know that they have."""
        for peer_name, origin in await self._database.read(self._find_behind):
            self._notices.peer_pushes.add((peer_name, origin))

    def _find_behind(self, conn: Connection) -> list[tuple[str, str]]:
        behind: list[tuple[str, str]] = []
        for log in logs.list_logs(conn, Role.OWN):
            for peer in peer_store.granted_peers(conn, log.list_name):
                key = (peer.name, log.origin)
                newest = deliveries.newest_acknowledgement(
                    conn, log.log_id, peer.peer_id
                )
                has_all = newest is not None and newest.tree_size == log.checkpoint_size
                if peer.name not in self._upload_to or (
                    has_all and self._has_bodies(key, log)
                ):
                    continue
                if log.checkpoint is not None and is_recipient(conn, log, peer):
                    behind.append(key)
        return behind

    def _has_bodies(self, key: tuple[str, str], log: Log) -> bool:
        progress = self._progress.get(key)
        return progress is not None and progress.next_body >= log.checkpoint_size

    async def _fail(self, peer_name: str, origin: str, error: PeerError) -> None:
        match error:
            case PeerUnavailableError(retry_after_seconds=asked_seconds):
                key, now = (peer_name, origin), self._clock()
                seconds = self._backoff.failed(key, now, asked_seconds)
                self._notices.push_later(peer_name, origin, seconds)
                _log.warning("upload failed", peer=peer_name, wait_seconds=seconds)
            case PeerRefusedError(code=code):
                self._forget(peer_name, origin)
                _log.warning("upload refused", peer=peer_name, code=code)
            case PeerMisbehavedError():
                self._forget(peer_name, origin)
                await self._keep(peer_name, origin, error)
            case _:
                raise error

    async def _keep(
        self, peer_name: str, origin: str, error: PeerMisbehavedError
    ) -> None:
        def keep(conn: Connection) -> None:
            peer = peer_store.find_peer(conn, peer_name)
            log = logs.find_log(conn, origin)
            if peer is not None and log is not None:
                keep_evidence(conn, peer, log.list_name, error, now=self._clock())

        await self._database.write(keep)

    def _forget(self, peer_name: str, origin: str) -> None:
        """Forget what a peer was told, so that it is told again."""
        self._progress.pop((peer_name, origin), None)
        for key in [key for key in self._said if key[0] == peer_name]:
            del self._said[key]

    async def _announce_and_bring(self, peer_name: str, origin: str) -> None:
        upload = await self._announce(peer_name, origin)
        if upload is None:
            # A peer that was restarted may have forgotten the list, and refuse it.
            self._forget(peer_name, origin)
            upload = await self._announce(peer_name, origin)
        if upload is None:
            return
        try:
            await self._bring(upload)
        except PeerRefusedError as error:
            if error.code not in _UNKNOWN:
                raise
            self._forget(peer_name, origin)
            await self._introduce(peer_name, origin)
            await self._bring(upload)

    async def _announce(self, peer_name: str, origin: str) -> _Upload | None:
        """Have a peer see the newest checkpoint; None if it did not, or may not."""
        if not await self._introduce(peer_name, origin):
            return None
        await self._pusher.push_to(peer_name, origin)
        return await self._database.read(
            lambda conn: _find_upload(conn, peer_name, origin)
        )

    async def _introduce(self, peer_name: str, origin: str) -> bool:
        """Say who we are and what the list is, unless we did; False if we may not."""

        def read(conn: Connection) -> tuple[Peer, Log] | None:
            peer = peer_store.find_peer(conn, peer_name)
            log = _own_log(conn, origin)
            if peer is None or not is_recipient(conn, log, peer):
                return None
            # What there is to say about the list is said by its newest log.
            return peer, logs.find_own_log(conn, log.node, log.list_name) or log

        found = await self._database.read(read)
        if found is None:
            return False
        peer, log = found
        notes = {"": self._read_descriptor(), log.list_name: log.list_note}
        for about, raw in notes.items():
            if raw is not None and self._said.get((peer_name, about)) != raw:
                await self._client.add_note(peer, raw)
                self._said[peer_name, about] = raw
        return True

    async def _bring(self, upload: _Upload) -> None:
        """Send what the peer lacks; bodies before the entries that follow them."""
        peer, log = upload.peer, upload.log
        progress = await self._find_progress(upload)
        stalls = 0
        while True:
            await self._send_bodies(upload, progress)
            request = await self._database.read(
                lambda conn: read_entries(
                    conn, log, progress.next_entry, progress.ticket
                )
            )
            progress.is_uncertain = True
            answer = await self._client.add_entries(peer, request)
            progress.is_uncertain = False
            match answer:
                case Acknowledged(lines):
                    await self._accept(upload, lines)
                    progress.next_entry = log.checkpoint_size
                    await self._send_bodies(upload, progress)
                    return
                case Wanted(info):
                    stalls += info.next_entry <= progress.next_entry
                    if stalls > 1:
                        raise self._changed(upload)
                    await self._go_on(upload, progress, info)

    async def _find_progress(self, upload: _Upload) -> _Progress:
        key = (upload.peer.name, upload.log.origin)
        progress = self._progress.get(key)
        if progress is None:
            progress = _Progress(upload.scope, 0, b"", 0)
            await self._ask_place(upload, progress)
            progress.next_body = max(0, progress.next_entry - _REQUEST_ENTRIES)
            self._progress[key] = progress
        elif progress.is_uncertain:
            await self._ask_place(upload, progress)
        if progress.scope != upload.scope:
            progress.scope, progress.next_body = upload.scope, 0
        return progress

    async def _ask_place(self, upload: _Upload, progress: _Progress) -> None:
        """Ask a peer where it stands, by a request without entries."""
        question = encode_add_entries(AddEntries(upload.log.origin, 0, 0))
        answer = await self._client.add_entries(upload.peer, question)
        if not isinstance(answer, Wanted):
            raise self._changed(upload)
        known = progress.next_entry
        await self._go_on(upload, progress, answer.info)
        progress.is_uncertain = False
        if progress.next_entry > known:
            self._note_advance(upload)

    def _note_advance(self, upload: _Upload) -> None:
        """Forget failures: a line that carries a part each time is worth trying."""
        self._backoff.succeeded((upload.peer.name, upload.log.origin))

    async def _go_on(
        self, upload: _Upload, progress: _Progress, info: MirrorInfo
    ) -> None:
        """Go on where the peer says that it stands."""
        if info.tree_size != upload.log.checkpoint_size:
            await self._check_known(upload, info)
            raise self._changed(upload)
        progress.next_entry = info.next_entry
        progress.ticket = info.ticket
        progress.next_body = min(progress.next_body, info.next_entry)

    async def _check_known(self, upload: _Upload, info: MirrorInfo) -> None:
        """Deal with the claim that a peer has more of our log than we have.

        It says so without proof, so it may lie; or this node was restored from an old
        backup and must not sign anything more. The operator has to look.
        """
        origin, peer = upload.log.origin, upload.peer
        log = await self._database.read(lambda conn: _own_log(conn, origin))
        with blaming(peer.name, "mirror info", str(info.tree_size).encode()):
            if info.tree_size > log.checkpoint_size:
                raise RollbackError(origin, info.tree_size, log.checkpoint_size)

    def _changed(self, upload: _Upload) -> PeerUnavailableError:
        self._progress.pop((upload.peer.name, upload.log.origin), None)
        return PeerUnavailableError(upload.peer.name, "its view changes")

    async def _send_bodies(self, upload: _Upload, progress: _Progress) -> None:
        peer, log = upload.peer, upload.log
        for leaves in body_ranges(progress.next_body, progress.next_entry):
            for bundle, raw in await self._read_bodies(upload, leaves):
                info = await self._client.add_bodies(peer, log.origin, bundle, raw)
                if info is not None:
                    raise self._changed(upload)
            progress.next_body = leaves.stop
            self._note_advance(upload)

    async def _read_bodies(
        self, upload: _Upload, leaves: range
    ) -> list[tuple[BodyBundleId, bytes]]:
        return await self._database.read(
            lambda conn: read_body_parts(conn, upload.log, leaves, upload.scope)
        )

    async def _accept(self, upload: _Upload, lines: bytes) -> None:
        """Keep a peer's word that it has stored and applied all that we have."""
        peer, log = upload.peer, upload.log
        with blaming(peer.name, f"mirror cosignature of {log.origin}", lines):
            peer, (note, acknowledged_at) = await self._descriptors.read_as_now(
                peer, lambda it: self._read_lines(it, log, lines)
            )

        def save(conn: Connection) -> None:
            deliveries.save_acknowledgement(
                conn,
                log_id=log.log_id,
                peer_id=peer.peer_id,
                tree_size=log.checkpoint_size,
                acknowledged_at=acknowledged_at,
                note=note,
            )
            peer_store.touch_peer(conn, peer.peer_id, self._clock())

        await self._database.write(save)
        _log.info(
            "upload is acknowledged",
            peer=peer.name,
            list=log.list_name,
            size=log.checkpoint_size,
        )

    def _read_lines(self, peer: Peer, log: Log, lines: bytes) -> tuple[bytes, int]:
        mirror = descriptor_of(peer).mirror
        note = note_cosigned_by(log.checkpoint or b"", parse_signatures(lines), mirror)
        return note, read_cosigned_at(note, mirror, now=self._clock())


def _own_log(conn: Connection, origin: str) -> Log:
    log = logs.find_log(conn, origin)
    if log is None or log.role is not Role.OWN or log.checkpoint is None:
        raise UnknownListError(origin)
    return log


def _find_upload(conn: Connection, peer_name: str, origin: str) -> _Upload | None:
    """Find what to upload; None unless the peer has seen just this checkpoint."""
    log = _own_log(conn, origin)
    peer = peer_store.find_peer(conn, peer_name)
    if peer is None or not is_recipient(conn, log, peer):
        return None
    scope = peer_store.granted_scope(conn, peer.peer_id, log.list_name)
    size = deliveries.delivered_size(conn, log.log_id, peer.peer_id)
    if scope is None or size != log.checkpoint_size:
        return None
    return _Upload(peer, log, scope)
