"""Acknowledgements of nodes that got our logs from relays.

A relay lists everybody whom it ever let fetch a log of ours, with what each has signed.
It can leave somebody out; it cannot say for anybody that something was erased. Who such
a node is we know from the relay alone, so its identity key is kept beside its word, and
a second key for a name that we know is not believed.

Source: SPEC.md#relayed-acknowledgements.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

from hashlight_node.exchange.errors import RolledBackError
from hashlight_node.exchange.logs.evidence import keep_evidence
from hashlight_node.model import RelayedAcknowledgement
from hashlight_node.peers.errors import (
    PeerError,
    PeerMisbehavedError,
    PeerRefusedError,
    blaming,
)
from hashlight_node.store import logs, relayed
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    MAX_RELAYED_BYTES,
    MAX_RELAYED_NODES,
    MalformedError,
    ProtocolError,
    UnknownKeyError,
    encode_vkey,
    open_descriptor,
    open_relayed,
    parse_relayed,
)

from .acknowledgements import check_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hashlight_node.exchange.logs.self_check import SelfCheck
    from hashlight_node.keys import Keyring
    from hashlight_node.model import Clock, Log, Peer
    from hashlight_node.peers.client import PeerClient
    from hashlight_node.store.database import Connection, Database
    from hashlight_protocol import RelayedNode

_PAUSES_SECONDS: Final = (1, 2, 4, 8, 15, 30, 60, 120)
"""Third parties acknowledge when the relay has: after that the sweep asks again."""

_log = structlog.get_logger()


class RelayedCollector:
    """Asks relays what those who got our logs from them have acknowledged.

    Args:
        database: The store.
        client: Asks the relays.
        keyring: Knows the keys of our logs.
        self_check: Judges what we signed and do not have.
        clock: Unix seconds.
    """

    def __init__(
        self,
        *,
        database: Database,
        client: PeerClient,
        keyring: Keyring,
        self_check: SelfCheck,
        clock: Clock,
    ) -> None:
        self._database = database
        self._client = client
        self._keyring = keyring
        self._self_check = self_check
        self._clock = clock
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._news: dict[tuple[str, str], asyncio.Event] = {}

    def start(self, origin: str, peer: Peer) -> None:
        """Ask a relay in the background until nobody is missing, or a while."""
        key = (origin, peer.name)
        if key in self._tasks:
            self._news[key].set()
            return
        self._news[key] = asyncio.Event()
        task = asyncio.create_task(self._keep_asking(origin, peer))
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._forget(key))

    @property
    def is_collecting(self) -> bool:
        """Whether anything that `start` began is under way."""
        return bool(self._tasks)

    async def close(self) -> None:
        """Stop everything that `start` began."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def collect(self, origin: str, peer: Peer) -> bool:
        """Ask once.

        Args:
            origin: One of our logs.
            peer: Who may relay it.

        Returns:
            Whether everybody that the relay lists has all of the log.

        Raises:
            PeerError: There is no answer, or not one that holds. What held is kept.
            RolledBackError: A node has more of the log than we have; it is held.
        """
        raw = await self._client.fetch_relayed_acknowledgements(peer, origin)
        with blaming(peer.name, f"third parties of {origin}", raw):
            nodes = await asyncio.to_thread(parse_relayed, raw)
        log = await self._database.read(lambda conn: logs.find_log(conn, origin))
        if log is None:
            return True
        said = [await self._read(peer, log, node) for node in nodes]
        await self._database.write(lambda conn: _save(conn, log, peer, said))
        return all(one.tree_size >= log.checkpoint_size for one in said)

    async def _read(
        self, peer: Peer, log: Log, node: RelayedNode
    ) -> RelayedAcknowledgement:
        """Verify one node's word; one that does not hold is none, and evidence."""
        listed = RelayedAcknowledgement(
            node=node.node,
            via=peer.name,
            tree_size=0,
            acknowledged_at=None,
            note=b"",
            identity_vkey=encode_vkey(node.identity),
            descriptor=b"",
        )
        if not node.descriptor:
            return listed
        try:
            with blaming(peer.name, f"descriptor of {node.node}", node.descriptor):
                open_descriptor(node.descriptor, node.identity)
            listed = replace(listed, descriptor=node.descriptor)
            if not node.checkpoint:
                return listed
            return await self._verify(peer, log, node, listed)
        except PeerMisbehavedError as error:
            await self._blame(log, peer, error)
            return listed

    async def _verify(
        self,
        peer: Peer,
        log: Log,
        node: RelayedNode,
        listed: RelayedAcknowledgement,
    ) -> RelayedAcknowledgement:
        keys = self._keyring.log_keys(log.origin)
        what = f"word of {node.node} about {log.origin}"
        try:
            with blaming(peer.name, what, node.checkpoint):
                signed, at = open_relayed(node, keys, origin=log.origin)
            check_time(at, now=self._clock())
        except (PeerMisbehavedError, MalformedError) as error:
            if not _can_be_honest(error):
                raise
            _log.info("word of another cannot be used now", peer=peer.name)
            return listed
        if not await self._self_check.judge(peer.name, signed):
            # We signed this and do not have it: our store is an old one.
            raise RolledBackError(log.list_name)
        size = signed.head.tree_size
        return replace(listed, tree_size=size, acknowledged_at=at, note=node.checkpoint)

    async def _keep_asking(self, origin: str, peer: Peer) -> None:
        news = self._news[origin, peer.name]
        pauses = iter(_PAUSES_SECONDS)
        try:
            while True:
                news.clear()
                has_all = await self._ask(origin, peer)
                pause_seconds = 0 if has_all else next(pauses, None)
                if pause_seconds is None or (has_all and not news.is_set()):
                    return
                if await _is_set_within(news, pause_seconds):
                    pauses = iter(_PAUSES_SECONDS)
        except PeerMisbehavedError as error:
            log = await self._database.read(lambda conn: logs.find_log(conn, origin))
            if log is not None:
                await self._blame(log, peer, error)
        except (PeerError, ProtocolError, RolledBackError):
            _log.info("relay says nothing of others now", peer=peer.name)

    async def _ask(self, origin: str, peer: Peer) -> bool:
        try:
            return await self.collect(origin, peer)
        except PeerRefusedError:
            # It has no copy yet, or does not relay: then it will go on saying so.
            return False

    async def _blame(self, log: Log, peer: Peer, error: PeerMisbehavedError) -> None:
        now = self._clock()
        await self._database.write(
            lambda conn: keep_evidence(conn, peer, log.list_name, error, now=now)
        )

    def _forget(self, key: tuple[str, str]) -> None:
        self._tasks.pop(key, None)
        self._news.pop(key, None)


