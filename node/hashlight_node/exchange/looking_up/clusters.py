"""Near duplicates as an operator sees them: one cluster, with everybody who reports."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hashlight_node.store import signals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hashlight_node.matching.clusters import Member
    from hashlight_node.matching.matcher import Matcher
    from hashlight_node.model import Clock, RecordEvidence
    from hashlight_node.store.database import Database
    from hashlight_protocol import Signal


@dataclass(frozen=True, slots=True)
class KnownMember:
    """A member of a cluster that the store confirmed.

    Attributes:
        member: The hash.
        record_count: Live records that assert it, at most `MAX_RECORDS_SHOWN`, and
            fewer if the members of a large cluster share `MAX_RECORDS_A_CALL`.
        lists: The lists that hold them, each as `<node>/<list>`.
    """

    member: Member
    record_count: int
    lists: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KnownCluster:
    """Known hashes that hang together.

    Attributes:
        threshold: Largest distance between neighbours, in bits.
        members: Fewest links first.
        truncated: There may be more.
    """

    threshold: int
    members: tuple[KnownMember, ...]
    truncated: bool


class Clusters:
    """Finds near duplicates.

    Args:
        database: The store.
        matcher: All live signals.
        pdq_threshold: Largest distance between neighbours, unless less is asked for.
        clock: Unix seconds.
    """

    def __init__(
        self,
        *,
        database: Database,
        matcher: Matcher,
        pdq_threshold: int,
        clock: Clock,
    ) -> None:
        self._database = database
        self._matcher = matcher
        self._pdq_threshold = pdq_threshold
        self._clock = clock

    async def find(self, query: Signal, *, max_distance: int | None) -> KnownCluster:
        """Find the known hashes that hang together with a PDQ hash.

        Args:
            query: The hash; need not be known itself.
            max_distance: Between neighbours; None for the setting, never beyond it.
        """
        threshold = self._pdq_threshold
        if max_distance is not None:
            threshold = min(threshold, max_distance)
        cluster = await asyncio.to_thread(
            self._matcher.cluster, query, max_distance=threshold
        )
        ids = [it.signal_id for it in cluster.members]
        now = self._clock()
        evidence = await self._database.read(
            lambda conn: signals.evidence_of(conn, ids, now=now).by_signal
        )
        members = _known(cluster.members, evidence)
        return KnownCluster(threshold, members, cluster.truncated)


def _known(
    members: Sequence[Member], evidence: Mapping[int, Sequence[RecordEvidence]]
) -> tuple[KnownMember, ...]:
    return tuple(
        KnownMember(
            it,
            len(found),
            tuple(sorted({f"{one.origin_node}/{one.list_name}" for one in found})),
        )
        for it in members
        if (found := evidence.get(it.signal_id))
    )
