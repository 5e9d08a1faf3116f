"""The applications behind a node's two listeners."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import hashlight_node
from hashlight_node.api.authentication import CONCURRENT_REQUESTS, Authenticator
from hashlight_node.api.federation import FederationParts, build_federation
from hashlight_node.api.local.application import build_local
from hashlight_node.api.local.counts import collect_counts
from hashlight_node.api.local.match_events import accept_match_events
from hashlight_node.api.local.parts import LocalParts
from hashlight_node.exchange.answering.serve import LONG_POLL_SECONDS
from hashlight_node.exchange.telling.gossip import EVIDENCE_FEATURE
from hashlight_node.exchange.telling.gossip import FEATURE as GOSSIP_FEATURE
from hashlight_protocol import MAX_ADD_CHECKPOINT_BYTES, Descriptor, HttpKey

from .looking_up import local_limits

if TYPE_CHECKING:
    from aiohttp import web

    from hashlight_node.exchange.notices import Notices
    from hashlight_node.jobs import KeyRefresher

    from .foundation import Foundation
    from .memory import Behind
    from .use_cases import UseCases


def federation_application(
    on: Foundation, use_cases: UseCases, refresher: KeyRefresher
) -> web.Application:
    """Build what answers peers; at its shutdown it releases long polls."""
    node = on.settings.node
    descriptor = Descriptor(
        name=node.name,
        version=0,  # Counted up where there is news; the keys are those of the moment.
        base=node.base,
        http_keys=(HttpKey(on.keyring.http_key_id, on.keyring.http.key.public_key),),
        witness=on.keyring.witness.key,
        mirror=on.keyring.mirror.key,
        limits={
            "request_bytes": MAX_ADD_CHECKPOINT_BYTES,
            "concurrent_requests": CONCURRENT_REQUESTS,
            "long_poll_seconds": LONG_POLL_SECONDS,
        },
        features=(EVIDENCE_FEATURE, GOSSIP_FEATURE, "relay", "upload"),
    )
    on.descriptor.describe(descriptor)
    app = build_federation(
        FederationParts(
            node_name=node.name,
            serving=use_cases.serving,
            witness=use_cases.witness,
            gossip=use_cases.gossip,
            descriptor=on.descriptor.read,
            receiver=use_cases.receiver,
            note_receiver=use_cases.note_receiver,
            mirroring=use_cases.mirroring,
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
    release_at_shutdown(app, on.notices)
    return app


def release_at_shutdown(app: web.Application, notices: Notices) -> None:
    """Let nobody who waits for news delay the shutdown of what answers peers."""

    async def release_long_polls(_: web.Application) -> None:
        notices.close()

    app.on_shutdown.append(release_long_polls)


def local_application(
    on: Foundation, use_cases: UseCases, behind: Behind | None
) -> web.Application:
    """Build what answers our own services, or the workers that do."""
    counters = {} if behind is None else behind.counters
    parts = LocalParts(
        node_name=on.settings.node.name,
        identity=on.keyring.identity.key,
        database=on.database,
        matcher=on.matcher,
        publisher=use_cases.publisher,
        feedback=use_cases.feedback,
        cases=use_cases.cases,
        epochs=use_cases.epochs,
        lookup=use_cases.lookup,
        inspect=use_cases.inspect,
        peering=use_cases.peering,
        follower=use_cases.follower,
        feed=on.feed,
        snapshots=on.snapshots,
        policies=use_cases.policies,
        clusters=use_cases.clusters,
        explain=use_cases.explain,
        rotation=use_cases.rotation,
        previews=use_cases.previews,
        relaying=use_cases.relaying,
        recovery=use_cases.recovery,
        metrics=on.metrics,
        clock=on.clock,
        limits=local_limits(on.settings),
        worker_metrics=partial(collect_counts, counters),
        clock_offset=on.client.clocks.offset_seconds,
        room=on.room,
    )
    app = build_local(
        parts,
        version=hashlight_node.__version__,
        log_requests=on.settings.logging.requests,
    )
    if behind is not None and on.match_log is not None:
        accept_match_events(app, on.match_log)
    return app
