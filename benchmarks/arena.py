"""Runs contestants side by side: each in its process, none while another works.

They take turns in short rounds, so that what disturbs the machine for a while
disturbs all of them, and each has a budget of time, so that the slow do not make
everybody's run long: they are asked fewer queries, and tables say how many.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import IO, TYPE_CHECKING, Any, Final, cast

from benchmarks.contenders import CONTENDERS
from benchmarks.hashes import QUERIES
from benchmarks.measuring import percentile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

SINGLES: Final = 4096
"""Queries asked one by one, at most."""

_ROUND: Final = 512
_ROUND_SECONDS: Final = 0.1
_FIRST_ROUND: Final = 16
_SINGLE_SECONDS: Final = 6.0
_BATCH_SECONDS: Final = 2.0
_FIRST_BATCH: Final = 32
_PASSES: Final = 5
_UPDATES: Final = 500
_FIRST_UPDATES: Final = 5
_SLOW_UPDATES_MICROSECONDS: Final = 100_000.0
_MICRO: Final = 1e-6


class ContestantError(Exception):
    """A contestant ended, or never began.

    Attributes:
        name: Which one.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} ended; why stands above")
        self.name = name


class Seat:
    """This end of one contestant."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self._orders = cast("IO[str]", process.stdin)
        self._answers = cast("IO[str]", process.stdout)

    def ask(self, command: str, **arguments: object) -> Any:  # noqa: ANN401
        """Have a method of `contestant.Contestant` called; gives what it returns.

        Raises:
            ContestantError: The process is gone.
        """
        try:
            order = json.dumps({"do": command, **arguments})
            print(order, file=self._orders, flush=True)
            line = self._answers.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise ContestantError(self.name)
        return json.loads(line)


@contextmanager
def seated(names: Iterable[str], files: tuple[Path, Path]) -> Iterator[list[Seat]]:
    """Start contestants over the same hashes and queries; all are ended at the end."""
    with ExitStack() as stack:
        seats = []
        for name in names:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.contestant", name, *map(str, files)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(_end, process)
            seats.append(Seat(name, process))
        yield seats


def _end(process: subprocess.Popen[str]) -> None:
    with process:  # closes its pipes, too
        process.kill()


def build_all(seats: Sequence[Seat]) -> dict[str, dict[str, object]]:
    """Build one index after the other; gives cost and size of each by name."""
    built = {}
    for seat in seats:
        built[seat.name] = seat.ask("build")
        print(
            f"  {CONTENDERS[seat.name].title}: built in"
            f" {built[seat.name]['build_cpu_seconds']:.1f} s",
            flush=True,
        )
    return built


def time_singles(seats: Sequence[Seat]) -> dict[str, dict[str, object]]:
    """Ask one query at a time, in rounds; gives percentiles by name."""
    times = {
        seat.name: seat.ask("single", first=0, count=_FIRST_ROUND) for seat in seats
    }
    waiting = list(seats)
    while waiting:
        for seat in waiting:
            taken = times[seat.name]
            fitting = int(_ROUND_SECONDS / _MICRO * len(taken) / sum(taken))
            count = min(max(fitting, _FIRST_ROUND), _ROUND, SINGLES - len(taken))
            taken += seat.ask("single", first=len(taken), count=count)
        waiting = [seat for seat in waiting if _goes_on(times[seat.name])]
    return {name: _percentiles(taken) for name, taken in times.items()}


def _goes_on(taken: Sequence[float]) -> bool:
    return len(taken) < SINGLES and sum(taken) * _MICRO < _SINGLE_SECONDS


def _percentiles(times: Sequence[float]) -> dict[str, object]:
    return {
        "singles": len(times),
        "mean_us": sum(times) / len(times),
        "p50_us": percentile(times, 50),
        "p99_us": percentile(times, 99),
        "max_us": max(times),
    }


def time_batches(seats: Sequence[Seat]) -> dict[str, dict[str, object]]:
    """Ask as many queries at once as the budget allows, in rounds, the best counts.

    The best and not the mean: a neighbour can only make it slower.
    """
    sizes = {seat.name: _batch_size(seat) for seat in seats}
    best: dict[str, float] = {}
    for _ in range(_PASSES):
        for seat in seats:
            count = sizes[seat.name]
            rate = count / seat.ask("batch", first=0, count=count)
            best[seat.name] = max(rate, best.get(seat.name, 0.0))
    return {
        name: {"batch": sizes[name], "batch_per_second": rate}
        for name, rate in best.items()
    }


def _batch_size(seat: Seat) -> int:
    """Give the most queries that fit into one pass of the budget."""
    seconds = seat.ask("batch", first=0, count=_FIRST_BATCH)
    fitting = _FIRST_BATCH * _BATCH_SECONDS / _PASSES / seconds
    return int(min(QUERIES, max(_FIRST_BATCH, fitting)))


def recall_of(seat: Seat, truth: Sequence[frozenset[int]]) -> Mapping[str, object]:
    """Compare answers with what brute force found.

    Returns:
        `recall` over the queries that were not truncated, `truncated` of how many
        `checked`, and `wrong`: ids given that do not match, which is never right.
    """
    expected = found = wrong = cut = 0
    for (ids, truncated), right in zip(
        seat.ask("matches", count=len(truth)), truth, strict=True
    ):
        wrong += len(set(ids) - right)
        cut += truncated
        if not truncated:
            expected += len(right)
            found += len(right.intersection(ids))
    recall = found / expected if expected else 1.0
    return {
        "recall": recall,
        "checked": len(truth),
        "expected": expected,
        "truncated": cut,
        "wrong": wrong,
    }


def time_updates(seat: Seat) -> dict[str, object]:
    """Add and remove hashes one by one, each followed by the search that shows it.

    Whoever takes long for the first few is asked for no more.
    """
    times: dict[str, list[float]] = seat.ask("updates", first=0, count=_FIRST_UPDATES)
    if sum(map(sum, times.values())) < _SLOW_UPDATES_MICROSECONDS:
        times = seat.ask("updates", first=_FIRST_UPDATES, count=_UPDATES)
    return {
        f"{name}_p{percent}_us": percentile(taken, percent)
        for name, taken in times.items()
        for percent in (50, 99)
        if taken
    }
