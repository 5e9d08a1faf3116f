"""Puts a node together out of its settings, runs it, and takes it apart again.

The composition root: the only place that knows all parts. Nothing is global, so
several nodes live in one process in the tests.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import signal
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

import hashlight_node
from hashlight_node.api.authentication import CONCURRENT_REQUESTS, Authenticator
from hashlight_node.api.federation import FederationParts, build_federation
from hashlight_node.api.local.application import build_local
from hashlight_node.api.local.parts import LocalLimits, LocalParts
from hashlight_node.api.server import port_of, start_server
from hashlight_node.config import split_address
from hashlight_node.exchange.copying import FollowParts
from hashlight_node.exchange.follow import Follower
from hashlight_node.exchange.inspect import Inspect
from hashlight_node.exchange.list_notes import ListNotes
from hashlight_node.exchange.lookup import Lookup
from hashlight_node.exchange.notices import Notices
from hashlight_node.exchange.peering import Peering
from hashlight_node.exchange.publish import Publisher
from hashlight_node.exchange.push import Pusher
from hashlight_node.exchange.serve import LONG_POLL_SECONDS, Serving
from hashlight_node.exchange.witness import Witness
from hashlight_node.jobs import JobParts, KeyRefresher, run_jobs
from hashlight_node.keys import load_keyring, publish_descriptor
from hashlight_node.matching.matcher import Matcher
from hashlight_node.matching.policy import MatchKind, Policy, Rule
from hashlight_node.observability import Metrics, configure_logging
from hashlight_node.peers.client import PeerClient
from hashlight_node.peers.network import open_session
from hashlight_node.store import signals
from hashlight_node.store.database import Database
from hashlight_protocol import (
    MAX_ADD_CHECKPOINT_BYTES,
    SPEC_VERSION,
    Descriptor,
    HttpKey,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp import web

    from hashlight_node.config import PolicySettings, Settings
    from hashlight_node.keys import Keyring
    from hashlight_node.model import Clock

_FEDERATION_SHUTDOWN_SECONDS: Final = 5
"""Long polls end at once; a peer repeats anything else."""

_LOCAL_SHUTDOWN_SECONDS: Final = 10
"""Whoever publishes should learn whether it is done. A body that has not arrived whole
by then never will: aiohttp reads no more from connections that are to be closed."""

_log = structlog.get_logger()


def system_clock() -> int:
    """Give the time in whole Unix seconds."""
    return int(time.time())


@dataclass(frozen=True, slots=True)
class Foundation:
    """What every other part stands on."""

    settings: Settings
    clock: Clock
    keyring: Keyring
    database: Database
    matcher: Matcher
    client: PeerClient
    notices: Notices
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class UseCases:
    """What a node can do."""

    publisher: Publisher
    pusher: Pusher
    witness: Witness
    follower: Follower
    peering: Peering
    serving: Serving
    lookup: Lookup
    inspect: Inspect


@dataclass(frozen=True, slots=True)
class RunningNode:
    """A node that answers.

    Attributes:
        foundation: What it stands on.
        use_cases: What it can do; tests call it directly.
        federation_port: Where it listens for peers.
        local_port: Where it listens for our own services.
        jobs: Ends only with an error, or when the node is stopped.
    """

    foundation: Foundation
    use_cases: UseCases
    federation_port: int
    local_port: int
    jobs: asyncio.Task[None]


def run(settings: Settings) -> None:
    """Run a node until SIGTERM or SIGINT; a second signal ends it at once.

    Raises:
        KeyFileError: The keys cannot be used as they are.
        StoreError: The database cannot.
        OSError: An address cannot be bound.
        SystemExit: A job met a mistake of ours; the log says where.
    """
    configure_logging(settings.logging.level)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            runner.run(_run(settings))
        except ExceptionGroup:
            _log.exception("node ends because a job failed")
            sys.exit(1)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Use uvloop where it is installed (the extra `uvloop`); None means asyncio's."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop]
    factory = importlib.import_module("uvloop").new_event_loop
    return factory


async def _run(settings: Settings) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        stopping.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    async with start_node(settings) as running:
        _log.info(
            "node is ready",
            node=settings.node.name,
            base=settings.node.base,
            federation=settings.federation.listen,
            local=settings.local.listen,
            version=hashlight_node.__version__,
        )
        signalled = asyncio.create_task(stopping.wait())
        await asyncio.wait(
            (signalled, running.jobs), return_when=asyncio.FIRST_COMPLETED
        )
        signalled.cancel()
        _log.info("node is stopping")
    _log.info("node has stopped")


@asynccontextmanager
async def start_node(
    settings: Settings, *, clock: Clock = system_clock
) -> AsyncIterator[RunningNode]:
    """Run a node for as long as the block lasts.

    At the end it stops accepting connections, releases long polls, lets requests that
    have arrived finish, stops its jobs, and closes the database last.

    Args:
        settings: As `load_settings` gives them.
        clock: Unix seconds.

    Raises:
        KeyFileError: The keys cannot be used as they are.
        StoreError: The database cannot.
        OSError: An address cannot be bound.
        ExceptionGroup: A job met a mistake of ours; raised when the block ends.
    """
    async with AsyncExitStack() as stack:
        foundation = await _lay_foundation(settings, clock, stack)
        use_cases = _build_use_cases(foundation)
        stack.push_async_callback(use_cases.pusher.close)
        refresher = KeyRefresher(clock)
        federation_app = _build_federation(foundation, use_cases, refresher)
        local_app = _build_local(foundation, use_cases)
        listening = asyncio.Event()
        jobs = asyncio.create_task(
            _run_jobs(foundation, use_cases, refresher, listening)
        )
        stack.push_async_callback(_stop_jobs, jobs)
        local = await start_server(
            local_app,
            *split_address(settings.local.listen),
            shutdown_seconds=_LOCAL_SHUTDOWN_SECONDS,
            hang_up_cancels=False,
        )
        stack.push_async_callback(local.cleanup)
        federation = await start_server(
            federation_app,
            *split_address(settings.federation.listen),
            shutdown_seconds=_FEDERATION_SHUTDOWN_SECONDS,
            hang_up_cancels=True,
        )
        stack.push_async_callback(federation.cleanup)
        # Peers answer a push by asking us, so we listen before we push.
        listening.set()
        ports = (port_of(federation), port_of(local))
        yield RunningNode(foundation, use_cases, *ports, jobs)


async def _run_jobs(
    foundation: Foundation,
    use_cases: UseCases,
    refresher: KeyRefresher,
    listening: asyncio.Event,
) -> None:
    parts = JobParts(
        database=foundation.database,
        notices=foundation.notices,
        publisher=use_cases.publisher,
        pusher=use_cases.pusher,
        follower=use_cases.follower,
        peering=use_cases.peering,
        key_refresher=refresher,
        metrics=foundation.metrics,
        clock=foundation.clock,
    )
    exchange = foundation.settings.exchange
    await listening.wait()
    await run_jobs(
        parts,
        sweep_seconds=exchange.sweep_seconds,
        heartbeat_seconds=exchange.heartbeat_seconds,
    )


async def _stop_jobs(jobs: asyncio.Task[None]) -> None:
    jobs.cancel()
    with suppress(asyncio.CancelledError):
        await jobs


async def _lay_foundation(
    settings: Settings, clock: Clock, stack: AsyncExitStack
) -> Foundation:
    """Open what has to be opened; the stack closes it again, the database last."""
    keyring = load_keyring(settings.keys.directory, settings.node.name)
    database = Database.open(settings.store.url)
    stack.push_async_callback(database.close)
    matcher = Matcher(pdq_threshold=settings.matching.pdq_threshold)
    await database.read(lambda conn: matcher.load(signals.live_signals(conn)))
    session = open_session(
        allow_loopback=settings.node.is_loopback,
        allow_private=settings.exchange.allow_private_addresses,
    )
    stack.push_async_callback(session.close)
    notices = Notices()
    stack.callback(notices.close)
    return Foundation(
        settings=settings,
        clock=clock,
        keyring=keyring,
        database=database,
        matcher=matcher,
        client=PeerClient(
            session,
            node_name=settings.node.name,
            http_key_id=keyring.http_key_id,
            http_signer=keyring.http,
            clock=clock,
            timeout_seconds=settings.exchange.request_timeout_seconds,
        ),
        notices=notices,
        metrics=Metrics(version=hashlight_node.__version__, spec_version=SPEC_VERSION),
    )


def _build_use_cases(on: Foundation) -> UseCases:
    name = on.settings.node.name
    list_notes = ListNotes(database=on.database, client=on.client, clock=on.clock)
    following = FollowParts(
        database=on.database,
        client=on.client,
        list_notes=list_notes,
        matcher=on.matcher,
        witness=on.keyring.witness,
        mirror=on.keyring.mirror,
        clock=on.clock,
        notices=on.notices,
    )
    return UseCases(
        publisher=Publisher(
            database=on.database,
            keyring=on.keyring,
            matcher=on.matcher,
            clock=on.clock,
            node_name=name,
            on_advanced=on.notices.advanced,
        ),
        pusher=Pusher(
            database=on.database,
            client=on.client,
            keyring=on.keyring,
            clock=on.clock,
            notices=on.notices,
        ),
        witness=Witness(
            database=on.database,
            list_notes=list_notes,
            signer=on.keyring.witness,
            clock=on.clock,
            on_notice=on.notices.announced,
        ),
        follower=Follower(following),
        peering=Peering(
            database=on.database,
            client=on.client,
            clock=on.clock,
            node_name=name,
            notices=on.notices,
        ),
        serving=Serving(database=on.database, notices=on.notices, node_name=name),
        lookup=Lookup(
            database=on.database,
            matcher=on.matcher,
            policy=_policy(on.settings.policy),
            clock=on.clock,
            node_name=name,
        ),
        inspect=Inspect(database=on.database, clock=on.clock, node_name=name),
    )


def _build_federation(
    on: Foundation, use_cases: UseCases, refresher: KeyRefresher
) -> web.Application:
    node = on.settings.node
    descriptor = Descriptor(
        name=node.name,
        version=0,  # `publish_descriptor` counts it up where there is news.
        base=node.base,
        http_keys=(HttpKey(on.keyring.http_key_id, on.keyring.http.key.public_key),),
        witness=on.keyring.witness.key,
        mirror=on.keyring.mirror.key,
        limits={
            "request_bytes": MAX_ADD_CHECKPOINT_BYTES,
            "concurrent_requests": CONCURRENT_REQUESTS,
            "long_poll_seconds": LONG_POLL_SECONDS,
        },
    )
    app = build_federation(
        FederationParts(
            node_name=node.name,
            serving=use_cases.serving,
            witness=use_cases.witness,
            descriptor=publish_descriptor(on.keyring, descriptor),
        ),
        authenticator=Authenticator(
            on.database,
            authority=node.authority,
            clock=on.clock,
            on_unknown_key=refresher.ask,
        ),
        metrics=on.metrics,
        log_requests=on.settings.logging.requests,
    )

    async def release_long_polls(_: web.Application) -> None:
        on.notices.close()

    app.on_shutdown.append(release_long_polls)
    return app


def _build_local(on: Foundation, use_cases: UseCases) -> web.Application:
    local = on.settings.local
    parts = LocalParts(
        node_name=on.settings.node.name,
        identity=on.keyring.identity.key,
        database=on.database,
        matcher=on.matcher,
        publisher=use_cases.publisher,
        lookup=use_cases.lookup,
        inspect=use_cases.inspect,
        peering=use_cases.peering,
        follower=use_cases.follower,
        metrics=on.metrics,
        clock=on.clock,
        limits=LocalLimits(
            request_bytes=local.request_bytes, image_bytes=local.image_bytes
        ),
    )
    return build_local(
        parts,
        version=hashlight_node.__version__,
        log_requests=on.settings.logging.requests,
    )


def _policy(settings: PolicySettings) -> Policy:
    return Policy(
        rules=tuple(
            Rule(
                handling=rule.handling,
                list=rule.list,
                label=rule.label,
                review=rule.review,
                opinion=rule.opinion,
                match=None if rule.match is None else MatchKind(rule.match),
            )
            for rule in settings.rules
        ),
        default=settings.default,
    )
