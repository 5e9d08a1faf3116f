"""What a peer would see of a list, before it does; and why it sees a record or not.

The decision is the one that serving makes, on the same bodies. Nothing of a value of a
signal is in an answer: counts, words of the open vocabularies, and names of records.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from hashlight_node.exchange.errors import (
    UnknownListError,
    UnknownPeerError,
    UnknownRecordError,
)
from hashlight_node.model import PeerState, RecordState, Role
from hashlight_node.store import logs, records
from hashlight_node.store import peers as peer_store
from hashlight_node.store.previewing import page_held
from hashlight_protocol import (
    BodyStatus,
    GrantScope,
    Indicator,
    ProtocolError,
    RecordFacts,
    Ref,
    facts_of,
    parse_record,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hashlight_node.model import Log, Peer
    from hashlight_node.store.database import Connection, Database
    from hashlight_node.store.previewing import HeldRecord
    from hashlight_protocol import Record

MAX_EXAMPLES: Final = 1_000
"""Most records that a preview names of each kind."""

OTHERS: Final = "(others)"
"""What is counted under no word of its own, where there are too many."""

_MOST_WORDS: Final = 1_000
"""Words of a vocabulary that are counted apart; a list may have any number."""

_PAGE: Final = 1_000

Dimension = Literal["states", "labels", "signal_types", "sources", "about"]
Obstacle = Literal[
    "no-grant", "quarantined", "erased", "no-body", "labels", "signals", "about"
]


@dataclass(slots=True)
class Share:
    """How many records of a kind are shown, and how many are not."""

    shown: int = 0
    hidden: int = 0


@dataclass(frozen=True, slots=True)
class Examples:
    """The first records of each kind, in the order of the list."""

    shown: list[Ref] = field(default_factory=list)
    hidden: list[Ref] = field(default_factory=list)
    newly_shown: list[Ref] = field(default_factory=list)
    no_longer_shown: list[Ref] = field(default_factory=list)


@dataclass(slots=True)
class Preview:
    """What a peer would see of a list with a scope.

    Attributes:
        present: How far its grant goes now; None if it has none.
        proposed: How far it would go.
        live: Of the records that match something now.
        newly_shown: Records whose bodies it would be given and is not now.
        no_longer_shown: Records whose bodies it is given now and would not be. It may
            have them already.
        counts: Of all records, by their state, and by the words in their bodies.
        examples: Some of them.
    """

    present: GrantScope | None
    proposed: GrantScope
    live: Share = field(default_factory=Share)
    newly_shown: int = 0
    no_longer_shown: int = 0
    counts: dict[Dimension, dict[str, Share]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    examples: Examples = field(default_factory=Examples)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a peer is given one record, and what is in the way.

    Attributes:
        ref: The record.
        state: What it is now.
        scope: By which scope that was decided; None if there is no grant.
        facts: What a scope looks at in it; None if its body is not here.
        obstacles: Why it is not given; none if it is.
    """

    ref: Ref
    state: RecordState
    scope: GrantScope | None
    facts: RecordFacts | None
    obstacles: tuple[Obstacle, ...]


class Previews:
    """Tells what grants would do; changes nothing.

    Args:
        database: The store.
        node_name: This node.
    """

    def __init__(self, *, database: Database, node_name: str) -> None:
        self._database = database
        self._node_name = node_name

    async def preview(
        self, peer_name: str, list_name: str, scope: GrantScope, *, examples: int
    ) -> Preview:
        """Go through a list and count what a peer would see of it.

        Page by page: memory stays flat, no transaction is long, and what is published
        or withdrawn meanwhile is counted or not.

        Args:
            peer_name: The peer.
            list_name: One of our lists.
            scope: How far its grant would go.
            examples: How many records to name of each kind, `MAX_EXAMPLES` at most.

        Raises:
            UnknownPeerError: No such peer is pinned.
            UnknownListError: This node has no such list.
        """

        def begin(conn: Connection) -> tuple[GrantScope | None, list[Log]]:
            peer = _peer(conn, peer_name)
            grant = peer_store.find_grant(conn, peer.peer_id, list_name)
            present = None if grant is None else grant.scope
            return present, self._own_logs(conn, list_name)

        present, own = await self._database.read(begin)
        counting = _Counting(Preview(present, scope), examples)
        for log in own:
            first = 0
            while page := await self._page(log, first):
                await asyncio.to_thread(counting.add, log.origin, page)
                first = page[-1].leaf_index + 1
        return counting.preview

    async def explain(
        self, peer_name: str, ref: Ref, scope: GrantScope | None = None
    ) -> Verdict:
        """Tell whether a peer is given a record, and by what it is not.

        Args:
            peer_name: The peer.
            ref: A record of one of our lists.
            scope: How far the grant would go; None for the one that it has.

        Raises:
            UnknownPeerError: No such peer is pinned.
            UnknownRecordError: We publish no such record.
        """

        def read(conn: Connection) -> Verdict:
            peer = _peer(conn, peer_name)
            log = logs.find_log(conn, ref.origin)
            record = records.read_record(conn, ref)
            if log is None or record is None or log.role is not Role.OWN:
                raise UnknownRecordError(ref)
            grant = peer_store.find_grant(conn, peer.peer_id, log.list_name)
            used = scope
            if used is None and grant is not None:
                used = grant.scope
            facts = None
            if record.status is BodyStatus.PRESENT:
                facts = facts_of(_read(record.body))
            found = tuple(_obstacles(peer, used, record.state, facts))
            return Verdict(ref, record.state, used, facts, found)

        return await self._database.read(read)

    async def _page(self, log: Log, first: int) -> list[HeldRecord]:
        return await self._database.read(
            lambda conn: page_held(conn, log.log_id, first=first, limit=_PAGE)
        )

    def _own_logs(self, conn: Connection, list_name: str) -> list[Log]:
        own = [
            log for log in logs.list_logs(conn, Role.OWN) if log.list_name == list_name
        ]
        if not own:
            raise UnknownListError(list_name)
        return sorted(own, key=lambda log: log.epoch)


