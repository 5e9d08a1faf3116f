"""Ids and hashes on their way in: checked, and in shares of bounded size."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashlight_node.matching.index.layout import DEAD, DIGEST_BYTES, KEYS, band_keys


def shares(rows: NDArray[np.uint8], size: int) -> Iterator[slice | NDArray[np.intp]]:
    """Split many rows so that those with the same hash stay together.

    Args:
        rows: Hashes, n x 32.
        size: Rows of a share, about; more if so many begin with the same band.

    Returns:
        What to index the rows with, for each share.
    """
    count = -(-len(rows) // size)
    if count > 1:
        keys = band_keys(rows[:, :2]).ravel()
        before = np.cumsum(np.bincount(keys, minlength=KEYS)) - 1
        share = before * count // len(rows)
        for at in range(count):
            chosen = np.flatnonzero(share[keys] == at)
            if chosen.size:
                yield chosen
    elif count:
        yield slice(None)


def rows_in(digests: bytes) -> NDArray[np.uint8]:
    """View hashes, one after the other, as n x 32, or raise a ValueError."""
    if len(digests) % DIGEST_BYTES:
        raise ValueError("a hash is 32 bytes")
    return np.frombuffer(digests, np.uint8).reshape(-1, DIGEST_BYTES)


def checked_rows(
    signal_ids: ArrayLike, digests: NDArray[np.uint8]
) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """Give ids and rows as the kernel takes them, or raise a ValueError."""
    ids = np.asarray(signal_ids, dtype=np.int64)
    if digests.dtype != np.uint8 or digests.shape != (ids.size, DIGEST_BYTES):
        raise ValueError("every id needs a hash of 32 bytes")
    if ids.size and not (ids.min() >= 0 and ids.max() < DEAD):
        raise ValueError("an id has 32 bits, and is not the last of these")
    return ids.astype(np.uint32), np.ascontiguousarray(digests)
