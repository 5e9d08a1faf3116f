"""How hashes lie in memory so that all within a distance are found by reading little.

**Which rows to look at.** Cut 256 bits into 16 bands of 16, in a ring: band 0 follows
band 15. Let a row differ from the query in at most `T` bits, `d[i]` of them in band
`i`. Then some band `i` has

    d[i] <= T // 16   and   d[i] + d[i + 1] <= 2 * T // 16.

Proof: walk around the ring and sum up `d[i] - T / 16`. The whole sum is at most 0, so
from the band after the place where the sum so far is largest, no later sum, of any
length and on beyond the end, rises above 0: starting there, one band holds at most
`T / 16` and two hold at most `2 * T / 16`, and what is counted is whole. (Qin, Xiao:
Pigeonring, VLDB 2018.) So for `T <= 31` it is enough to read, for every band, the rows
that equal the query there and, from `T = 16` on, those one bit away, and of these only
rows whose next band is near enough. `T < 16` needs the equal ones only. Beyond 31 a
search compares with every row.

**A segment** holds `n` rows ascending by hash, so that crowded neighbours share cache
lines, and for each band a table: where in its postings each of 65,536 values begins,
the next band of every posting, its row. The test of the next band reads two bytes in
a straight line and leaves a quarter of a percent. Segments never change but for rows
that die: their id becomes `DEAD`.

**A delta** takes new rows until it becomes a segment: records of 64 bytes, each with
a link per band to the row that had the same value before it.

A row that is removed keeps its place until its segment is written anew; its bytes are
zeroed at once, and then it is no longer in order: looking a row up passes over it.
"""

import mmap
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

BANDS: Final = 16
KEYS: Final = 1 << 16
DIGEST_BYTES: Final = 32
RECORD_BYTES: Final = 64
MAX_INDEXED: Final = 31
"""Largest distance for which the tables find everything."""

DEAD: Final = 2**32 - 1
"""The id of a removed row."""

PADDING: Final = 32
"""Entries behind the last next band, because the kernel compares so many at once."""

_HUGE_PAGE: Final = 1 << 21
_HUGE: Final[int | None] = getattr(mmap, "MADV_HUGEPAGE", None)


_Item = TypeVar("_Item", bound=np.generic)


def allocate(shape: int | tuple[int, ...], dtype: type[_Item]) -> NDArray[_Item]:
    """Make an array of zeros, on huge pages where there are any and it is large.

    A query touches a few hundred places all over the tables; on small pages each
    would also miss the processor's table of pages. The memory is private: a process
    that is forked shares it until one of both writes.
    """
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    if size < _HUGE_PAGE or _HUGE is None:
        return np.zeros(shape, dtype)
    # One page more than needed, so that the array can begin where a page does.
    memory = mmap.mmap(
        -1, size + _HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    )
    memory.madvise(_HUGE)
    start = -np.frombuffer(memory, np.uint8).ctypes.data % _HUGE_PAGE
    array = np.frombuffer(memory, np.uint8, size, start).view(dtype)
    return array.reshape(shape)


def band_keys(digests: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Read hashes, n x 32 bytes, as n x 16 bands; the order of values is theirs."""
    return digests.view(">u2").astype(np.uint16)
