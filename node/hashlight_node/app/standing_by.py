"""A process that shares its database with the one that leads, and waits to take over.

It answers lookups and what peers read, from its own memory and from the store, and
passes everything else on. When nobody leads any more it takes the right to write, and
hands its memory to the node that it then starts. Its listening sockets are those of the
node to come, so nobody who connects is turned away meanwhile.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog
from sqlalchemy.exc import OperationalError

import hashlight_node
from hashlight_node.api.authentication import Authenticator
from hashlight_node.api.federation.standby import ReadingParts
from hashlight_node.api.federation.standby import build_standby as build_federation
from hashlight_node.api.local.forwarding import open_leader_forwarder
from hashlight_node.api.local.standby import build_standby as build_local
from hashlight_node.api.server import duplicates, start_server
from hashlight_node.exchange.answering.mirroring import Mirroring
from hashlight_node.exchange.answering.serve import Serving
from hashlight_node.exchange.errors import StoreSilentError
from hashlight_node.exchange.following.life import SignsOfLife
from hashlight_node.exchange.looking_up.catching_up import FeedLostError
from hashlight_node.exchange.looking_up.keeping_up import (
    Waker,
    learn_signed,
    unsigned_logs,
)
from hashlight_node.exchange.looking_up.snapshots import Filled
from hashlight_node.exchange.notices import Notices
from hashlight_node.keys import KeyFileError, load_keyring, read_published_descriptor
from hashlight_node.metrics import Metrics
from hashlight_node.store.database import Database, Reader
from hashlight_node.store.errors import (
    DatabaseInUseError,
    DatabaseUnavailableError,
    ScrubError,
    is_server_away,
)
from hashlight_node.store.leading import Leader, find_leader, named
from hashlight_protocol import SPEC_VERSION

from .foundation import clear_files, watch_room
from .keys import key_access
from .listeners import release_at_shutdown
from .looking_up import StoreLookups, follow_store
from .memory import Claimed, Memory, forget_snapshot, load_memory
from .node import FEDERATION_SHUTDOWN_SECONDS, LOCAL_SHUTDOWN_SECONDS
from .watching import freshness_rules

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from socket import socket

    from aiohttp import web
    from typing_extensions import Buffer

    from hashlight_node.api.local.forwarding import Forwarder
    from hashlight_node.config import Settings
    from hashlight_node.keys import Keyring, Signers
    from hashlight_node.last_signed import LastSigned
    from hashlight_node.model import Clock
    from hashlight_node.store.leading import Place

_ASK_SECONDS: Final = 0.25
"""How often to ask who leads. So much later than the leader is gone we take over."""

_LOOK_SECONDS: Final = 0.05
"""How often to look whether anything was committed."""

_KEYLESS_SECONDS: Final = 10.0
"""How long not to try to lead after keys were missing."""

_PATIENCE_SECONDS: Final = 20.0
"""How long a request waits for somebody to lead: longer than the server takes to notice
that a machine is lost, and than a leader takes to finish what it has begun."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Shared:
    """What a process that shares its database has all its life.

    Attributes:
        settings: The node's.
        clock: Unix seconds.
        last_signed: What was signed last, by whichever process.
        place: Where the others reach this process.
        local: Listens for our own services, or for our workers.
        federation: Listens for peers.
        flood_counts: Memory in which all processes of this machine count matches.
    """

    settings: Settings
    clock: Clock
    last_signed: LastSigned
    place: Place
    local: Sequence[socket]
    federation: Sequence[socket]
    flood_counts: Buffer | None = None


@dataclass(slots=True)
class _Lead:
    """Who leads, as of a moment ago.

    Attributes:
        own: Where this process is.
        leader: Who has the right to write.
        is_up: Whether our own node answers, if it is us.
    """

    own: Place
    leader: Leader | None = None
    is_up: bool = False

    async def local(self) -> str | None:
        """Give where the leader's local API is; None while it is nowhere."""
        place = self._place()
        return None if place is None else _base(place.host, place.local)

    async def federation(self) -> str | None:
        """Give where the leader answers peers; None while it does nowhere."""
        place = self._place()
        return None if place is None else _base(place.host, place.federation)

    def _place(self) -> Place | None:
        place = None if self.leader is None else self.leader.place
        return None if place == self.own and not self.is_up else place


