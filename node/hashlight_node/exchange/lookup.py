"""Looking up: what is known about signals or a picture, and what policy says to do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hashlight_node.matching.image import hash_image
from hashlight_node.matching.matcher import assemble
from hashlight_node.model import Role
from hashlight_node.store import logs, records, signals
from hashlight_protocol import parse_checkpoint, parse_note, parse_signal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hashlight_node.matching.image import ImageSignals
    from hashlight_node.matching.matcher import Candidate, LookupResult, Matcher
    from hashlight_node.matching.policy import Policy
    from hashlight_node.model import Clock, Log, RecordEvidence, StoredOpinion
    from hashlight_node.store.database import Connection, Database
    from hashlight_protocol import Signal

_INLINE_QUERIES: Final = 1
"""Queries answered without a thread of their own: handing over costs more."""


@dataclass(frozen=True, slots=True)
class ListState:
    """Which state of a list an answer is based on, to explain it months later.

    Attributes:
        origin: The log.
        tree_size: Entries that its newest checkpoint here covers.
        root_hash: Root of that tree, 32 bytes.
        age_seconds: Time since the copy was last known to be complete; 0 for our own.
    """

    origin: str
    tree_size: int
    root_hash: bytes
    age_seconds: int


@dataclass(frozen=True, slots=True)
class LookupAnswer:
    """What is known.

    Attributes:
        results: One for each query, in order.
        lists: Everything that was searched.
    """

    results: tuple[LookupResult, ...]
    lists: tuple[ListState, ...]


@dataclass(frozen=True, slots=True)
class _Confirmed:
    evidence: Mapping[int, Sequence[RecordEvidence]]
    opinions: Sequence[StoredOpinion]
    lists: tuple[ListState, ...]


class Lookup:
    """Answers local services.

    Candidates come from memory; what is answered comes from one read transaction, so
    a record that is withdrawn is never in an answer, however late memory is.

    Args:
        database: The store.
        matcher: All live signals.
        policy: What to do with a match.
        node_name: This node; its own opinions outweigh others.
        clock: Unix seconds.
    """

    def __init__(
        self,
        *,
        database: Database,
        matcher: Matcher,
        policy: Policy,
        node_name: str,
        clock: Clock,
    ) -> None:
        self._database = database
        self._matcher = matcher
        self._policy = policy
        self._node_name = node_name
        self._clock = clock

    async def lookup(
        self, queries: Sequence[Signal], *, max_distance: int | None
    ) -> LookupAnswer:
        """Tell what is known about signals.

        Args:
            queries: Canonical signals.
            max_distance: Where near matches end, in bits; None for the setting, and
                never beyond it.
        """
        if len(queries) > _INLINE_QUERIES:
            candidates = await asyncio.to_thread(
                self._matcher.candidates, queries, max_distance=max_distance
            )
        else:
            candidates = self._matcher.candidates(queries, max_distance=max_distance)
        confirmed = await self._database.read(
            lambda conn: self._confirm(conn, candidates)
        )
        if len(confirmed.evidence) > _INLINE_QUERIES or confirmed.opinions:
            results = await asyncio.to_thread(
                self._assemble, queries, candidates, confirmed
            )
        else:
            results = self._assemble(queries, candidates, confirmed)
        return LookupAnswer(results, confirmed.lists)

    async def lookup_image(self, data: bytes) -> tuple[ImageSignals, LookupAnswer]:
        """Tell what is known about a picture; nothing of it is kept.

        Args:
            data: The file.

        Returns:
            Its hashes, and what is known about each of them: a result for PDQ, then
            one for each exact hash of the file.

        Raises:
            ImageRefusedError: It is no picture that can be hashed.
        """
        found = await asyncio.to_thread(hash_image, data)
        queries = [
            parse_signal("pdq", found.pdq),
            parse_signal("md5", found.md5),
            parse_signal("sha1", found.sha1),
            parse_signal("sha256", found.sha256),
        ]
        return found, await self.lookup(queries, max_distance=None)

    def _assemble(
        self,
        queries: Sequence[Signal],
        candidates: Sequence[Sequence[Candidate]],
        confirmed: _Confirmed,
    ) -> tuple[LookupResult, ...]:
        return assemble(
            queries,
            candidates,
            confirmed.evidence,
            confirmed.opinions,
            policy=self._policy,
            node_name=self._node_name,
        )

    def _confirm(
        self, conn: Connection, candidates: Sequence[Sequence[Candidate]]
    ) -> _Confirmed:
        now = self._clock()
        ids = {one.signal_id for found in candidates for one in found}
        evidence = signals.evidence_of(conn, sorted(ids), now=now)
        refs = {one.ref for found in evidence.values() for one in found}
        opinions = records.opinions_about(conn, list(refs)) if refs else []
        lists = tuple(
            _list_state(log, now)
            for log in logs.list_logs(conn)
            if log.checkpoint is not None
        )
        return _Confirmed(evidence, opinions, lists)


def _list_state(log: Log, now: int) -> ListState:
    root_hash = log.root_hash
    if log.checkpoint_size != log.tree_size and log.checkpoint is not None:
        # A copy that is being extended: the checkpoint is that of the last whole one.
        root_hash = parse_checkpoint(parse_note(log.checkpoint).text).root_hash
    at = now if log.verified_at is None else log.verified_at
    age_seconds = max(0, now - at) if log.role is Role.FOLLOWED else 0
    return ListState(log.origin, log.checkpoint_size, root_hash, age_seconds)
