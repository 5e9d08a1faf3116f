"""A part of the index that is made once and then only loses rows."""

import numpy as np
from numpy.typing import NDArray

from hashlight_node.matching.index.kernel import Kernel
from hashlight_node.matching.index.layout import (
    BANDS,
    DEAD,
    KEYS,
    PADDING,
    allocate,
)
from hashlight_node.matching.index.numpy_kernel import SegmentArrays


class Segment:
    """Rows ascending by hash, with the tables that find them.

    Attributes:
        arrays: What the kernel reads.
        dead: Rows that were removed.
        skips: Per row, how many rows on the next live one may be, for `find` to pass
            over the dead; empty while there are none.
    """

    __slots__ = ("arrays", "dead", "skips")

    def __init__(self, arrays: SegmentArrays) -> None:
        self.arrays = arrays
        self.dead = 0
        self.skips = np.zeros(0, np.uint32)

    @property
    def live(self) -> int:
        """Rows that can be found."""
        return len(self.arrays[1]) - self.dead

    @property
    def size_bytes(self) -> int:
        """Memory of all arrays."""
        return sum(array.nbytes for array in self.arrays) + self.skips.nbytes

    def find(self, kernel: Kernel, signal_id: int, digest: bytes) -> int:
        """Find a live row, or give -1."""
        rows, ids, _, _, _ = self.arrays
        return kernel.find(rows, ids, self.skips, signal_id, digest)

    def mark_known(
        self,
        kernel: Kernel,
        digests: NDArray[np.uint8],
        signal_ids: NDArray[np.uint32],
        known: NDArray[np.uint8],
    ) -> None:
        """Set `known` to 1 for each hash and id that is a live row."""
        rows, ids, _, _, _ = self.arrays
        kernel.mark_known(rows, ids, self.skips, digests, signal_ids, known)

    def kill(self, row: int) -> None:
        """Make a row unfindable; its hash stays until `wipe`."""
        ids = self.arrays[1]
        if not self.skips.size:
            self.skips = np.zeros(len(ids), np.uint32)
        ids[row] = DEAD
        self.skips[row] = 1
        self.dead += 1

    def wipe(self, row: int) -> None:
        """Zero the hash of a dead row."""
        self.arrays[0][row] = 0

    def live_rows(self) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        """Give the rows that can be found, and a copy of their ids."""
        rows, ids, _, _, _ = self.arrays
        ids = ids.copy()  # rows may die while this and what follows goes on
        at = np.flatnonzero(ids != DEAD)
        return (rows, ids) if len(at) == len(ids) else (rows[at], ids[at])


def build_segment(
    kernel: Kernel, digests: NDArray[np.uint8], ids: NDArray[np.uint32]
) -> Segment:
    """Make a segment; a hash that is there twice under one id is kept once.

    Args:
        kernel: What sorts and fills.
        digests: Hashes, n x 32, in any order; n is at least 1.
        ids: Their ids, below `DEAD`.
    """
    return with_tables(kernel, *sort_rows(kernel, digests, ids))


def sort_rows(
    kernel: Kernel, digests: NDArray[np.uint8], ids: NDArray[np.uint32]
) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Copy rows by ascending hash, each pair once; see `build_segment`."""
    rows = allocate(digests.shape, np.uint8)
    sorted_ids = allocate(len(ids), np.uint32)
    count = kernel.sort(digests, ids, rows, sorted_ids)
    return rows[:count], sorted_ids[:count]


def with_tables(
    kernel: Kernel, rows: NDArray[np.uint8], ids: NDArray[np.uint32]
) -> Segment:
    """Make a segment of what `sort_rows` gave."""
    count = len(rows)
    offsets = allocate((BANDS, KEYS + 1), np.uint32)
    following = allocate(BANDS * count + PADDING, np.uint16)
    postings = allocate((BANDS - 1) * count, np.uint32)
    kernel.build(rows, offsets, following, postings)
    return Segment((rows, ids, offsets, following, postings))