class _Counting:
    """Adds up a preview, in one thread after the other."""

    def __init__(self, preview: Preview, examples: int) -> None:
        self.preview = preview
        self._most = examples

    def add(self, origin: str, page: Sequence[HeldRecord]) -> None:
        for held in page:
            self._add(Ref(origin, held.leaf_index), held)

    def _add(self, ref: Ref, held: HeldRecord) -> None:
        preview, examples = self.preview, self.preview.examples
        record = _read(held.body) if held.body else None
        facts = facts_of(record)
        is_shown = bool(held.body) and preview.proposed.allows(facts)
        was_shown = (
            bool(held.body)
            and preview.present is not None
            and preview.present.allows(facts)
        )
        if held.state is RecordState.LIVE:
            _count(preview.live, is_shown=is_shown)
        for dimension, words in _words(held.state, record, facts):
            self._tally(dimension, words, is_shown=is_shown)
        self._name(ref, examples.shown if is_shown else examples.hidden)
        if is_shown and not was_shown:
            preview.newly_shown += 1
            self._name(ref, examples.newly_shown)
        if was_shown and not is_shown:
            preview.no_longer_shown += 1
            self._name(ref, examples.no_longer_shown)

    def _tally(
        self, dimension: Dimension, words: Iterable[str], *, is_shown: bool
    ) -> None:
        counts = self.preview.counts[dimension]
        for word in words:
            known = word if word in counts or len(counts) < _MOST_WORDS else OTHERS
            _count(counts.setdefault(known, Share()), is_shown=is_shown)

    def _name(self, ref: Ref, examples: list[Ref]) -> None:
        if len(examples) < self._most:
            examples.append(ref)


def _count(share: Share, *, is_shown: bool) -> None:
    if is_shown:
        share.shown += 1
    else:
        share.hidden += 1


def _words(
    state: RecordState, record: Record | None, facts: RecordFacts
) -> Iterable[tuple[Dimension, Iterable[str]]]:
    yield "states", (state.value,)
    yield "labels", facts.labels
    yield "signal_types", facts.signal_types
    if isinstance(record, Indicator):
        yield "sources", (record.source,)
    if facts.about is not None:
        yield "about", (facts.about,)


def _obstacles(
    peer: Peer,
    scope: GrantScope | None,
    state: RecordState,
    facts: RecordFacts | None,
) -> Iterable[Obstacle]:
    if peer.state is not PeerState.ACTIVE:
        yield "quarantined"
    if scope is None:
        yield "no-grant"
    if state is RecordState.ERASED:
        yield "erased"
    elif facts is None:
        yield "no-body"
    elif scope is not None:
        yield from _unmet(scope, facts)


def _unmet(scope: GrantScope, facts: RecordFacts) -> Iterable[Obstacle]:
    """Name the criteria that a record does not meet, each looked at alone."""
    if not GrantScope(scope.labels, None, None).allows(facts):
        yield "labels"
    if not GrantScope(None, scope.signals, None).allows(facts):
        yield "signals"
    if not GrantScope(None, None, scope.about).allows(facts):
        yield "about"


def _read(body: bytes) -> Record | None:
    try:
        return parse_record(body)
    except ProtocolError:
        return None


def _peer(conn: Connection, peer_name: str) -> Peer:
    peer = peer_store.find_peer(conn, peer_name)
    if peer is None:
        raise UnknownPeerError(peer_name)
    return peer
