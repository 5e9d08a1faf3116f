"""What a search in memory proposes, before the store has confirmed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PDQ: Final = "pdq"

MAX_CANDIDATES: Final = 1000
"""Signals that one query may match, the nearest; so that a flood of near hashes in
one list cannot exhaust a node's memory. Answers that reach it say `truncated`."""

MAX_CANDIDATES_A_CALL: Final = 20_000
"""The same for all queries of a call together. They share it evenly at first; what is
left goes to those that matched more than their share, in their order."""


def candidate_limit(query_count: int) -> int:
    """Tell how many signals each query of a call may match before any has more."""
    return min(MAX_CANDIDATES, max(1, MAX_CANDIDATES_A_CALL // max(1, query_count)))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A signal that was live a moment ago and is near enough.

    Attributes:
        signal_id: Under which the store has its evidence.
        type: Its type.
        value: Its canonical value; of a type that matches by equality the query's,
            which another signal with the same digest may not have.
        distance: From the query, in bits; 0 if equal.
        threshold: Largest distance that was searched.
    """

    signal_id: int
    type: str
    value: str
    distance: int
    threshold: int


@dataclass(frozen=True, slots=True)
class Candidates:
    """What one query may match; true if there is anything.

    Attributes:
        signals: Nearest first.
        truncated: There may be more, none of them nearer than the last.
    """

    signals: Sequence[Candidate]
    truncated: bool = False

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self.signals)

    def __len__(self) -> int:
        return len(self.signals)


NO_CANDIDATES: Final = Candidates(())
"""Of a query that matches nothing, as most do."""
