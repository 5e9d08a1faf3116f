"""Confirming what memory proposes: answers are what the store says, at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hashlight_node.matching.candidates import PDQ, Candidates
from hashlight_node.store import records, signals
from hashlight_protocol import Signal

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from hashlight_node.model import RecordEvidence, StoredOpinion
    from hashlight_node.store.database import Connection


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What the store says about candidates, all of one moment.

    Attributes:
        candidates: Those whose type and value are what was proposed, in their order.
        evidence: By signal id, its live records; see `signals.evidence_of`.
        opinions: Those about these records that count.
        cut: Signals that have more live records than there are in `evidence`.
    """

    candidates: Sequence[Candidates]
    evidence: Mapping[int, Sequence[RecordEvidence]]
    opinions: Sequence[StoredOpinion]
    cut: Collection[int] = frozenset()


def confirm(
    conn: Connection, candidates: Sequence[Candidates], *, now: int
) -> Confirmed:
    """Read what there is to candidates.

    Args:
        conn: In a read transaction.
        candidates: For each query what `Matcher.candidates` gave.
        now: Unix seconds; records that expired do not count.
    """
    confirmed = _without_collisions(conn, candidates)
    ids = {one.signal_id for found in confirmed for one in found}
    evidence, cut = signals.evidence_of(conn, sorted(ids), now=now)
    refs = {one.ref for found in evidence.values() for one in found}
    types = {one.type for found in confirmed for one in found}
    opinions = (
        records.standing_opinions(conn, list(refs), sorted(types)) if refs else []
    )
    return Confirmed(confirmed, evidence, opinions, cut)


def _without_collisions(
    conn: Connection, candidates: Sequence[Candidates]
) -> Sequence[Candidates]:
    """Drop signals that share only a digest with the query.

    PDQ hashes are compared whole in memory; of other types memory has 64 bits.
    """
    ids = {one.signal_id for found in candidates for one in found if one.type != PDQ}
    if not ids:
        return candidates
    stored = signals.signals_of(conn, sorted(ids))
    return [
        Candidates(
            [
                one
                for one in found
                if one.type == PDQ
                or stored.get(one.signal_id) == Signal(one.type, one.value)
            ],
            found.truncated,
        )
        for found in candidates
    ]
