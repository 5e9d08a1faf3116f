"""What a node can do, put together on its foundation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hashlight_node.exchange.clusters import Clusters
from hashlight_node.exchange.copying import FollowParts
from hashlight_node.exchange.epochs import Epochs
from hashlight_node.exchange.explain import Explain
from hashlight_node.exchange.follow import Follower
from hashlight_node.exchange.inspect import Inspect
from hashlight_node.exchange.list_notes import ListNotes
from hashlight_node.exchange.live import LiveView
from hashlight_node.exchange.lookup import Lookup
from hashlight_node.exchange.mirroring import Mirroring
from hashlight_node.exchange.peering import Peering
from hashlight_node.exchange.policies import Policies
from hashlight_node.exchange.publish import Publisher
from hashlight_node.exchange.push import Pusher
from hashlight_node.exchange.recover import Recovery, RecoveryParts
from hashlight_node.exchange.self_check import SelfCheck
from hashlight_node.exchange.serve import Serving
from hashlight_node.exchange.signing import LogSigning
from hashlight_node.exchange.witness import Witness

if TYPE_CHECKING:
    from .foundation import Foundation


@dataclass(frozen=True, slots=True)
class UseCases:
    """What a node can do."""

    publisher: Publisher
    epochs: Epochs
    pusher: Pusher
    witness: Witness
    follower: Follower
    peering: Peering
    serving: Serving
    mirroring: Mirroring
    lookup: Lookup
    policies: Policies
    clusters: Clusters
    explain: Explain
    inspect: Inspect
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
    return UseCases(
        publisher=Publisher(
            database=on.database,
            signing=signing,
            matcher=on.applied,
            clock=on.clock,
            node_name=name,
            on_advanced=on.notices.advanced,
        ),
        epochs=epochs,
        pusher=Pusher(
            database=on.database,
            client=on.client,
            keyring=on.keyring,
            self_check=self_check,
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
        mirroring=Mirroring(database=on.database, notices=on.notices),
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
        inspect=Inspect(database=on.database, clock=on.clock, node_name=name),
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
