"""Section `index`: one search after the other, and many at once, against all peers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.arena import (
    build_all,
    recall_of,
    seated,
    time_batches,
    time_singles,
    time_updates,
)
from benchmarks.contenders import CONTENDERS, is_installed
from benchmarks.hashes import DISTRIBUTIONS, load, prepare
from benchmarks.measuring import available_bytes
from benchmarks.truth import brute_force

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.hashes import Distribution
    from benchmarks.options import Options
    from benchmarks.results import Results

_LARGE: Final = 3_000_000
_SLOW: Final = ("faiss-narrow", "reference")
"""Who takes part above `_LARGE` only if all are asked for: building takes them minutes
there, and they are slower than the best peer at every size. Then they come after the
others, because not all of them fit into memory together."""

_FEWEST: Final = ("ours-c", "faiss-flat")
"""Who takes part where there is no memory for more."""

_BYTES_A_HASH: Final = 1800
_BYTES_A_HASH_OF_FEWEST: Final = 350  # what building needs for a moment is in here

_TRUTH_ROWS: Final = 400_000_000
"""Comparisons that brute force may make, about 15 seconds."""

_MAX_CHECKED: Final = 512


def run(options: Options, results: Results) -> None:
    """Measure every size on both distributions."""
    for size in options.sizes:
        for distribution in DISTRIBUTIONS:
            _measure(distribution, size, options, results)


def groups(size: int, *, everybody: bool) -> list[list[str]]:
    """Name who takes part, those together that are in memory together.

    Says who cannot, and why.
    """
    installed = [name for name in CONTENDERS if is_installed(name)]
    for name in CONTENDERS.keys() - installed:
        print(f"  !! {CONTENDERS[name].title} is not installed: LEFT OUT")
    available = available_bytes()
    if size * _BYTES_A_HASH_OF_FEWEST > available:
        print(f"  !! no memory for {size:,} hashes: LEFT OUT")
        return []
    if size * _BYTES_A_HASH > available:
        print("  !! no memory for all: most are LEFT OUT")
        return [[name for name in installed if name in _FEWEST]]
    if size <= _LARGE:
        return [installed]
    quick = [name for name in installed if name not in _SLOW]
    slow = [name for name in installed if name in _SLOW]
    return [quick, slow] if everybody and slow else [quick]


def _measure(
    distribution: Distribution, size: int, options: Options, results: Results
) -> None:
    print(f"{size:,} {distribution} hashes", flush=True)
    files = prepare(options.data, distribution, size)
    truth = _truth(files[0], files[1], size)
    for names in groups(size, everybody=options.everybody):
        _compete(names, files, truth, (distribution, size), results)
    _print_mean_matches(truth)


def _compete(
    names: Sequence[str],
    files: tuple[Path, Path],
    truth: Sequence[frozenset[int]],
    measured: tuple[Distribution, int],
    results: Results,
) -> None:
    with seated(names, files) as seats:
        built = build_all(seats)
        singles = time_singles(seats)
        batches = time_batches(seats)
        for seat in seats:
            row = {
                "distribution": measured[0],
                "size": measured[1],
                "contender": seat.name,
                **built[seat.name],
                **singles[seat.name],
                **batches[seat.name],
                **recall_of(seat, truth),
                **time_updates(seat),
            }
            results.add("index", row)


def _truth(hashes: Path, queries: Path, size: int) -> list[frozenset[int]]:
    checked = max(1, min(_MAX_CHECKED, _TRUTH_ROWS // size))
    return brute_force(load(hashes), load(queries)[:checked])


def _print_mean_matches(truth: Sequence[frozenset[int]]) -> None:
    counts = sorted(map(len, truth))
    print(
        f"  matches of a query: mean {sum(counts) / len(counts):.1f},"
        f" median {counts[len(counts) // 2]}, most {counts[-1]}"
    )
