"""What a node does on its own account, as long as it runs.

Each loop runs one use case, then waits for work or for time to pass. Errors are told
apart by type: trouble with a peer was dealt with where it was noticed (tried again
later, or put in quarantine with its evidence) and is only counted here. What a peer
made impossible in some other way, and a disk that is full, pause the job. Anything
else is a mistake of ours and ends the node: one that goes on with half of its jobs
looks healthy and is not.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog
from sqlalchemy.exc import OperationalError

from hashlight_node.exchange.errors import ExchangeError
from hashlight_node.exchange.notices import Backoff, PendingQueue
from hashlight_node.keys import SignerUnavailableError
from hashlight_node.model import PeerState, Role
from hashlight_node.peers.errors import (
    PeerError,
    PeerMisbehavedError,
    PeerRefusedError,
    PeerUnavailableError,
)
from hashlight_node.store import idempotency, logs
from hashlight_node.store import peers as peer_store
from hashlight_node.store.errors import ScrubError
from hashlight_protocol import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from hashlight_node.exchange.following.follow import Follower, SyncReport
    from hashlight_node.exchange.logs.self_check import SelfCheck
    from hashlight_node.exchange.notices import Notices
    from hashlight_node.exchange.operating.peering import Peering
    from hashlight_node.exchange.publishing.publish import Publisher
    from hashlight_node.exchange.telling.gossip import Gossip
    from hashlight_node.exchange.telling.push import Pusher
    from hashlight_node.exchange.telling.uploading import Uploader
    from hashlight_node.metrics import Metrics
    from hashlight_node.model import Clock, Log
    from hashlight_node.store.database import Connection, Database

_PULLS: Final = 8
"""Pulls at the same time; each may hold some bundles in memory."""

_PUSHES: Final = 64
"""Pushes at the same time. They are small, and most of them wait for slow peers."""

_PAUSE_LIMIT_SECONDS: Final = 300

_STORAGE_TROUBLE: Final = {
    sqlite3.SQLITE_BUSY: "storage-busy",
    sqlite3.SQLITE_CANTOPEN: "storage-closed",
    sqlite3.SQLITE_FULL: "storage-full",
    sqlite3.SQLITE_IOERR: "storage-error",
    sqlite3.SQLITE_NOMEM: "out-of-memory",
}
"""What passes once somebody makes room; other errors of SQLite are mistakes of ours."""

_SERVER_TROUBLE: Final = {
    "08": "storage-closed",
    "53": "storage-full",
    "55": "storage-busy",
    "57": "storage-closed",
    "58": "storage-error",
}
"""The same of PostgreSQL, by the class of its code."""

_PRUNE_SECONDS: Final = 3600
_ANSWERS_KEPT_SECONDS: Final = 7 * 86_400
"""How long a request may be repeated under its idempotency key."""

_REFRESH_SECONDS: Final = 60
"""At most one descriptor of a peer in this time, whatever strangers claim to be."""

_JITTER: Final = 0.1
"""Share of a period by which it varies, so that nodes started together part."""

_log = structlog.get_logger()


class KeyRefresher:
    """Fetches descriptors of peers whose requests claim a key that we do not know.

    For one event loop; not thread-safe.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asked_at: dict[str, int] = {}
        self._queue: PendingQueue[str] = PendingQueue()

    def ask(self, peer_name: str) -> None:
        """Have a peer's descriptor fetched soon, unless it just was."""
        now = self._clock()
        asked_at = self._asked_at.get(peer_name)
        if asked_at is not None and 0 <= now - asked_at < _REFRESH_SECONDS:
            return
        self._asked_at[peer_name] = now
        self._queue.add(peer_name)

    async def take(self) -> str:
        """Wait for a peer whose descriptor is wanted."""
        return await self._queue.take()


