"""One contender in a process of its own, so that its memory and its faults are its own.

    python -m benchmarks.contestant ours-c HASHES.npy QUERIES.npy

Takes one JSON object a line on standard input and answers with one on standard
output. The other end is `arena`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.contenders import CONTENDERS
from benchmarks.hashes import load
from benchmarks.measuring import resident_bytes

if TYPE_CHECKING:
    from benchmarks.contenders import Contender
    from benchmarks.hashes import Hashes

_NANO = 1e-9
_MICRO = 1e-3
_WARM_UP_QUERIES = 512
_WARM_UP_NANOSECONDS = 20_000_000


def main(arguments: list[str]) -> int:
    """Answer commands until there are no more."""
    name, hashes_file, queries_file = arguments
    contestant = Contestant(
        CONTENDERS[name](), load(Path(hashes_file)), load(Path(queries_file))
    )
    for line in sys.stdin:
        command = json.loads(line)
        answer = getattr(contestant, command.pop("do"))(**command)
        print(json.dumps(answer), flush=True)
    return 0


class Contestant:
    """Does to one contender what it is told, and measures it."""

    def __init__(self, contender: Contender, hashes: Hashes, queries: Hashes) -> None:
        self._contender = contender
        self._hashes = hashes
        self._queries = queries
        self._prepared = contender.prepared(queries)

    def build(self) -> dict[str, float]:
        """Build the index: what that costs and what it holds then."""
        # Read once, so that no contender waits for the disk.
        self._hashes.sum(dtype="u8")
        self._contender.start()
        before = resident_bytes()
        cpu, wall = time.process_time(), time.perf_counter()
        self._contender.build(self._hashes)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        self._contender.search(self._prepared[0])
        held = resident_bytes() - before
        return {
            "build_cpu_seconds": cpu,
            "build_seconds": wall,
            "bytes_a_hash": held / len(self._hashes),
        }

    def single(self, first: int, count: int) -> list[float]:
        """Search one by one, after some that are not counted.

        Without these, whoever answers a round in a millisecond would find the caches
        as another contestant left them, and whoever takes longer would not.

        Returns:
            Microseconds of CPU time that each took, in the thread that asked.
        """
        search = self._contender.search
        clock = time.thread_time_ns
        times: list[float] = []
        warm_at = clock() + _WARM_UP_NANOSECONDS
        for query in self._prepared[-_WARM_UP_QUERIES:]:
            search(query)
            if clock() > warm_at:
                break
        for query in self._prepared[first : first + count]:
            started = clock()
            search(query)
            times.append((clock() - started) * _MICRO)
        return times

    def batch(self, first: int, count: int) -> float:
        """Search many at once.

        Returns:
            Seconds of CPU time, in all threads.
        """
        queries = self._queries[first : first + count]
        started = time.process_time_ns()
        self._contender.search_batch(queries)
        return (time.process_time_ns() - started) * _NANO

    def matches(self, count: int) -> list[tuple[list[int], bool]]:
        """Give what the first so many queries match."""
        found = map(self._contender.matches, self._prepared[:count])
        return [(sorted(ids), truncated) for ids, truncated in found]

    def updates(self, first: int, count: int) -> dict[str, list[float]]:
        """Add hashes and take them away again, and look at once whether that shows.

        Returns:
            Microseconds from the call until a search has shown its effect, wall
            time; no removals where there is no way to remove.

        Raises:
            RuntimeError: It did not show.
        """
        places = range(first, first + count)
        pairs = [
            (len(self._hashes) + at, self._queries[at].tobytes(), self._prepared[at])
            for at in places
        ]
        added = [self._one(pair, is_added=True) for pair in pairs]
        try:
            removed = [self._one(pair, is_added=False) for pair in pairs]
        except NotImplementedError:
            removed = []
        return {"add": added, "remove": removed}

    def _one(self, pair: tuple[int, bytes, object], *, is_added: bool) -> float:
        row, digest, query = pair
        change = self._contender.add if is_added else self._contender.remove
        started = time.perf_counter_ns()
        change(row, digest)
        ids, truncated = self._contender.matches(query)
        taken = (time.perf_counter_ns() - started) * _MICRO
        if (row in ids) is not is_added and not truncated:
            message = f"row {row} was changed, and that does not show"
            raise RuntimeError(message)
        return taken


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