def _can_be_honest(error: PeerMisbehavedError | MalformedError) -> bool:
    """Tell whether an honest relay may have passed on what we cannot believe.

    The third party may have a new mirror key, and not have signed with it yet. And
    clocks differ: the relay judged the time by its own.
    """
    if isinstance(error, MalformedError):
        return True
    cause = error.cause
    return isinstance(cause, UnknownKeyError) and cause.what == "cosignature"


async def _is_set_within(event: asyncio.Event, seconds: int) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _save(
    conn: Connection, log: Log, peer: Peer, said: Sequence[RelayedAcknowledgement]
) -> None:
    listed = relayed.list_relayed(conn, log.log_id)
    known = {one.node: one.identity_vkey for one in listed}
    room = _Room({one.node: one for one in listed if one.via == peer.name})
    for one in said:
        pinned = peer_store.find_peer(conn, one.node)
        expected = known.get(one.node) if pinned is None else pinned.identity_vkey
        if one.node == log.node or expected not in {None, one.identity_vkey}:
            # A name that we know by another key: the relay has it wrong, or lies.
            _log.warning("relay names a node by another key", peer=peer.name)
            continue
        if room.take(one):
            relayed.save_relayed(conn, log.log_id, peer.peer_id, one)
        else:
            _log.warning("relay names more nodes than we remember", peer=peer.name)


class _Room:
    """How much of one relay about one log we remember: as much as one answer holds.

    A relay can make up other names every time it is asked.

    Args:
        kept: What it said before, by node.
    """

    def __init__(self, kept: dict[str, RelayedAcknowledgement]) -> None:
        self._kept = kept

    def take(self, one: RelayedAcknowledgement) -> bool:
        """Tell whether there is room for a node's word, and use it."""
        if one.node not in self._kept and len(self._kept) >= MAX_RELAYED_NODES:
            return False
        others = (kept for node, kept in self._kept.items() if node != one.node)
        total_bytes = _bytes_of(one) + sum(map(_bytes_of, others))
        if total_bytes > MAX_RELAYED_BYTES:
            return False
        self._kept[one.node] = one
        return True


def _bytes_of(one: RelayedAcknowledgement) -> int:
    return len(one.note) + len(one.descriptor)
