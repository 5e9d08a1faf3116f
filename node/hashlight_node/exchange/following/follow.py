"""Following lists of peers: when to pull, and what to do when that fails."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import structlog

from hashlight_node.exchange.errors import (
    ExchangeError,
    FollowQuarantinedError,
    ForkedLogError,
    PeerQuarantinedError,
    UnknownFollowError,
    UnknownPeerError,
)
from hashlight_node.exchange.notices import Backoff, Rounds
from hashlight_node.model import FollowState, PeerState
from hashlight_node.peers.errors import (
    PeerError,
    PeerMisbehavedError,
    PeerRefusedError,
    PeerUnavailableError,
)
from hashlight_node.store import peers as peer_store
from hashlight_node.store.errors import ScrubError
from hashlight_node.store.forks import is_forked
from hashlight_protocol import QuorumNotMetError

from .budgets import budget_of_a_turn
from .ended_logs import settle_ended
from .first_copy import find_or_begin
from .owners import Owners
from .pull import Pull
from .rights import Rights
from .sources import find_source, stop_list

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashlight_node.exchange.logs.erasures import ErasureClaims
    from hashlight_node.model import Follow, Peer
    from hashlight_node.store.database import Connection

    from .budgets import Budget
    from .copies import CopyUnderWay
    from .copying import FollowParts, Tally
    from .sources import Source

    Progress = Callable[[int, int], None]

_AT_ONCE: Final = 4
"""Lists that a sweep copies at the same time."""

_RETRY_LIMIT_SECONDS: Final = 300

_NOT_GRANTED: Final = "the peer has no such list, or has not granted it to us yet"
_ABANDONED: Final = (
    "the peer has abandoned this log: its key cannot be trusted any more"
)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one look at a followed list brought.

    Attributes:
        peer_name: The peer.
        list_name: Its list.
        origin: The log that was copied; None before the peer has named one.
        state: Where the follow stands now.
        old_size: Entries we had.
        new_size: Entries we have.
        records: RECORD entries among the new ones.
        retractions: RETRACT entries.
        erasures: ERASE entries.
        seconds: How long it took.
        error: What an operator should know, None if all is well.
        is_complete: Whether nothing was left for another turn.
    """

    peer_name: str
    list_name: str
    origin: str | None
    state: FollowState
    old_size: int = 0
    new_size: int = 0
    records: int = 0
    retractions: int = 0
    erasures: int = 0
    seconds: float = 0.0
    error: str | None = None
    is_complete: bool = True