def _base(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@dataclass(slots=True)
class Standby:
    """A process that stands by, and answers; made by `stand_by`."""

    _shared: Shared
    _keyring: Keyring
    _witness: Signers
    _database: Reader
    _lookups: StoreLookups
    _waker: Waker
    _lead: _Lead
    _ending: asyncio.Event = field(default_factory=asyncio.Event)
    _following: asyncio.Task[None] | None = None
    _keyless_until: float = 0.0

    async def wait(self, stopping: asyncio.Event) -> Claimed | None:
        """Wait until it is for us to lead.

        Args:
            stopping: Ends this.

        Returns:
            What is needed for that. None if we are to stop, or to stand by anew.
        """
        following = self._following = asyncio.create_task(self._follow())
        stopped = asyncio.create_task(stopping.wait())
        try:
            while not stopping.is_set() and not following.done():
                claimed = await self._ask()
                if claimed is not None:
                    return claimed
                both = (stopped, following)
                await asyncio.wait(
                    both,
                    timeout=_ASK_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
        finally:
            stopped.cancel()
            await self.stop_following()
        return None

    def is_up(self) -> None:
        """Learn that our own node answers: what waits for a leader may go there."""
        self._lead.is_up = True

    async def stop_following(self) -> None:
        """End what is done besides answering; a second time does nothing.

        Nothing of it goes on in a thread after this: from now on another may sign.
        """
        self._ending.set()
        if self._following is not None:
            with suppress(FeedLostError):
                await self._following

    async def _ask(self) -> Claimed | None:
        """Ask who leads, and lead if nobody does."""
        try:
            self._lead.leader = await self._database.read(find_leader)
            if self._lead.leader is not None or not await self._may_lead():
                return None
            database = await asyncio.to_thread(self._claim)
        except OperationalError as error:
            if not is_server_away(error):
                raise
            return None
        if database is None:
            return None
        try:
            return await self._take_over(database)
        except BaseException:
            await database.close()
            raise

    def _claim(self) -> Database | None:
        url = named(self._shared.settings.store.url, self._shared.place)
        try:
            return Database.open(url, shared=True)
        except (DatabaseInUseError, DatabaseUnavailableError, ScrubError):
            return None

    async def _take_over(self, database: Database) -> Claimed | None:
        await self.stop_following()
        try:
            mark = await self._database.read(self._lookups.feed.hand_over)
        except FeedLostError:
            # Nothing may be led with such memory: we stand by anew, with another.
            await database.close()
            return None
        self._lead.leader = Leader(self._lead.own)
        shared = self._shared
        # It is as of now, and there is no snapshot of which that could be said.
        filled = Filled(mark, None)
        return Claimed(
            database=database,
            last_signed=shared.last_signed,
            memory=Memory(self._lookups.memory.matcher, filled),
            local=shared.local,
            federation=shared.federation,
        )

    async def _may_lead(self) -> bool:
        """Tell whether we have every key that a leader needs."""
        now = asyncio.get_running_loop().time()
        if now < self._keyless_until:
            return False
        keyring = self._read_keys()
        if keyring is None:
            return False
        missing = await self._database.read(lambda conn: unsigned_logs(conn, keyring))
        for origin in missing:
            _log.error("nobody leads, and this process lacks a key", origin=origin)
        if missing:
            self._keyless_until = now + _KEYLESS_SECONDS
        return not missing

    def _read_keys(self) -> Keyring | None:
        """Read the keys, which the leader changes; None while it is about to."""
        try:
            keyring = _load_keys(self._shared.settings)
        except KeyFileError:
            _log.warning("keys cannot be read now")
            return None
        self._keyring = keyring
        # Who signs with it sees it change.
        self._witness.every = keyring.witness.every
        return keyring

    async def _follow(self) -> None:
        """Keep memory and the last-signed store up to the leader's commits."""
        seen: int | None = None
        keys_changed_at = _keys_changed_at(self._shared.settings)
        while not self._ending.is_set():
            version = self._database.version()
            if version != seen and await self._catch_up():
                seen = version
            changed_at = _keys_changed_at(self._shared.settings)
            is_other = changed_at not in (None, keys_changed_at)
            if is_other and self._read_keys() is not None:
                keys_changed_at, seen = changed_at, None
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), _LOOK_SECONDS)

    async def _catch_up(self) -> bool:
        shared = self._shared
        try:
            await self._waker.look()
            await self._database.read(
                lambda conn: learn_signed(conn, self._keyring, shared.last_signed)
            )
            await self._lookups.view.lists()
        except StoreSilentError:
            return False
        except OperationalError as error:
            if not is_server_away(error):
                raise
            return False
        return True


