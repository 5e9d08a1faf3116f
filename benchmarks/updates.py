"""Section `updates`: searches while parts of the index are merged, and restarts.

How soon one added or removed hash shows is measured by section `index`, where the
peers are, too. Here is what only an index that takes changes while it answers has.
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.contenders import LIMIT
from benchmarks.hashes import THRESHOLD, load, make_hashes, prepare
from benchmarks.measuring import percentile
from hashlight_node.matching.index import PdqIndex
from hashlight_node.matching.matcher import Matcher, Rows
from hashlight_node.matching.snapshot import SnapshotFile, encode, head_of
from hashlight_node.model import FeedMark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.hashes import Hashes
    from benchmarks.options import Options
    from benchmarks.results import Results

_ADDED_SEED: Final = 7
_ADDED_SHARE: Final = 0.3  # of the size: enough to write the largest part anew
_LEAST_ADDED: Final = 100_000  # several merges, however small the index
_ADDED_AT_ONCE: Final = 2000
_ASKED_AT_ONCE: Final = 100
_MERGING: Final = "pdq-merge"
"""The index's thread, which exists only while it merges."""


def run(options: Options, results: Results) -> None:
    """Measure every size."""
    for size in options.sizes:
        print(f"{size:,} uniform hashes", flush=True)
        files = prepare(options.data, "uniform", size)
        stored, queries = load(files[0]), load(files[1])
        _restart(stored, results)
        _merge(stored, queries, results)


def _restart(stored: Hashes, results: Results) -> None:
    """Time from a snapshot on disk, as a node leaves it, to the first answer."""
    ids = np.arange(1, len(stored) + 1)
    nothing = np.empty(0, dtype=np.int64)
    rows = Rows(ids, stored, nothing, nothing, {})
    with tempfile.TemporaryDirectory(prefix="hashlight-bench-") as directory:
        file = Path(directory, "snapshot")
        with file.open("wb") as out:
            out.writelines(encode(head_of(rows, FeedMark(), written_at=0), rows))
        started = time.perf_counter()
        snapshot = SnapshotFile.open(file)
        found = snapshot.load()
        snapshot.close()
        read = time.perf_counter() - started
        matcher = Matcher(pdq_threshold=THRESHOLD)
        matcher.restore(found)
        seconds = time.perf_counter() - started
        row = {
            "what": "restart",
            "size": len(stored),
            "read_seconds": read,
            "seconds": seconds,
            "snapshot_bytes": file.stat().st_size,
        }
    results.add("updates", row)
    print(f"  ready after {seconds:.2f} s, {read:.2f} s of it to read and check")


def _merge(stored: Hashes, queries: Hashes, results: Results) -> None:
    """Add rows until the largest part was merged, and search all the while.

    Wall time: waiting is what this looks for. While a merge runs nothing is added,
    so that a search has only the merge to wait for; in between, searches follow
    additions in small groups.
    """
    index = PdqIndex.from_rows(np.arange(len(stored)), stored)
    count = max(_LEAST_ADDED, round(len(stored) * _ADDED_SHARE))
    new = make_hashes("uniform", count, _ADDED_SEED)
    asked = _Asking(index, [query.tobytes() for query in queries])
    before: list[float] = []
    during: list[float] = []
    for first in range(0, count, _ADDED_AT_ONCE):
        for at in range(first, min(first + _ADDED_AT_ONCE, count)):
            index.add(len(stored) + at, new[at].tobytes())
        if not _is_merging():
            before += asked.some()
        while _is_merging():
            during += asked.some()
    merges = index.stats().merges
    index.close()
    if not during:
        print("  !! no merge was seen: not measured")
        return
    row = {
        "what": "merge",
        "size": len(stored),
        "added": count,
        "merges": merges,
        "before_p50_us": percentile(before, 50),
        "before_p99_us": percentile(before, 99),
        "during_p50_us": percentile(during, 50),
        "during_p99_us": percentile(during, 99),
        "during_max_us": max(during),
        "during_count": len(during),
        "p99_ratio": percentile(during, 99) / percentile(before, 99),
    }
    results.add("updates", row)
    print(
        f"  {merges} merges: p99 {row['before_p99_us']:.0f} µs before,"
        f" {row['during_p99_us']:.0f} µs during"
    )


def _is_merging() -> bool:
    return any(thread.name == _MERGING for thread in threading.enumerate())


class _Asking:
    """Searches in groups, each query after the other."""

    def __init__(self, index: PdqIndex, queries: Sequence[bytes]) -> None:
        self._index = index
        self._queries = queries
        self._next = 0

    def some(self) -> list[float]:
        """Give the microseconds that each of the next searches took."""
        times = []
        for _ in range(_ASKED_AT_ONCE):
            query = self._queries[self._next % len(self._queries)]
            self._next += 1
            started = time.perf_counter_ns()
            self._index.search(query, THRESHOLD, limit=LIMIT)
            times.append((time.perf_counter_ns() - started) / 1000)
        return times