@dataclass(frozen=True, slots=True)
class JobParts:
    """The collaborators of all jobs."""

    database: Database
    notices: Notices
    publisher: Publisher
    pusher: Pusher
    uploader: Uploader
    self_check: SelfCheck
    follower: Follower
    peering: Peering
    gossip: Gossip
    key_refresher: KeyRefresher
    metrics: Metrics
    clock: Clock


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to be done again and again.

    Attributes:
        name: For the log.
        period_seconds: How often.
        work: What.
    """

    name: str
    period_seconds: float
    work: Callable[[], Awaitable[object]]


async def run_jobs(
    parts: JobParts,
    *,
    sweep_seconds: int,
    heartbeat_seconds: int,
    chores: Sequence[Chore] = (),
) -> None:
    """Run every job until cancelled.

    Args:
        parts: What they work with.
        sweep_seconds: Period in which everything is looked at without a notice.
        heartbeat_seconds: Period in which checkpoints are announced without news.
        chores: What else is to be done.

    Raises:
        ExceptionGroup: A job met an error that is no peer's fault; all have stopped.
    """
    jobs = _Jobs(parts)
    async with asyncio.TaskGroup() as group:
        group.create_task(jobs.queue_pushes())
        for _ in range(_PUSHES):
            group.create_task(jobs.push_on_notice())
        for _ in range(_PULLS):
            group.create_task(jobs.pull_on_notice())
        group.create_task(jobs.refresh_keys())
        group.create_task(jobs.tell_of_forks())
        for period, work in (
            (sweep_seconds, jobs.sweep),
            (sweep_seconds, jobs.gossip),
            (sweep_seconds, jobs.check_self),
            (_PRUNE_SECONDS, jobs.prune),
        ):
            group.create_task(_repeat(period, work))
        group.create_task(_repeat(heartbeat_seconds, jobs.beat, first_now=False))
        for chore in chores:
            work = partial(jobs.do, chore)
            group.create_task(_repeat(chore.period_seconds, work))


async def _repeat(
    period_seconds: float,
    work: Callable[[], Awaitable[None]],
    *,
    first_now: bool = True,
) -> None:
    if not first_now:
        await _pause(period_seconds)
    while True:
        await work()
        await _pause(period_seconds)


async def _pause(period_seconds: float) -> None:
    jitter = random.uniform(-_JITTER, _JITTER)  # noqa: S311 -- not a secret
    await asyncio.sleep(period_seconds * (1 + jitter))


class _Jobs:
    def __init__(self, parts: JobParts) -> None:
        self._parts = parts
        self._pauses: Backoff[tuple[str, str, str]] = Backoff(
            limit_seconds=_PAUSE_LIMIT_SECONDS
        )

    async def queue_pushes(self) -> None:
        while True:
            origin = await self._parts.notices.pushes.take()
            await self._guard("push", self._parts.pusher.queue(origin))

    async def push_on_notice(self) -> None:
        notices = self._parts.notices
        while True:
            async with notices.peer_pushes.turn() as (peer_name, origin):
                await self._attempt(
                    ("push", peer_name, origin),
                    partial(self._parts.uploader.push_to, peer_name, origin),
                    partial(notices.push_later, peer_name, origin),
                )

    async def pull_on_notice(self) -> None:
        notices = self._parts.notices
        while True:
            async with notices.syncs.turn() as (peer_name, list_name):
                await self._attempt(
                    ("pull", peer_name, list_name),
                    partial(self._pull, peer_name, list_name),
                    partial(notices.sync_later, peer_name, list_name),
                )

    async def refresh_keys(self) -> None:
        while True:
            name = await self._parts.key_refresher.take()
            await self._refresh(name)

    async def sweep(self) -> None:
        """Queue everything once, for notices that were lost; wait for no peer."""
        await self._guard("sweep", self._parts.follower.sweep())
        await self._guard("sweep", self._parts.pusher.sweep())
        await self._guard("sweep", self._parts.uploader.sweep())

    async def gossip(self) -> None:
        """Compare what we see of our peers' logs with other peers."""
        await self._guard("gossip", self._parts.gossip.sweep())

    async def tell_of_forks(self) -> None:
        while True:
            origin = await self._parts.notices.forks.take()
            await self._guard("evidence", self._parts.gossip.spread(origin))

    async def check_self(self) -> None:
        """Ask peers whether they have more of our logs, signed, than we have."""
        await self._guard("self-check", self._parts.self_check.ask())

    async def beat(self) -> None:
        """Announce every checkpoint of ours again, and read who our peers are."""
        await self._guard("heartbeat", self._beat())

    async def _beat(self) -> None:
        for log in await self._parts.database.read(_own_logs):
            await self._guard("heartbeat", self._parts.publisher.heartbeat(log.origin))
        for peer in await self._parts.database.read(peer_store.list_peers):
            if peer.state is PeerState.ACTIVE and peer.is_dialable:
                await self._refresh(peer.name)

    async def prune(self) -> None:
        """Forget answers that nobody will ask for again."""
        before = self._parts.clock() - _ANSWERS_KEPT_SECONDS

        def write(conn: Connection) -> None:
            idempotency.prune_responses(conn, before)

        await self._guard("prune", self._parts.database.write(write))

    async def do(self, chore: Chore) -> None:
        """Do a chore once."""
        await self._guard(chore.name, chore.work())

    async def _refresh(self, name: str) -> None:
        await self._attempt(
            ("refresh", name, "descriptor"),
            partial(self._parts.peering.refresh_descriptor, name),
        )

    async def _pull(self, peer_name: str, list_name: str) -> None:
        self._count(await self._parts.follower.take_turn(peer_name, list_name))

    def _count(self, report: SyncReport) -> None:
        metrics = self._parts.metrics
        name = (report.peer_name, report.list_name)
        if report.new_size > report.old_size:
            metrics.observe_sync(report.peer_name, report.seconds)
        metrics.count_records(*name, "in", report.records)
        metrics.count_records(*name, "retracted", report.retractions)
        metrics.count_records(*name, "erased", report.erasures)

    async def _attempt(
        self,
        key: tuple[str, str, str],
        work: Callable[[], Awaitable[object]],
        later: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Run a use case about one peer, unless it is paused.

        Args:
            key: The job, the peer's name, and what of it.
            work: The use case.
            later: Has it attempted again after so many seconds.
        """
        job, peer, _ = key
        pause_seconds = self._pauses.remaining_seconds(key, self._parts.clock())
        if pause_seconds:
            later(pause_seconds)
            return
        try:
            is_over = await self._guard(job, work())
        except ProtocolError as error:
            # Not about bytes that it sent, or there would be evidence: about what its
            # descriptor or its list makes of our requests, for example.
            is_over = False
            self._parts.metrics.count_failure(peer, error.code)
            _log.error("peer misbehaved", job=job, peer=peer, code=error.code)
        if is_over:
            self._pauses.succeeded(key)
        else:
            later(self._pauses.failed(key, self._parts.clock()))

    async def _guard(self, job: str, work: Awaitable[object]) -> bool:
        """Run a use case; what a peer or an operator caused ends it, not the job.

        Returns:
            False if the store had no room for it: it should be tried again.
        """
        try:
            await work
        except PeerError as error:
            self._blame(job, error)
        except ExchangeError as error:
            # The operator changed something meanwhile: no such follow, quarantine.
            _log.info("job had nothing to do", job=job, code=error.code)
        except ScrubError:
            # The erase is done and lookups know; the sweep tries the files again.
            _log.error("erased bytes could not be removed yet", job=job)
        except SignerUnavailableError:
            _log.error("a key cannot sign now", job=job)
            return False
        except OperationalError as error:
            name = _storage_trouble(error)
            if name is None:
                raise
            _log.error("database cannot be used now", job=job, code=name)
            return False
        return True

    def _blame(self, job: str, error: PeerError) -> None:
        match error:
            case PeerUnavailableError(peer=peer):
                self._parts.metrics.count_unavailable(peer)
                _log.info("peer is unavailable", job=job, peer=peer)
            case PeerMisbehavedError(peer=peer, code=code):
                self._parts.metrics.count_failure(peer, code)
                _log.error("peer misbehaved", job=job, peer=peer, code=code)
            case PeerRefusedError(peer=peer, status=status, code=code):
                _log.warning(
                    "peer refused", job=job, peer=peer, status=status, code=code
                )
            case _:
                raise error


def _storage_trouble(error: OperationalError) -> str | None:
    """Name what is wrong with disk or server; None if the error is something else."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        # The lowest byte says what it is, the others say more.
        return _STORAGE_TROUBLE.get(code & 0xFF)
    # A connection that is lost has no code.
    state = getattr(error.orig, "sqlstate", None)
    return _SERVER_TROUBLE.get((state or "08")[:2])


def _own_logs(conn: Connection) -> list[Log]:
    # Of a log that ended nobody waits for news.
    own = logs.list_logs(conn, Role.OWN)
    return [log for log in own if log.counts_until is None]