@asynccontextmanager
async def stand_by(shared: Shared, memory: Memory | None) -> AsyncIterator[Standby]:
    """Answer for as long as the block lasts; then finish what is under way.

    Args:
        shared: What this process has all its life.
        memory: What was live when it started, if that was read.

    Raises:
        KeyFileError: The keys cannot be used as they are.
        StoreError: The database cannot be read.
        OSError: An address cannot be bound.
    """
    settings, clock = shared.settings, shared.clock
    async with AsyncExitStack() as stack:
        keyring = _load_keys(settings)
        clear_files(settings)
        database = Reader.open_reader(settings.store.url)
        stack.push_async_callback(database.close)
        memory = memory or await load_memory(settings, database)
        forget_snapshot(settings)
        lookups = await follow_store(
            settings, database, memory, clock=clock, flood_counts=shared.flood_counts
        )
        notices = Notices()
        lead = _Lead(shared.place)
        standby = Standby(
            _shared=shared,
            _keyring=keyring,
            _witness=keyring.witness,
            _database=database,
            _lookups=lookups,
            _waker=Waker(database, notices),
            _lead=lead,
        )
        stack.push_async_callback(standby.stop_following)
        metrics = Metrics(version=hashlight_node.__version__, spec_version=SPEC_VERSION)
        local = await _forwarder(stack, lead.local)
        await _listen(
            stack,
            build_local(
                lookups.parts(metrics, match_log=None),
                local,
                memory.matcher,
                watch_room(settings, metrics),
                version=hashlight_node.__version__,
                log_requests=settings.logging.requests,
            ),
            shared.local,
            LOCAL_SHUTDOWN_SECONDS,
        )
        federation = await _forwarder(stack, lead.federation)
        reading = _reading_parts(shared, database, keyring, notices)
        app = build_federation(
            reading,
            federation.forward_known,
            authenticator=Authenticator(
                database,
                authority=settings.node.authority,
                clock=clock,
                on_unknown_key=_ignore,
            ),
            metrics=metrics,
            log_requests=settings.logging.requests,
        )
        release_at_shutdown(app, notices)
        await _listen(stack, app, shared.federation, FEDERATION_SHUTDOWN_SECONDS)
        yield standby


async def _forwarder(
    stack: AsyncExitStack, find: Callable[[], Awaitable[str | None]]
) -> Forwarder:
    opened = open_leader_forwarder(find, patience_seconds=_PATIENCE_SECONDS)
    return await stack.enter_async_context(opened)


async def _listen(
    stack: AsyncExitStack,
    app: web.Application,
    sockets: Sequence[socket],
    shutdown_seconds: float,
) -> None:
    runner = await start_server(
        app,
        duplicates(sockets),
        shutdown_seconds=shutdown_seconds,
        hang_up_cancels=True,  # The leader finishes what it has begun.
    )
    stack.push_async_callback(runner.cleanup)


def _reading_parts(
    shared: Shared, database: Reader, keyring: Keyring, notices: Notices
) -> ReadingParts:
    settings, clock = shared.settings, shared.clock
    return ReadingParts(
        node_name=settings.node.name,
        serving=Serving(
            database=database,
            notices=notices,
            node_name=settings.node.name,
            life=SignsOfLife(signer=keyring.witness, clock=clock),
        ),
        # Signed by the leader, and small.
        descriptor=lambda: read_published_descriptor(settings.keys.directory),
        mirroring=Mirroring(
            database=database,
            notices=notices,
            rules=freshness_rules(settings),
            clock=clock,
        ),
    )


def _ignore(peer_name: str) -> None:
    """A key that we do not know: the leader asks for descriptors, not we."""
    del peer_name


def _load_keys(settings: Settings) -> Keyring:
    keys = settings.keys
    return load_keyring(keys.directory, settings.node.name, access=key_access(settings))


def _keys_changed_at(settings: Settings) -> int | None:
    """Tell when a key was added; None while the volume with the keys is away."""
    try:
        return settings.keys.directory.stat().st_mtime_ns
    except OSError:
        return None
