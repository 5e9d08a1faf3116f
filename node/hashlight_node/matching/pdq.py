"""PDQ, the perceptual hash of pictures, bit for bit as Meta's reference computes it.

A picture is blurred and reduced to 64x64 values, transformed by a discrete
cosine transform, and each of the 16x16 lowest frequencies gives one bit: whether
it is greater than their median. Two copies of one picture differ in few bits.

"Bit for bit" needs the reference's order of float32 operations, because each
rounding counts: running sums go sample by sample along a line and dot products
term by term. Both are written as loops over exactly that direction, and numpy
does the other one at once. No order that matters is left to numpy or to a linear
algebra library, so the result is the same on every machine.

Source: "The TMK+PDQF video-hashing algorithm and the PDQ image-hashing
algorithm", Meta, 2019; the reference is `pdq/cpp` in facebook/ThreatExchange.
"""

from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]

DIGEST_BYTES: Final = 32

_SIDE: Final = 64  # the reduced picture
_FREQUENCIES: Final = 16  # kept in each direction
_MIN_SIDE: Final = 5  # the reference hashes nothing smaller
_PASSES: Final = 2  # two box filters in a row make a tent

# Thousandths, so that every product and sum is an integer below 2**24: exact in
# float32 in whatever order it is added. One correctly rounded division follows.
_LUMA_THOUSANDTHS: Final = np.array([299, 587, 114], dtype=np.float32)


def _cosines() -> Floats:
    """Make the first rows of the transform's matrix, without the constant one."""
    # Double precision and this order of factors, then rounded once: as the
    # reference does it.
    scale = np.float64(np.float32(np.sqrt(2.0 / _SIDE)))
    rows = np.arange(1, _FREQUENCIES + 1, dtype=np.float64)[:, np.newaxis]
    columns = 2 * np.arange(_SIDE, dtype=np.float64) + 1
    return (scale * np.cos(np.pi / 2.0 / _SIDE * rows * columns)).astype(np.float32)


_COSINES: Final = _cosines()


class PdqHash(NamedTuple):
    """What PDQ says of one picture.

    Attributes:
        digest: 32 bytes; their hexadecimal form is the usual 64 characters.
        quality: 0 to 100, how much detail the hash rests on. Below 50 it
            means little.
    """

    digest: bytes
    quality: int


def luminance(rgb: NDArray[np.uint8]) -> Floats:
    """Turn colours into brightness: 0.299 R + 0.587 G + 0.114 B.

    Each result is the float32 nearest to the exact value, for each of the 2**24
    colours. That is what the widely used Python binding of the reference gives.

    Args:
        rgb: Height x width x 3 values, 0 to 255.

    Returns:
        Height x width values, 0 to 255.
    """
    exact: Floats = rgb.astype(np.float32) @ _LUMA_THOUSANDTHS
    exact /= np.float32(1000)
    return exact


def pdq_hash(luma: Floats) -> PdqHash:
    """Hash a picture given as brightness.

    Args:
        luma: Height x width values, 0 to 255. The hash of a scaled picture is
            close to that of the original, not equal: whoever wants comparable
            hashes has to pin how pictures are scaled, as `image` does.

    Returns:
        Hash and quality; 32 zero bytes and quality 0 if a side is shorter than 5.
    """
    if min(luma.shape) < _MIN_SIDE:
        return PdqHash(bytes(DIGEST_BYTES), 0)
    reduced = luma if luma.shape == (_SIDE, _SIDE) else _reduce(luma)
    frequencies = _product(_product(_COSINES, reduced), _COSINES.T)
    return PdqHash(_digest(frequencies), _quality(reduced))


def _reduce(luma: Floats) -> Floats:
    """Blur a picture and take 64x64 samples of it."""
    height, width = luma.shape
    along_rows, along_columns = _window(width), _window(height)
    for _ in range(_PASSES - 1):
        luma = _box_filter(luma.T, along_rows).T
        luma = _box_filter(luma, along_columns)
    # In the last pass only those columns are filtered whose samples are taken.
    luma = _box_filter(luma.T, along_rows)[_centres(width)].T
    return _box_filter(luma, along_columns)[_centres(height)]


def _window(length: int) -> int:
    """Give the samples to average: half of what becomes one, rounded up."""
    return -(-length // (2 * _SIDE))


def _centres(length: int) -> NDArray[np.intp]:
    """Give the positions of the 64 samples on a line of that length."""
    return ((np.arange(_SIDE) + 0.5) * length / _SIDE).astype(np.intp)


def _box_filter(lines: Floats, window: int) -> Floats:
    """Average each value with its neighbours along the first axis.

    The sum is carried along the axis: one value enters, one leaves. It is never
    computed afresh, because its accumulated rounding is part of the hash. At
    both ends fewer values are averaged.
    """
    lines = np.ascontiguousarray(lines)
    length, width = lines.shape
    ahead = window // 2  # the window reaches this far beyond its centre
    sums = np.empty_like(lines)
    total = np.zeros(width, dtype=np.float32)
    for entering in range(length + ahead):
        if entering < length:
            np.add(total, lines[entering], out=total)
        if entering >= window:
            np.subtract(total, lines[entering - window], out=total)
        if entering >= ahead:
            sums[entering - ahead] = total
    centre = np.arange(length)
    first = np.maximum(centre + ahead + 1 - window, 0)
    beyond = np.minimum(centre + ahead + 1, length)
    sums /= (beyond - first).astype(np.float32)[:, np.newaxis]
    return sums


def _product(left: Floats, right: Floats) -> Floats:
    """Multiply matrices, adding the terms of each dot product in their order."""
    total = np.zeros((len(left), right.shape[1]), dtype=np.float32)
    for term in range(len(right)):
        total += left[:, term, np.newaxis] * right[term]
    return total


def _quality(reduced: Floats) -> int:
    """Count the significant steps between neighbours of the reduced picture."""
    steps = 0
    for axis in (0, 1):
        # The reference subtracts the other way round; only the sign differs.
        percent = np.diff(reduced, axis=axis) * np.float32(100) / np.float32(255)
        # Truncated, so that noise below one per cent counts nothing.
        steps += int(np.abs(percent.astype(np.int32)).sum())
    return min(steps // 90, 100)


def _digest(frequencies: Floats) -> bytes:
    """Set a bit for each frequency above the median, the first one last."""
    values = frequencies.ravel()
    # Of an even number of values the reference takes the lower middle one.
    middle = values.size // 2 - 1
    median = np.partition(values, middle)[middle]
    return np.packbits((values > median)[::-1]).tobytes()
