"""Brute force: the distance of every stored hash from a query, and no cleverness."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.hashes import THRESHOLD

if TYPE_CHECKING:
    from benchmarks.hashes import Hashes

_BLOCK: Final = 65_536


def brute_force(hashes: Hashes, queries: Hashes) -> list[frozenset[int]]:
    """Find every row within the threshold, for each query."""
    found: list[list[int]] = [[] for _ in queries]
    lanes = queries.view(np.uint64)
    for start in range(0, len(hashes), _BLOCK):
        # Lanes side by side, so that each is read in a straight line.
        block = np.array(hashes[start : start + _BLOCK].view(np.uint64).T, order="C")
        for query, rows in zip(lanes, found, strict=True):
            distances = np.bitwise_count(block ^ query[:, np.newaxis]).sum(
                axis=0, dtype=np.uint16
            )
            rows.extend((np.flatnonzero(distances <= THRESHOLD) + start).tolist())
    return [frozenset(rows) for rows in found]
