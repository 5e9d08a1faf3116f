"""Bodies that are said to be erased, held against what the log says.

An origin that answers "erased" without an ERASE in its log takes a record from us
without anybody being able to prove it later. So the word is believed only if an ERASE
that covers the record is among the verified entries. That entry may come much later in
the same transfer than the body, hence this memory: 8 bytes a claim, 16 a range.

Source: SPEC.md#erasure.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right


class ErasureClaims:
    """Collects claims and ERASE entries during one transfer."""

    def __init__(self) -> None:
        self._claims = array("Q")
        self._starts = array("Q")
        self._ends = array("Q")

    def claim(self, leaf_index: int) -> None:
        """Note that a body was said to be erased."""
        self._claims.append(leaf_index)

    def prove(self, first: int, count: int) -> None:
        """Note a verified ERASE entry.

        Args:
            first: Leaf index of the first entry that it covers.
            count: How many it covers.
        """
        self._starts.append(first)
        self._ends.append(first + count)

    def unproven(self) -> tuple[int, int | None]:
        """Give what no ERASE covers: how many bodies, and the leaf of the first."""
        starts, ends = self._merged()
        missing = 0
        first: int | None = None
        for leaf_index in self._claims:
            position = bisect_right(starts, leaf_index) - 1
            if position < 0 or ends[position] <= leaf_index:
                missing += 1
                first = leaf_index if first is None else min(first, leaf_index)
        return missing, first

    def _merged(self) -> tuple[list[int], list[int]]:
        starts: list[int] = []
        ends: list[int] = []
        for start, end in sorted(zip(self._starts, self._ends, strict=True)):
            if ends and start <= ends[-1]:
                ends[-1] = max(ends[-1], end)
            else:
                starts.append(start)
                ends.append(end)
        return starts, ends
