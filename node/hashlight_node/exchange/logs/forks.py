"""What follows from a fork: the evidence is kept, and the log counts no more.

Source: SPEC.md#fork-evidence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from hashlight_node.exchange.errors import ForkedLogError
from hashlight_node.peers.errors import PeerMisbehavedError
from hashlight_node.store import deliveries, logs
from hashlight_node.store import forks as store
from hashlight_protocol import (
    ForkEvidence,
    SplitViewError,
    encode_fork_evidence,
    parse_checkpoint,
    parse_note,
    parse_origin,
)

from .evidence import has_room, quarantine_list
from .linking import find_fork, find_fork_here

if TYPE_CHECKING:
    from hashlight_node.exchange.notices import Notices
    from hashlight_node.model import Clock, Log, Peer
    from hashlight_node.peers.client import PeerClient
    from hashlight_node.store.database import Connection, Database
    from hashlight_protocol import SignedCheckpoint

_log = structlog.get_logger()


def refuse_forked(conn: Connection, origin: str) -> None:
    """Stop whoever is about to follow, cosign or store more of a log that forked.

    Raises:
        ForkedLogError: There is evidence against it.
    """
    if store.is_forked(conn, origin):
        raise ForkedLogError(origin)


def keep_fork(
    conn: Connection, evidence: ForkEvidence, owner: Peer, *, now: int
) -> bool:
    """Keep the evidence that a peer's log forked, and copy its list no further.

    What was verified before stays and goes on serving lookups. A later log of the
    list, if that is what we copy by now, is not concerned.

    Args:
        conn: A write transaction.
        evidence: The evidence, verified.
        owner: Whose log it is.
        now: Unix seconds.

    Returns:
        Whether it is news.
    """
    origin = evidence.origin
    raw = encode_fork_evidence(evidence)
    if not store.save_fork(conn, origin, raw, now):
        return False
    blame = _blame(owner, evidence, raw)
    list_name = parse_origin(origin).list_name
    if has_room(conn, owner, list_name):
        # Not by `keep_evidence`, which is content with two bare checkpoints that
        # somebody kept before; there is one row like this for each log.
        deliveries.save_evidence(
            conn,
            peer_id=owner.peer_id,
            list_name=list_name,
            code=blame.code,
            what=str(blame),
            found_at=now,
            payload=raw,
        )
    _log.error("log forked; evidence is kept", peer=owner.name, origin=origin)
    copied = logs.find_followed_log(conn, owner.name, list_name)
    if copied is None or copied.origin == origin:
        quarantine_list(conn, owner, list_name, blame, now=now)
    return True


def keep_own_fork(
    conn: Connection, evidence: ForkEvidence, log: Log, *, now: int
) -> bool:
    """Keep the evidence that a log of our own forked, and tell the operator.

    It takes entries as before: what somebody withdraws has to end here at least.

    Returns:
        Whether it is news.
    """
    raw = encode_fork_evidence(evidence)
    if not store.save_fork(conn, log.origin, raw, now):
        return False
    reason = str(ForkedLogError(log.origin))
    logs.set_log_state(conn, log.log_id, log.state, reason)
    _log.error("a log of our own forked; evidence is kept", origin=log.origin)
    return True


class ForkFinder:
    """Holds checkpoints of peers' logs against what we know, and keeps what it finds.

    Args:
        database: The store.
        client: Asks owners for hashes that our copies do not have.
        clock: Unix seconds.
        notices: Where evidence is queued for others.
    """

    def __init__(
        self,
        *,
        database: Database,
        client: PeerClient,
        clock: Clock,
        notices: Notices,
    ) -> None:
        self._database = database
        self._client = client
        self._clock = clock
        self._notices = notices

    async def examine(
        self,
        owner: Peer,
        *,
        ours: SignedCheckpoint,
        theirs: SignedCheckpoint,
        asked: Peer | None = None,
    ) -> bool:
        """Tell whether a log forked; if so the evidence is kept and goes to others.

        Args:
            owner: Whose log it is.
            ours: The largest checkpoint that we cosigned.
            theirs: Another by a key of the log.
            asked: Who is asked for what links the two; the owner unless said.

        Raises:
            PeerUnavailableError: Nobody serves what links the two.
        """
        found = await find_fork(
            self._database, self._client, asked or owner, ours=ours, theirs=theirs
        )
        if found is not None:
            await self.keep(owner, found)
        return found is not None

    async def examine_here(self, owner: Peer, theirs: SignedCheckpoint) -> bool:
        """Do the same with our own copy only, and ask nobody."""
        found = await self._database.read(lambda conn: find_fork_here(conn, theirs))
        if not isinstance(found, ForkEvidence):
            return False
        await self.keep(owner, found)
        return True

    async def keep(self, owner: Peer, evidence: ForkEvidence) -> None:
        """Keep evidence that was verified; if it is news, others should have it."""
        now = self._clock()
        if await self._database.read(
            lambda conn: store.is_forked(conn, evidence.origin)
        ):
            return  # A flood of it does not even keep the writer busy.
        if await self._database.write(
            lambda conn: keep_fork(conn, evidence, owner, now=now)
        ):
            self._notices.forks.add(evidence.origin)


def _blame(owner: Peer, evidence: ForkEvidence, raw: bytes) -> PeerMisbehavedError:
    older = parse_checkpoint(parse_note(evidence.older).text)
    cause = SplitViewError(older.origin, older.tree_size)
    return PeerMisbehavedError(owner.name, f"checkpoints of {older.origin}", cause, raw)
