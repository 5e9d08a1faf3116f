"""Hashes to search for, and the answer by comparing with each."""

import threading
from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from hashlight_node.matching.index import Hit, PdqIndex
from hashlight_node.matching.index.index import MERGING
from hashlight_node.matching.index.kernel import Kernel, load_kernel
from hashlight_node.matching.index.merging import Sizes

EVERYTHING = 10**9
"""A limit that nothing here reaches."""

KERNELS = ("c", "numpy")

SMALL = Sizes(delta_rows=64, bulk_rows=128, min_dead=16)
"""Sizes with which a few hundred rows do what millions do otherwise."""


def kernel(name: str) -> Kernel:
    """Give a kernel, or skip the test where it could not be compiled."""
    try:
        return load_kernel(name)
    except ImportError:
        pytest.skip("the kernel is not compiled here")


def digests(count: int, *, seed: int) -> list[bytes]:
    generator = np.random.default_rng(seed)
    return [generator.bytes(32) for _ in range(count)]


def flipped(digest: bytes, bits: list[int]) -> bytes:
    value = int.from_bytes(digest)
    for bit in bits:
        value ^= 1 << bit
    return value.to_bytes(32)


def clustered(count: int, *, seed: int) -> NDArray[np.uint8]:
    """Give different hashes, n x 32 and n a little below `count`, in crowds.

    A few centres, one of them blank, with up to 40 bits flipped.
    """
    generator = np.random.default_rng(seed)
    centres = generator.integers(0, 256, (12, 32), dtype=np.uint8)
    centres[0] = 0
    rows = centres[generator.integers(0, len(centres), count)]
    flips = generator.integers(0, 41, count)
    for turn in range(40):
        some = np.flatnonzero(flips > turn)
        bits = generator.integers(0, 256, len(some))
        rows[some, bits >> 3] ^= (1 << (bits & 7)).astype(np.uint8)
    rows = np.unique(rows, axis=0)
    return rows[generator.permutation(len(rows))]


def brute_force(
    known: Mapping[int, bytes], query: bytes, max_distance: int
) -> list[Hit]:
    wanted = int.from_bytes(query)
    hits = [
        Hit((int.from_bytes(digest) ^ wanted).bit_count(), signal_id, digest)
        for signal_id, digest in known.items()
    ]
    return sorted(hit for hit in hits if hit.distance <= max_distance)


def filled(
    known: Mapping[int, bytes],
    *,
    kernel: Kernel | None = None,
    sizes: Sizes | None = None,
) -> PdqIndex:
    index = PdqIndex(kernel=kernel, sizes=sizes)
    index.extend(list(known), b"".join(known.values()))
    return index


def merging_thread() -> threading.Thread | None:
    return next((it for it in threading.enumerate() if it.name == MERGING), None)


class GatedKernel:
    """A kernel whose merges stop before they build, until a test lets them go on."""

    def __init__(self, kernel: Kernel) -> None:
        # Functions of a module, which become no methods on their way.
        self.View, self._build = kernel.View, kernel.build
        self.sort, self.insert = kernel.sort, kernel.insert
        self.find, self.mark_known = kernel.find, kernel.mark_known
        self.gate = threading.Event()
        self.gate.set()
        self.is_building = threading.Event()

    def build(
        self,
        rows: NDArray[np.uint8],
        offsets: NDArray[np.uint32],
        following: NDArray[np.uint16],
        postings: NDArray[np.uint32],
    ) -> None:
        if threading.current_thread().name == MERGING:
            self.is_building.set()
            assert self.gate.wait(60)
        self._build(rows, offsets, following, postings)
