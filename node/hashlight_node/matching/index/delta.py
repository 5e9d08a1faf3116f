"""Where new rows are until there are enough of them for a segment."""

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from hashlight_node.matching.index.layout import (
    BANDS,
    DEAD,
    DIGEST_BYTES,
    KEYS,
    RECORD_BYTES,
)

if TYPE_CHECKING:
    from hashlight_node.matching.index.kernel import Kernel
    from hashlight_node.matching.index.numpy_kernel import DeltaArrays

MAX_ROWS: Final = 2**16 - 1
"""A link between rows has 16 bits, and 0 means none."""


class Delta:
    """Rows in the order in which they came.

    Attributes:
        arrays: What the kernel reads.
        row_of: Where each live pair of id and hash is.
        dead: Rows that were removed.
    """

    __slots__ = ("arrays", "dead", "row_of")

    def __init__(self, capacity: int) -> None:
        self.arrays: DeltaArrays = (
            np.zeros((capacity, RECORD_BYTES), np.uint8),
            np.full(capacity, DEAD, np.uint32),
            np.zeros((BANDS, KEYS), np.uint16),
            np.zeros(1, np.uint32),
        )
        self.row_of: dict[tuple[int, bytes], int] = {}
        self.dead = 0

    @property
    def live(self) -> int:
        """Rows that can be found."""
        return len(self.row_of)

    @property
    def count(self) -> int:
        """Rows that are filled."""
        return len(self.row_of) + self.dead

    @property
    def is_full(self) -> bool:
        """Whether no row can be added any more."""
        return self.count == len(self.arrays[1])

    @property
    def size_bytes(self) -> int:
        """Memory of all arrays."""
        return sum(array.nbytes for array in self.arrays)

    def add(self, kernel: "Kernel", signal_id: int, digest: bytes) -> None:
        """Append a row; it is findable at once."""
        row = self.count
        kernel.insert(*self.arrays, signal_id, digest)
        self.row_of[signal_id, digest] = row

    def find(self, kernel: "Kernel", signal_id: int, digest: bytes) -> int:
        """Find a live row, or give -1."""
        del kernel
        return self.row_of.get((signal_id, digest), -1)

    def kill(self, row: int) -> None:
        """Make a row unfindable; its hash stays until `wipe`."""
        records, ids, _, _ = self.arrays
        digest = records[row, :DIGEST_BYTES].tobytes()
        del self.row_of[int(ids[row]), digest]
        ids[row] = DEAD
        self.dead += 1

    def wipe(self, row: int) -> None:
        """Zero the hash of a dead row; its links stay, others are behind them."""
        self.arrays[0][row, :DIGEST_BYTES] = 0

    def live_rows(self) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        """Copy the rows that can be found, and their ids."""
        records, ids, _, _ = self.arrays
        ids = ids.copy()  # rows may die while this goes on
        at = np.flatnonzero(ids != DEAD)
        return records[at, :DIGEST_BYTES], ids[at]
