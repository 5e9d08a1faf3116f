"""Folding what nodes think of a signal into one word.

Our own opinion wins. Of others, a dispute makes a signal `disputed` and no more: a
peer can make us doubt, it can never make us ignore what another company reported,
nor what a victim did. Hence only our own dispute gives `negative`.
"""

from collections.abc import Iterable
from typing import Final

from hashlight_node.model import OpinionFold, StoredOpinion

AFFIRM: Final = "affirm"
DISPUTE: Final = "dispute"

REVIEWED: Final = "human"
"""The review level at which a record is more than a report."""


def fold(
    opinions: Iterable[StoredOpinion],
    *,
    node_name: str,
    reviewed: bool,
    signal_type: str | None = None,
) -> OpinionFold:
    """Fold opinions about the records that assert one signal, or about one record.

    An opinion that names a signal type counts for that type only, and there before
    one that names none. If a log holds several opinions about one record, the
    newest counts. `unsure` and stances that are not known count neither way.

    Args:
        opinions: Live ones about any of the records, in any order.
        node_name: Ours.
        reviewed: Whether the publisher of at least one of the records says that a
            person looked at the content.
        signal_type: Type of the signal; None to count opinions about any.

    Returns:
        `negative` if we dispute; `positive` if we affirm, or if nobody disputes and
        a person has looked or another node affirms; `disputed` if another node
        disputes, or we said both; `seed` otherwise, a report nobody has reviewed.
    """
    standing = _standing(opinions, signal_type)
    ours = {it.stance for it in standing if it.node == node_name}
    if DISPUTE in ours:
        return OpinionFold.DISPUTED if AFFIRM in ours else OpinionFold.NEGATIVE
    if AFFIRM in ours:
        return OpinionFold.POSITIVE
    stances = {it.stance for it in standing}
    if DISPUTE in stances:
        return OpinionFold.DISPUTED
    if reviewed or AFFIRM in stances:
        return OpinionFold.POSITIVE
    return OpinionFold.SEED


def _standing(
    opinions: Iterable[StoredOpinion], signal_type: str | None
) -> list[StoredOpinion]:
    """Keep what counts: of one log about one record, one opinion."""
    relevant = [
        it
        for it in opinions
        if signal_type is None or it.signal_type in {None, signal_type}
    ]
    # The last of each key stays: those that name the type, then newer ones.
    relevant.sort(key=lambda it: (it.signal_type is not None, it.ref.leaf_index))
    standing = {}
    for opinion in relevant:
        # About a whole record, opinions on its different signals stand side by side.
        subject = signal_type or opinion.signal_type
        standing[opinion.ref.origin, opinion.about, subject] = opinion
    return list(standing.values())
