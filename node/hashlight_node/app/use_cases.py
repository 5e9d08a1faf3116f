"""What a node can do, put together on its foundation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from hashlight_node.exchange.answering.mirroring import Mirroring
from hashlight_node.exchange.answering.receiving import Receiver
from hashlight_node.exchange.answering.receiving_notes import NoteReceiver
from hashlight_node.exchange.answering.relaying import Relaying
from hashlight_node.exchange.answering.serve import Serving
from hashlight_node.exchange.answering.witness import Witness
from hashlight_node.exchange.following.copying import FollowParts
from hashlight_node.exchange.following.follow import Follower
from hashlight_node.exchange.following.life import SignsOfLife
from hashlight_node.exchange.following.list_notes import ListNotes
from hashlight_node.exchange.logs.forks import ForkFinder
from hashlight_node.exchange.logs.self_check import SelfCheck
from hashlight_node.exchange.logs.signing import LogSigning
from hashlight_node.exchange.looking_up.clusters import Clusters
from hashlight_node.exchange.looking_up.explain import Explain
from hashlight_node.exchange.looking_up.live import LiveView
from hashlight_node.exchange.looking_up.lookup import Lookup
from hashlight_node.exchange.operating.inspect import Inspect
from hashlight_node.exchange.operating.peering import Peering
from hashlight_node.exchange.operating.policies import Policies
from hashlight_node.exchange.operating.previewing import Previews
from hashlight_node.exchange.publishing.cases import Cases
from hashlight_node.exchange.publishing.epochs import Epochs
from hashlight_node.exchange.publishing.feedback import Feedback
from hashlight_node.exchange.publishing.publish import Publisher
from hashlight_node.exchange.publishing.recover import Recovery, RecoveryParts
from hashlight_node.exchange.publishing.rotation import KeyRotation, RotationParts
from hashlight_node.exchange.telling.gossip import Gossip, GossipParts
from hashlight_node.exchange.telling.push import Pusher
from hashlight_node.exchange.telling.shared_logs import SharedLogs
from hashlight_node.exchange.telling.uploading import Uploader, UploadTo

from .watching import alert_rules, freshness_rules

if TYPE_CHECKING:
    from hashlight_node.exchange.following.copying import Tally
    from hashlight_node.metrics import Metrics

    from .foundation import Foundation


@dataclass(frozen=True, slots=True)
class UseCases:
    """What a node can do."""

    publisher: Publisher
    feedback: Feedback
    cases: Cases
    epochs: Epochs
    pusher: Pusher
    uploader: Uploader
    witness: Witness
    follower: Follower
    receiver: Receiver
    note_receiver: NoteReceiver
    peering: Peering
    serving: Serving
    mirroring: Mirroring
    relaying: Relaying
    lookup: Lookup
    policies: Policies
    clusters: Clusters
    explain: Explain
    inspect: Inspect
    gossip: Gossip
    rotation: KeyRotation
    previews: Previews
    self_check: SelfCheck
    recovery: Recovery


def build_use_cases(on: Foundation) -> UseCases:
    """Build all use cases."""
    name = on.settings.node.name
    list_notes = ListNotes(database=on.database, client=on.client, clock=on.clock)
    following = FollowParts(
        database=on.database,
        client=on.client,
        list_notes=list_notes,
        matcher=on.applied,
        witness=on.keyring.witness,
        mirror=on.keyring.mirror,
        clock=on.clock,
        notices=on.notices,
        quorum=on.quorum,
        freshness=freshness_rules(on.settings),
        room=on.room,
    )
    finder = ForkFinder(
        database=on.database, client=on.client, clock=on.clock, notices=on.notices
    )
    self_check = SelfCheck(
        database=on.database,
        client=on.client,
        keyring=on.keyring,
        last_signed=on.last_signed,
        clock=on.clock,
    )
    signing = LogSigning(on.keyring, on.last_signed)
    epochs = Epochs(
        database=on.database,
        signing=signing,
        matcher=on.applied,
        clock=on.clock,
        node_name=name,
        on_advanced=on.notices.advanced,
    )
    view = LiveView(on.database, clock=on.clock)
    publisher = Publisher(
        database=on.database,
        signing=signing,
        matcher=on.applied,
        clock=on.clock,
        node_name=name,
        on_advanced=on.notices.advanced,
        room=on.room,
    )
    pusher = Pusher(
        database=on.database,
        client=on.client,
        keyring=on.keyring,
        self_check=self_check,
        clock=on.clock,
        notices=on.notices,
    )
    return UseCases(
        publisher=publisher,
        feedback=Feedback(
            database=on.database, publisher=publisher, clock=on.clock, node_name=name
        ),
        cases=Cases(
            database=on.database, publisher=publisher, clock=on.clock, node_name=name
        ),
        epochs=epochs,
        pusher=pusher,
        uploader=Uploader(
            database=on.database,
            client=on.client,
            pusher=pusher,
            clock=on.clock,
            notices=on.notices,
            upload_to=UploadTo(
                frozenset(on.settings.exchange.upload_to),
                on.descriptor.read,
            ),
        ),
        witness=Witness(
            database=on.database,
            list_notes=list_notes,
            signer=on.keyring.witness,
            clock=on.clock,
            on_notice=on.notices.announced,
            finder=finder,
        ),
        follower=Follower(following),
        receiver=Receiver(following, on_received=partial(_count_received, on.metrics)),
        note_receiver=NoteReceiver(
            database=on.database, list_notes=list_notes, clock=on.clock
        ),
        peering=Peering(
            database=on.database,
            client=on.client,
            clock=on.clock,
            node_name=name,
            notices=on.notices,
        ),
        serving=Serving(
            database=on.database,
            notices=on.notices,
            node_name=name,
            life=SignsOfLife(signer=on.keyring.witness, clock=on.clock),
            files=on.files,
        ),
        mirroring=Mirroring(
            database=on.database,
            notices=on.notices,
            rules=freshness_rules(on.settings),
            clock=on.clock,
            files=on.files,
        ),
        relaying=Relaying(database=on.database, clock=on.clock, notices=on.notices),
        lookup=Lookup(
            database=on.database,
            matcher=on.matcher,
            view=view,
            criteria=on.criteria,
            clock=on.clock,
            match_log=None if on.match_log is None else on.match_log.buffer,
        ),
        explain=Explain(
            database=on.database,
            lookup=Lookup(
                database=on.database,
                matcher=on.matcher,
                view=view,
                criteria=on.criteria.uncounted(),
                clock=on.clock,
            ),
            criteria=on.criteria,
        ),
        policies=Policies(
            database=on.database,
            matcher=on.matcher,
            criteria=on.criteria,
            clock=on.clock,
        ),
        clusters=Clusters(
            database=on.database,
            matcher=on.matcher,
            pdq_threshold=on.settings.matching.pdq_threshold,
            clock=on.clock,
        ),
        inspect=Inspect(
            database=on.database,
            clock=on.clock,
            node_name=name,
            rules=alert_rules(on.settings),
        ),
        rotation=KeyRotation(
            RotationParts(
                database=on.database,
                keyring=on.keyring,
                signing=signing,
                client=on.client,
                descriptor=on.descriptor,
                publisher=publisher,
                clock=on.clock,
                overlap_seconds=on.settings.keys.overlap_days * 86_400,
                on_advanced=on.notices.advanced,
            ),
        ),
        previews=Previews(database=on.database, node_name=name),
        gossip=Gossip(
            GossipParts(
                database=on.database,
                client=on.client,
                shared=SharedLogs(
                    database=on.database,
                    list_notes=list_notes,
                    keyring=on.keyring,
                    node_name=name,
                ),
                finder=finder,
                quorum=on.quorum,
                notices=on.notices,
                clock=on.clock,
            )
        ),
        self_check=self_check,
        recovery=Recovery(
            RecoveryParts(
                database=on.database,
                client=on.client,
                last_signed=on.last_signed,
                self_check=self_check,
                epochs=epochs,
                matcher=on.applied,
                clock=on.clock,
                on_advanced=on.notices.advanced,
            )
        ),
    )


def _count_received(
    metrics: Metrics, peer_name: str, list_name: str, tally: Tally
) -> None:
    for result, count in (
        ("in", tally.records),
        ("retracted", tally.retractions),
        ("erased", tally.erasures),
    ):
        metrics.count_records(peer_name, list_name, result, count)
