"""Hashes to search in and to search for: all of a seed, the same on every machine.

Two distributions. *Uniform*: 256 random bits, as good as unrelated photographs are.
*Clustered*: what platforms really hold, where near-blank pages, gradients, text on
white and meme templates crowd together; `pictures` draws and hashes them.

Half of the queries of either kind are new draws from the same distribution, which in
the uniform case match nothing. The other half are stored hashes in which some bits
are flipped: 0, 1, 2 … 31 of them in turn, so that every distance up to the threshold
is planted and a search that misses one is found out.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from benchmarks.pictures import clustered_hashes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Hashes: TypeAlias = NDArray[np.uint8]
    """n x 32 bytes."""

Distribution = Literal["uniform", "clustered"]
DISTRIBUTIONS: Final[tuple[Distribution, ...]] = ("uniform", "clustered")

THRESHOLD: Final = 31
"""Bits; what the field calls a match."""

BYTES: Final = 32
QUERIES: Final = 8192
SEED: Final = 2026

_BITS: Final = 8 * BYTES
_QUERY_SEED: Final = 1  # added, so that queries are no copies of what is stored


def make_hashes(distribution: Distribution, count: int, seed: int = SEED) -> Hashes:
    """Draw so many hashes.

    Takes about a second for ten million uniform ones, a minute and a half for as many
    clustered ones.
    """
    if distribution == "clustered":
        return clustered_hashes(count, seed)
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, size=(count, BYTES), dtype=np.uint8)


def make_queries(
    distribution: Distribution, stored: Hashes, count: int = QUERIES
) -> Hashes:
    """Draw queries: new ones at even places, planted ones at odd places."""
    queries = make_hashes(distribution, count, SEED + _QUERY_SEED)
    rng = np.random.default_rng(SEED + _QUERY_SEED)
    chosen = rng.integers(0, len(stored), size=count // 2)
    planted = np.unpackbits(stored[chosen], axis=1)
    order = rng.random((len(planted), _BITS), dtype=np.float32).argsort(axis=1)
    distances = np.arange(len(planted)) % (THRESHOLD + 1)
    for row, distance in enumerate(distances):
        planted[row, order[row, :distance]] ^= 1
    queries[1::2] = np.packbits(planted, axis=1)
    return queries


def prepare(folder: Path, distribution: Distribution, count: int) -> tuple[Path, Path]:
    """Make the files with hashes and queries, unless an earlier run has.

    Returns:
        Two `.npy` files, which every contestant maps instead of holding a copy.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{distribution}-{count}-{_version()}"
    hashes_file = folder / f"{name}.npy"
    queries_file = folder / f"{name}-queries.npy"
    if not queries_file.exists():
        print(f"drawing {count:,} {distribution} hashes", flush=True)
        hashes = make_hashes(distribution, count)
        _save(hashes_file, hashes)
        _save(queries_file, make_queries(distribution, hashes))
    return hashes_file, queries_file


def load(file: Path) -> Hashes:
    """Map a file of hashes; its pages belong to the system, not to the process."""
    hashes: Hashes = np.load(file, mmap_mode="r")
    return hashes


def _version() -> str:
    """Name what draws, so that files of another version of it are not taken."""
    sources = (Path(__file__), Path(__file__).with_name("pictures.py"))
    return hashlib.sha256(b"".join(it.read_bytes() for it in sources)).hexdigest()[:8]


def _save(file: Path, hashes: Hashes) -> None:
    new = file.with_name(f"{file.stem}.new.npy")
    np.save(new, hashes)
    new.replace(file)
