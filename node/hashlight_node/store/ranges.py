"""Ranges of RETRACT and ERASE entries, resolved before the database is touched.

Ranges overlap, and a peer may send thousands that all cover a whole log. Resolved,
every record is looked at once per batch, whatever the ranges are.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from hashlight_protocol import Erase, Retract

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from hashlight_protocol import Entry

_ERASE: Final = 0
_RETRACT: Final = 1


class Withdrawal(NamedTuple):
    """One RETRACT or ERASE entry. Of those that cover a record, the smallest counts.

    Attributes:
        rank: An ERASE comes before a RETRACT.
        leaf_index: Position of the entry; among equals the first one counts.
        first: First leaf that it covers.
        end: First leaf behind those that it covers.
        reason: As the entry says.
    """

    rank: int
    leaf_index: int
    first: int
    end: int
    reason: int

    @property
    def is_erase(self) -> bool:
        """Whether content is to be destroyed."""
        return self.rank == _ERASE


class Effect(NamedTuple):
    """What happens to a range of records.

    Attributes:
        first: First leaf.
        end: First leaf behind it.
        by: The entry that decides.
    """

    first: int
    end: int
    by: Withdrawal


def withdrawals_in(entries: Iterable[Entry], first_index: int) -> list[Withdrawal]:
    """Pick the RETRACT and ERASE entries out of a batch.

    Args:
        entries: The batch.
        first_index: Leaf index of its first entry.
    """
    return [
        Withdrawal(
            _ERASE if isinstance(entry, Erase) else _RETRACT,
            leaf_index,
            entry.first,
            entry.first + entry.count,
            entry.reason,
        )
        for leaf_index, entry in enumerate(entries, first_index)
        if isinstance(entry, (Retract, Erase))
    ]


def resolve(withdrawals: Sequence[Withdrawal]) -> list[Effect]:
    """Turn ranges that overlap into ranges that do not.

    Returns:
        In order, without gaps that nothing covers.
    """
    edges = sorted({edge for it in withdrawals for edge in (it.first, it.end)})
    coming = sorted(withdrawals, key=lambda it: it.first, reverse=True)
    covering: list[Withdrawal] = []
    effects: list[Effect] = []
    for first, end in pairwise(edges):
        while coming and coming[-1].first == first:
            heappush(covering, coming.pop())
        while covering and covering[0].end <= first:
            heappop(covering)
        if covering:
            _add(effects, Effect(first, end, covering[0]))
    return effects


def _add(effects: list[Effect], new: Effect) -> None:
    # Where a weaker range begins or ends under a stronger one, nothing changes.
    if effects and effects[-1].end == new.first and effects[-1].by == new.by:
        effects[-1] = effects[-1]._replace(end=new.end)
    else:
        effects.append(new)


def clip(effects: Iterable[Effect], first: int, end: int) -> Iterator[Effect]:
    """Keep what lies within leaves `first` to `end`, the latter not included."""
    for effect in effects:
        low, high = max(effect.first, first), min(effect.end, end)
        if low < high:
            yield Effect(low, high, effect.by)
