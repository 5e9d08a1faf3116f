"""A node without listeners and jobs: its use cases on a real store, called by tests.

What a running node does by itself, tests do here step by step: nothing happens that a
test has not asked for.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from hashlight_node.exchange.answering.mirroring import Mirroring
from hashlight_node.exchange.answering.receiving import Receiver
from hashlight_node.exchange.answering.receiving_notes import NoteReceiver
from hashlight_node.exchange.answering.serve import Serving
from hashlight_node.exchange.answering.witness import Witness
from hashlight_node.exchange.following.copying import FollowParts
from hashlight_node.exchange.following.follow import Follower
from hashlight_node.exchange.following.freshness import FreshnessRules
from hashlight_node.exchange.following.life import SignsOfLife
from hashlight_node.exchange.following.list_notes import ListNotes
from hashlight_node.exchange.logs.applied import Applied
from hashlight_node.exchange.logs.forks import ForkFinder
from hashlight_node.exchange.logs.quorum import NO_QUORUM, Quorum
from hashlight_node.exchange.logs.self_check import SelfCheck
from hashlight_node.exchange.logs.signing import LogSigning
from hashlight_node.exchange.looking_up.live import LiveView
from hashlight_node.exchange.looking_up.lookup import Lookup
from hashlight_node.exchange.notices import Notices
from hashlight_node.exchange.operating.inspect import Inspect
from hashlight_node.exchange.operating.peering import Peering
from hashlight_node.exchange.publishing.epochs import Epochs
from hashlight_node.exchange.publishing.feedback import Feedback
from hashlight_node.exchange.publishing.publish import Publisher
from hashlight_node.exchange.publishing.recover import Recovery, RecoveryParts
from hashlight_node.exchange.telling.gossip import Gossip, GossipParts
from hashlight_node.exchange.telling.push import Pusher
from hashlight_node.exchange.telling.shared_logs import SharedLogs
from hashlight_node.exchange.telling.uploading import Uploader, UploadTo
from hashlight_node.keys import create_keyring, load_keyring
from hashlight_node.last_signed import LastSigned
from hashlight_node.matching.judging import Criteria
from hashlight_node.matching.matcher import Matcher
from hashlight_node.matching.policy import Policy
from hashlight_node.peers.client import PeerClient
from hashlight_node.peers.network import open_session
from hashlight_node.store import deliveries, logs, records, signals
from hashlight_node.store import peers as peer_store
from hashlight_node.store.database import Database
from hashlight_protocol import Policy as ProtocolPolicy
from hashlight_protocol import Ref, parse_signal

from .made_records import md5_of
from .stores import make_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from hashlight_node.exchange.looking_up.live import ListState
    from hashlight_node.keys import Keyring
    from hashlight_node.model import Evidence, Follow, Log, Peer, StoredRecord
    from hashlight_node.store.database import Connection

    from .clock import ManualClock

Found = TypeVar("Found")


@dataclass(frozen=True)
class ExchangeNode:
    """The use cases of one node, and what they stand on."""

    name: str
    clock: ManualClock
    database: Database
    keyring: Keyring
    matcher: Matcher
    client: PeerClient
    notices: Notices
    list_notes: ListNotes
    publisher: Publisher
    epochs: Epochs
    pusher: Pusher
    uploader: Uploader
    witness: Witness
    following: FollowParts
    follower: Follower
    receiver: Receiver
    note_receiver: NoteReceiver
    peering: Peering
    serving: Serving
    mirroring: Mirroring
    lookup: Lookup
    inspect: Inspect
    feedback: Feedback
    gossip: Gossip
    quorum: Quorum
    last_signed: LastSigned
    self_check: SelfCheck
    recovery: Recovery

    async def read(self, function: Callable[[Connection], Found]) -> Found:
        return await self.database.read(function)

    async def log(self, origin: str) -> Log:
        found = await self.read(lambda conn: logs.find_log(conn, origin))
        assert found is not None
        return found

    async def peer(self, name: str) -> Peer:
        found = await self.read(lambda conn: peer_store.find_peer(conn, name))
        assert found is not None
        return found

    async def follow(self, peer_name: str, list_name: str) -> Follow:
        peer = await self.peer(peer_name)
        found = await self.read(
            lambda conn: peer_store.find_follow(conn, peer.peer_id, list_name)
        )
        assert found is not None
        return found

    async def record(self, origin: str, leaf_index: int) -> StoredRecord:
        ref = Ref(origin, leaf_index)
        found = await self.read(lambda conn: records.read_record(conn, ref))
        assert found is not None
        return found

    async def evidence(self) -> list[Evidence]:
        return await self.read(deliveries.list_evidence)

    async def lookup_lists(self) -> tuple[ListState, ...]:
        """Give the lists that an answer is based on."""
        query = parse_signal("md5", md5_of(0))
        return tuple((await self.lookup.lookup([query], max_distance=None)).lists)

    async def matches(self, number: int) -> int:
        """Count the live records that assert the MD5 of record `number`."""
        query = parse_signal("md5", md5_of(number))
        answer = await self.lookup.lookup([query], max_distance=None)
        return sum(len(match.records) for match in answer.results[0].matches)


@asynccontextmanager
async def open_exchange_node(
    directory: Path, name: str, clock: ManualClock, policy: ProtocolPolicy = NO_QUORUM
) -> AsyncIterator[ExchangeNode]:
    """Open a node in a directory; the same directory again is the same node."""
    keyring, database = _open_store(directory, name)
    last_signed = LastSigned.open(directory / "last-signed")
    matcher = Matcher(pdq_threshold=31)
    await database.read(lambda conn: matcher.load(signals.live_signals(conn)))
    notices = Notices()
    try:
        async with open_session(allow_loopback=True, allow_private=False) as session:
            client = PeerClient(
                session,
                node_name=name,
                http_key_id=keyring.http_key_id,
                http_signer=keyring.http,
                clock=clock,
                timeout_seconds=2,
            )
            rest = (matcher, client, notices, last_signed)
            node = _build(name, clock, database, keyring, rest, Quorum(policy))
            await node.self_check.settle()
            try:
                yield node
            finally:
                await node.pusher.close()
    finally:
        notices.close()
        await database.close()
        last_signed.close()


def _open_store(directory: Path, name: str) -> tuple[Keyring, Database]:
    directory.mkdir(parents=True, exist_ok=True)
    database = Database.open(make_store(directory))
    keys = directory / "keys"
    made = load_keyring if keys.exists() else create_keyring
    return made(keys, name), database


def _build(
    name: str,
    clock: ManualClock,
    database: Database,
    keyring: Keyring,
    rest: tuple[Matcher, PeerClient, Notices, LastSigned],
    quorum: Quorum,
) -> ExchangeNode:
    matcher, client, notices, last_signed = rest
    finder = ForkFinder(database=database, client=client, clock=clock, notices=notices)
    self_check = SelfCheck(
        database=database,
        client=client,
        keyring=keyring,
        last_signed=last_signed,
        clock=clock,
    )
    signing = LogSigning(keyring, last_signed)
    epochs = Epochs(
        database=database,
        signing=signing,
        matcher=Applied(matcher.apply),
        clock=clock,
        node_name=name,
        on_advanced=notices.advanced,
    )
    list_notes = ListNotes(database=database, client=client, clock=clock)
    publisher = Publisher(
        database=database,
        signing=signing,
        matcher=Applied(matcher.apply),
        clock=clock,
        node_name=name,
        on_advanced=notices.advanced,
    )
    pusher = Pusher(
        database=database,
        client=client,
        keyring=keyring,
        self_check=self_check,
        clock=clock,
        notices=notices,
    )
    following = FollowParts(
        database=database,
        client=client,
        list_notes=list_notes,
        matcher=Applied(matcher.apply),
        witness=keyring.witness,
        mirror=keyring.mirror,
        clock=clock,
        notices=notices,
        quorum=quorum,
    )
    return ExchangeNode(
        name=name,
        clock=clock,
        database=database,
        keyring=keyring,
        matcher=matcher,
        client=client,
        notices=notices,
        list_notes=list_notes,
        publisher=publisher,
        epochs=epochs,
        pusher=pusher,
        uploader=Uploader(
            database=database,
            client=client,
            pusher=pusher,
            clock=clock,
            notices=notices,
            upload_to=UploadTo(frozenset(), lambda: None),
        ),
        witness=Witness(
            database=database,
            list_notes=list_notes,
            signer=keyring.witness,
            clock=clock,
            on_notice=notices.announced,
            finder=finder,
        ),
        following=following,
        follower=Follower(following),
        receiver=Receiver(following, on_received=lambda *_: None),
        note_receiver=NoteReceiver(
            database=database, list_notes=list_notes, clock=clock
        ),
        peering=Peering(
            database=database,
            client=client,
            clock=clock,
            node_name=name,
            notices=notices,
        ),
        serving=Serving(
            database=database,
            notices=notices,
            node_name=name,
            life=SignsOfLife(signer=keyring.witness, clock=clock),
        ),
        mirroring=Mirroring(
            database=database, notices=notices, rules=FreshnessRules(), clock=clock
        ),
        lookup=Lookup(
            database=database,
            matcher=matcher,
            view=LiveView(database, clock=clock),
            criteria=Criteria(Policy(), name),
            clock=clock,
        ),
        inspect=Inspect(database=database, clock=clock, node_name=name),
        feedback=Feedback(
            database=database, publisher=publisher, clock=clock, node_name=name
        ),
        gossip=Gossip(
            GossipParts(
                database=database,
                client=client,
                shared=SharedLogs(
                    database=database,
                    list_notes=list_notes,
                    keyring=keyring,
                    node_name=name,
                ),
                finder=finder,
                quorum=quorum,
                notices=notices,
                clock=clock,
            )
        ),
        quorum=quorum,
        last_signed=last_signed,
        self_check=self_check,
        recovery=Recovery(
            RecoveryParts(
                database=database,
                client=client,
                last_signed=last_signed,
                self_check=self_check,
                epochs=epochs,
                matcher=Applied(matcher.apply),
                clock=clock,
                on_advanced=notices.advanced,
            )
        ),
    )