class Follower:
    """Copies the lists that this node follows."""

    def __init__(self, parts: FollowParts) -> None:
        self._parts = parts
        self._rights = Rights(parts)
        self._owners = Owners(parts)
        self._rounds: Rounds[tuple[str, str], SyncReport] = Rounds()
        self._backoff: Backoff[tuple[str, str]] = Backoff(
            limit_seconds=_RETRY_LIMIT_SECONDS
        )
        # Of copies that wait for their next turn, by origin.
        self._claims: dict[str, ErasureClaims] = {}

    def copy_under_way(self, origin: str) -> CopyUnderWay | None:
        """Tell how far the copy of a log is; None if none is being made."""
        return self._parts.copies.find(origin)

    async def sync(
        self, peer_name: str, list_name: str, *, progress: Progress | None = None
    ) -> SyncReport:
        """Bring our copy of one list up to date.

        One at a time for each list: who asks during a sync gets the result of the
        next, which sees what the running one may have been too early for.

        Args:
            peer_name: The peer.
            list_name: A list of it that we follow.
            progress: Told (entries we have, entries there are) after each batch.

        Returns:
            What it brought. A list that the peer does not (yet) let us have is no
            error: the follow waits, and the report says so.

        Raises:
            UnknownPeerError: No such peer is pinned.
            UnknownFollowError: The list is not followed.
            PeerQuarantinedError: We do not talk to the peer.
            FollowQuarantinedError: The list is not copied further.
            PeerUnavailableError: The peer does not answer. Tried again by itself.
            ScrubError: Erased bytes are not all removed yet. Tried again by itself.
            PeerMisbehavedError: The peer broke a rule. Evidence is kept, the list is
                in quarantine, and what was verified goes on serving lookups.
        """
        key = (peer_name, list_name)
        report = await self._rounds.run(key, lambda: self._in_turn(*key, progress))
        while not report.is_complete:
            # It was a turn of a worker that we shared, and the rest is for us to copy.
            report = await self._rounds.run(key, lambda: self._in_turn(*key, progress))
        return report

    async def take_turn(self, peer_name: str, list_name: str) -> SyncReport:
        """Copy a list for a while; what is left queues up behind others.

        Raises:
            Exception: As `sync`.
        """
        key = (peer_name, list_name)
        report = await self._rounds.run(
            key, lambda: self._in_turn(*key, budget=budget_of_a_turn())
        )
        if not report.is_complete:
            self._parts.notices.announced(peer_name, list_name)
        return report

    async def sync_all(self) -> list[SyncReport]:
        """Bring all followed lists up to date; the failure of one stops no other.

        Returns:
            One report for each list that is not in quarantine, with its error if it
            failed.
        """
        slots = asyncio.Semaphore(_AT_ONCE)

        async def sync(follow: Follow) -> SyncReport:
            async with slots:
                try:
                    return await self.sync(follow.peer_name, follow.list_name)
                except (PeerError, ExchangeError, ScrubError) as error:
                    return SyncReport(
                        follow.peer_name,
                        follow.list_name,
                        origin=None,
                        state=await self._state(follow),
                        error=str(error),
                    )

        follows = await self._parts.database.read(_list_active)
        return list(await asyncio.gather(*map(sync, follows)))

    async def sweep(self) -> None:
        """Queue all followed lists, to make up for lost notices; wait for none."""
        for follow in await self._parts.database.read(_list_active):
            self._parts.notices.announced(follow.peer_name, follow.list_name)

    async def _in_turn(
        self,
        peer_name: str,
        list_name: str,
        progress: Progress | None = None,
        budget: Budget | None = None,
    ) -> SyncReport:
        peer, follow = await self._parts.database.read(
            lambda conn: _find(conn, peer_name, list_name)
        )
        if not peer.is_dialable and follow.via is None:
            # There is nothing to ask and no fault: its entries are brought to us.
            return SyncReport(peer_name, list_name, origin=None, state=follow.state)
        async with self._parts.turns.of(peer_name, list_name):
            return await self._sync(peer_name, list_name, progress, budget)

    async def _sync(
        self,
        peer_name: str,
        list_name: str,
        progress: Progress | None,
        budget: Budget | None,
    ) -> SyncReport:
        peer, follow = await self._parts.database.read(
            lambda conn: _find(conn, peer_name, list_name)
        )
        source = await self._parts.database.read(
            lambda conn: find_source(conn, peer, list_name)
        )
        try:
            return await self._bring(source, follow, progress, budget)
        except PeerRefusedError as error:
            await self._rights.end(follow)
            return await self._wait(follow, _explain(error))
        except (PeerUnavailableError, ScrubError) as error:
            await self._retry_later(follow, error)
            raise
        except PeerMisbehavedError as error:
            await self._quarantine(source, list_name, error)
            raise
        except QuorumNotMetError as error:
            return await self._wait_for_quorum(follow, error)

    async def _bring(
        self,
        source: Source,
        follow: Follow,
        progress: Progress | None,
        budget: Budget | None,
    ) -> SyncReport:
        key = (follow.peer_name, follow.list_name)
        started = asyncio.get_running_loop().time()
        source = await self._owners.introduce(source, follow.list_name)
        note = await self._parts.list_notes.current(source.owner, follow.list_name)
        await settle_ended(self._parts, source, follow, note)
        origin = note.newest.origin
        if note.newest.state == "abandoned":
            return await self._wait(follow, _ABANDONED)
        if await self._parts.database.read(lambda conn: is_forked(conn, origin)):
            return await self._stop_forked(follow, origin)
        log = await find_or_begin(
            self._parts.database,
            origin,
            note,
            clock=self._parts.clock,
            check=lambda conn: _find(conn, *key),
        )
        learned = await self._rights.learn(source, follow)
        pull = Pull(
            self._parts,
            source=source,
            follow=follow,
            log=log,
            progress=progress,
            budget=budget,
        )
        if origin in self._claims:
            pull.go_on(self._claims.pop(origin))
        tally = await pull.run(note)
        if not pull.is_complete:
            self._claims[origin] = pull.claims
        await self._rights.back_fill(source, follow, learned)
        self._backoff.succeeded(key)
        seconds = asyncio.get_running_loop().time() - started
        report = await self._report(follow, origin, tally, seconds)
        return replace(report, is_complete=pull.is_complete)

    async def _wait(self, follow: Follow, reason: str) -> SyncReport:
        await self._set(follow, FollowState.WAITING, reason)
        return SyncReport(
            follow.peer_name,
            follow.list_name,
            origin=None,
            state=FollowState.WAITING,
            error=reason,
        )

    async def _wait_for_quorum(
        self, follow: Follow, error: QuorumNotMetError
    ) -> SyncReport:
        """Look again soon: cosignatures are collected while we wait."""
        key = (follow.peer_name, follow.list_name)
        seconds = self._backoff.failed(key, self._parts.clock())
        self._parts.notices.sync_later(*key, seconds)
        return await self._wait(follow, f"{error.code}: {error}")

    async def _stop_forked(self, follow: Follow, origin: str) -> SyncReport:
        """Stop again what was released: only a later log of the list may go on."""
        reason = str(ForkedLogError(origin))
        await self._set(follow, FollowState.QUARANTINED, reason)
        return SyncReport(
            follow.peer_name,
            follow.list_name,
            origin=origin,
            state=FollowState.QUARANTINED,
            error=reason,
        )

    async def _retry_later(
        self, follow: Follow, error: PeerUnavailableError | ScrubError
    ) -> None:
        key = (follow.peer_name, follow.list_name)
        asked = getattr(error, "retry_after_seconds", None)
        seconds = self._backoff.failed(key, self._parts.clock(), asked)
        self._parts.notices.sync_later(*key, seconds)
        _log.warning(
            "list cannot be copied now",
            peer=follow.peer_name,
            list=follow.list_name,
            wait_seconds=seconds,
        )
        await self._set(follow, follow.state, str(error))

    async def _quarantine(
        self, source: Source, list_name: str, error: PeerMisbehavedError
    ) -> None:
        now = self._parts.clock()
        await self._parts.database.write(
            lambda conn: stop_list(conn, source.owner, list_name, error, now=now)
        )

    async def _set(self, follow: Follow, state: FollowState, error: str) -> None:
        def write(conn: Connection) -> None:
            latest = peer_store.find_follow(conn, follow.peer_id, follow.list_name)
            # Evidence that another part found meanwhile outweighs a network error.
            if latest is None or latest.state is FollowState.QUARANTINED:
                return
            peer_store.set_follow(
                conn,
                latest.follow_id,
                state=state,
                synced_at=latest.synced_at,
                error=error,
            )

        await self._parts.database.write(write)

    async def _state(self, follow: Follow) -> FollowState:
        latest = await self._parts.database.read(
            lambda conn: peer_store.find_follow(conn, follow.peer_id, follow.list_name)
        )
        return follow.state if latest is None else latest.state

    async def _report(
        self, follow: Follow, origin: str, tally: Tally, seconds: float
    ) -> SyncReport:
        latest = await self._parts.database.read(
            lambda conn: peer_store.find_follow(conn, follow.peer_id, follow.list_name)
        )
        _log.info(
            "list was copied",
            peer=follow.peer_name,
            list=follow.list_name,
            old_size=tally.old_size,
            new_size=tally.new_size,
            duration_seconds=round(seconds, 3),
        )
        return SyncReport(
            follow.peer_name,
            follow.list_name,
            origin,
            FollowState.ACTIVE if latest is None else latest.state,
            tally.old_size,
            tally.new_size,
            tally.records,
            tally.retractions,
            tally.erasures,
            seconds,
            None if latest is None else latest.error,
        )


def _explain(error: PeerRefusedError) -> str:
    return _NOT_GRANTED if error.code == "unknown-log" else str(error)


def _list_active(conn: Connection) -> list[Follow]:
    peers = peer_store.list_peers(conn)
    active = {peer.name for peer in peers if peer.state is PeerState.ACTIVE}
    asked = active & {peer.name for peer in peers if peer.is_dialable}
    return [
        follow
        for follow in peer_store.list_follows(conn)
        if follow.state is not FollowState.QUARANTINED
        and follow.peer_name in active
        and (follow.via or follow.peer_name) in asked
    ]


def _find(conn: Connection, peer_name: str, list_name: str) -> tuple[Peer, Follow]:
    peer = peer_store.find_peer(conn, peer_name)
    if peer is None:
        raise UnknownPeerError(peer_name)
    follow = peer_store.find_follow(conn, peer.peer_id, list_name)
    if follow is None:
        raise UnknownFollowError(peer_name, list_name)
    if peer.state is not PeerState.ACTIVE:
        raise PeerQuarantinedError(peer_name)
    if follow.state is FollowState.QUARANTINED:
        raise FollowQuarantinedError(peer_name, list_name)
    return peer, follow
