"""Which code searches: compiled where that was possible, numpy everywhere else.

Both read the same arrays and give the same answers.
"""

import importlib
import os
from functools import cache
from typing import Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from hashlight_node.matching.index import numpy_kernel
from hashlight_node.matching.index.found import Hit
from hashlight_node.matching.index.numpy_kernel import (
    Answer,
    DeltaArrays,
    SegmentArrays,
)

VARIABLE: Final = "HASHLIGHT_KERNEL"
"""Environment variable that forces `c` or `numpy`, for tests and for comparing."""


class View(Protocol):
    """The segments and deltas of one moment, for searching."""

    def search(self, query: bytes, max_distance: int, limit: int, /) -> Answer:
        """Search for one hash."""
        ...

    def search_many(
        self, queries: bytes, max_distance: int, limit: int, /
    ) -> list[Answer]:
        """Search for several hashes, 32 bytes each, one after the other."""
        ...


class Kernel(Protocol):
    """What `numpy_kernel` documents and `_kernel.c` does faster."""

    @property
    def View(self) -> "_ViewType":  # noqa: N802 - the name of a class
        """Make a view of these segments and deltas."""
        ...

    def sort(
        self,
        digests: NDArray[np.uint8],
        ids: NDArray[np.uint32],
        sorted_digests: NDArray[np.uint8],
        sorted_ids: NDArray[np.uint32],
        /,
    ) -> int:
        """Sort rows by hash, then id."""
        ...

    def build(
        self,
        rows: NDArray[np.uint8],
        offsets: NDArray[np.uint32],
        following: NDArray[np.uint16],
        postings: NDArray[np.uint32],
        /,
    ) -> None:
        """Fill the tables of a segment."""
        ...

    def insert(
        self,
        records: NDArray[np.uint8],
        ids: NDArray[np.uint32],
        heads: NDArray[np.uint16],
        count: NDArray[np.uint32],
        signal_id: int,
        digest: bytes,
        /,
    ) -> None:
        """Append a row to a delta."""
        ...

    def find(
        self,
        rows: NDArray[np.uint8],
        ids: NDArray[np.uint32],
        skips: NDArray[np.uint32],
        signal_id: int,
        digest: bytes,
        /,
    ) -> int:
        """Find a live row of a segment."""
        ...

    def mark_known(
        self,
        rows: NDArray[np.uint8],
        ids: NDArray[np.uint32],
        skips: NDArray[np.uint32],
        digests: NDArray[np.uint8],
        signal_ids: NDArray[np.uint32],
        known: NDArray[np.uint8],
        /,
    ) -> None:
        """Mark which of these are rows of a segment."""
        ...


class _ViewType(Protocol):
    def __call__(
        self,
        segments: tuple[SegmentArrays, ...],
        deltas: tuple[DeltaArrays, ...],
        hit: type[Hit],
        /,
    ) -> View: ...


@cache
def load_kernel(name: str) -> Kernel:
    """Give a kernel by its name.

    Args:
        name: `c`, `numpy`, or nothing for the faster one that there is.

    Raises:
        ImportError: `c` is wanted and was not compiled, or for another system.
        ValueError: There is no such kernel.
    """
    if name not in {"", "c", "numpy"}:
        raise ValueError(f"{VARIABLE} is neither c nor numpy: {name!r}")
    if name != "numpy":
        try:
            compiled = importlib.import_module(f"{__package__}._kernel")
        except ImportError:
            if name == "c":
                raise
        else:
            return cast("Kernel", compiled)
    return cast("Kernel", numpy_kernel)


def chosen_kernel() -> Kernel:
    """Give the kernel that this process uses."""
    return load_kernel(os.environ.get(VARIABLE, ""))


def kernel_name(kernel: Kernel | None = None) -> str:
    """Name a kernel, `c` or `numpy`; by default the one that this process uses."""
    is_numpy = (kernel or chosen_kernel()) is cast("Kernel", numpy_kernel)
    return "numpy" if is_numpy else "c"
