"""What every part of a node stands on: keys, store, memory, the way out."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import hashlight_node
from hashlight_node.exchange.answering.static_files import StaticFiles
from hashlight_node.exchange.logs.applied import Applied
from hashlight_node.exchange.logs.quorum import Quorum
from hashlight_node.exchange.looking_up.changes import Feed
from hashlight_node.exchange.looking_up.match_log import MatchBuffer, MatchLog
from hashlight_node.exchange.notices import Notices
from hashlight_node.exchange.room import Room, RoomState
from hashlight_node.keys import OwnDescriptor, load_keyring
from hashlight_node.last_signed import LastSigned
from hashlight_node.matching.index import kernel_name
from hashlight_node.metrics import Metrics
from hashlight_node.store import allowed
from hashlight_node.store.database import Database
from hashlight_protocol import SPEC_VERSION

from .judging import build_criteria
from .keys import key_access
from .memory import choose_memory, keep_snapshot
from .outbound import open_client
from .quorum import read_policy
from .room import room_rules, store_directory

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from hashlight_node.config import Settings
    from hashlight_node.exchange.looking_up.snapshots import Snapshots
    from hashlight_node.keys import Keyring
    from hashlight_node.matching.judging import Criteria
    from hashlight_node.matching.matcher import Matcher
    from hashlight_node.model import Clock
    from hashlight_node.peers.client import PeerClient

    from .memory import Behind, Claimed


_JITTER: Final = 0.5
"""Largest share of a pause after a failure by which it is longer than it must be."""


@dataclass(frozen=True, slots=True)
class Foundation:
    """What every other part stands on."""

    settings: Settings
    clock: Clock
    keyring: Keyring
    descriptor: OwnDescriptor
    last_signed: LastSigned
    database: Database
    matcher: Matcher
    criteria: Criteria
    snapshots: Snapshots
    feed: Feed
    applied: Applied
    match_log: MatchLog | None
    client: PeerClient
    notices: Notices
    metrics: Metrics
    quorum: Quorum
    files: StaticFiles | None
    room: Room


async def lay_foundation(
    settings: Settings,
    clock: Clock,
    stack: AsyncExitStack,
    behind: Behind | None,
    claimed: Claimed | None,
) -> Foundation:
    """Open what has to be opened; the stack closes it again, the database last.

    Raises:
        SettingsError: The policy that they name cannot be used.
        KeyFileError: The keys cannot be used as they are.
        LastSignedError: What they signed last cannot be read, or another process signs.
        StoreError: The database cannot.
        OSError: The directory of static files cannot be emptied.
    """
    quorum = Quorum(read_policy(settings.exchange.quorum))
    keyring = load_keyring(
        settings.keys.directory, settings.node.name, access=key_access(settings)
    )
    if claimed is None:
        last_signed = LastSigned.open(settings.keys.last_signed)
        # Closed after the database, whose last commits it still follows.
        stack.callback(last_signed.close)
        database = Database.open(settings.store.url)
        given = None if behind is None else behind.memory
    else:
        last_signed, database = claimed.last_signed, claimed.database
        given = claimed.memory
    memory = await choose_memory(settings, database, given)
    matcher = memory.matcher
    # Closed after the database, whose last writes still change it.
    stack.callback(matcher.close)
    stack.push_async_callback(database.close)
    files = _keep_files(settings, database, stack)
    flood_counts = None if behind is None else behind.flood_counts
    criteria = build_criteria(settings, clock=clock, flood_counts=flood_counts)
    await database.read(
        lambda conn: criteria.allowed.replace(allowed.list_allowed(conn))
    )
    snapshots = await keep_snapshot(settings, database, memory, clock, stack)
    feed = Feed(database, clock=clock, kept_days=settings.matching.changes_days)
    stack.callback(feed.close)
    timeout_seconds = settings.exchange.request_timeout_seconds
    client = await stack.enter_async_context(
        open_client(settings, keyring, clock, timeout_seconds=timeout_seconds)
    )
    notices = Notices(jitter=_jitter)
    stack.callback(notices.close)
    metrics = Metrics(version=hashlight_node.__version__, spec_version=SPEC_VERSION)
    metrics.show_kernel(kernel_name())
    return Foundation(
        settings=settings,
        clock=clock,
        keyring=keyring,
        descriptor=OwnDescriptor(keyring),
        last_signed=last_signed,
        database=database,
        matcher=matcher,
        criteria=criteria,
        snapshots=snapshots,
        feed=feed,
        applied=Applied(matcher.apply, then=(snapshots.follow, feed.follow)),
        match_log=_open_match_log(settings, database, criteria, metrics, clock, stack),
        client=client,
        notices=notices,
        metrics=metrics,
        quorum=quorum,
        files=files,
        room=watch_room(settings, metrics),
    )


def _keep_files(
    settings: Settings, database: Database, stack: AsyncExitStack
) -> StaticFiles | None:
    directory = settings.federation.static_directory
    if not directory:
        return None
    files = StaticFiles(Path(directory))
    files.begin()
    stack.callback(files.end)
    database.keep_with(files)
    return files


def clear_files(settings: Settings) -> None:
    """Remove the files that a proxy sends: nobody here hears of what is erased.

    Raises:
        OSError: They cannot be removed.
    """
    if settings.federation.static_directory:
        StaticFiles(Path(settings.federation.static_directory)).begin()


def watch_room(settings: Settings, metrics: Metrics) -> Room:
    """Look how much room the disk of a process has, and show it."""

    def show(free: int, state: RoomState) -> None:
        metrics.show_room(free, list(RoomState).index(state))

    room = Room(store_directory(settings), room_rules(settings), on_measured=show)
    room.check()
    return room


def _jitter() -> float:
    return random.uniform(0, _JITTER)  # noqa: S311 -- not a secret


def _open_match_log(
    settings: Settings,
    database: Database,
    criteria: Criteria,
    metrics: Metrics,
    clock: Clock,
    stack: AsyncExitStack,
) -> MatchLog | None:
    if not settings.matching.log_matches:
        return None
    log = MatchLog(
        MatchBuffer(clock=clock, on_dropped=metrics.count_unlogged),
        database=database,
        criteria=criteria,
        clock=clock,
        kept_days=settings.matching.match_log_days,
    )
    stack.push_async_callback(log.flush)
    return log
