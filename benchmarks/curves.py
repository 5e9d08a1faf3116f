"""Section `curves`: what a search, a hash and a change cost as the index grows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from benchmarks.arena import build_all, seated, time_singles, time_updates
from benchmarks.contenders import is_installed
from benchmarks.hashes import prepare
from benchmarks.results import chosen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.options import Options
    from benchmarks.results import Results, Row

CONTENDERS: Final = ("ours-c", "ours-numpy", "faiss-wide", "faiss-flat")

_SIZES: Final = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000)
_QUICK_SIZES: Final = (10_000, 30_000)
_TENFOLD: Final = 10


def run(options: Options, results: Results) -> None:
    """Measure sizes below those of section `index`, whose points are used as well."""
    largest = max(options.sizes)
    for size in _QUICK_SIZES if options.quick else _SIZES:
        if size >= largest or size in options.sizes:
            continue
        files = prepare(options.data, "uniform", size)
        names = [name for name in CONTENDERS if is_installed(name)]
        print(f"{size:,} uniform hashes", flush=True)
        with seated(names, files) as seats:
            built = build_all(seats)
            singles = time_singles(seats)
            for seat in seats:
                row = {
                    "distribution": "uniform",
                    "size": size,
                    "contender": seat.name,
                    **built[seat.name],
                    **singles[seat.name],
                    **time_updates(seat),
                }
                results.add("curves", row)


def points(rows: Iterable[Row], contender: str, figure: str) -> list[tuple[int, float]]:
    """Give size and figure of every measurement on uniform hashes, ascending."""
    found = {
        int(row["size"]): float(row[figure])
        for row in chosen(rows, distribution="uniform", contender=contender)
        if row["section"] in {"index", "curves"} and row.get(figure) is not None
    }
    return sorted(found.items())


def exponent(curve: Sequence[tuple[int, float]]) -> float:
    """Fit figure = c * size**x by least squares over the logarithms; gives x.

    Args:
        curve: At least two points of different sizes.
    """
    xs = [math.log(size) for size, _ in curve]
    ys = [math.log(figure) for _, figure in curve]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    above = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return above / sum((x - mean_x) ** 2 for x in xs)


def growth(curve: Sequence[tuple[int, float]]) -> float | None:
    """Give the largest factor between a size and its tenfold; None without such."""
    known = dict(curve)
    factors = [
        known[_TENFOLD * size] / figure
        for size, figure in curve
        if _TENFOLD * size in known
    ]
    return max(factors, default=None)
