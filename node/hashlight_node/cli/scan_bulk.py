"""`hashlight scan --engine`: a back catalogue by row groups, confirmed at the end.

Workers search a snapshot, so what they find are candidates. Only what the node itself
still says when all is searched becomes a match: a signal that was withdrawn meanwhile
is in no output.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from hashlight_client import AsyncClient, Signal
from hashlight_client.row_groups import Query
from hashlight_client.taking import Snapshot, died_after, newest, take_snapshot
from hashlight_node.cli.progress import Progress
from hashlight_node.cli.scan_engines import DaskEngine, LocalEngine
from hashlight_node.cli.scan_parts import Made, Parts, plan_digest, private
from hashlight_node.cli.scan_queries import line_of
from hashlight_node.cli.session import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from hashlight_client.row_groups import RowGroup
    from hashlight_node.cli.scan_engines import Engine
    from hashlight_node.local_client import Json

_ROUNDS: Final = 5
"""How often all is confirmed again because something died while it was confirmed."""

_TOGETHER: Final = 1000
"""Candidates that are confirmed in one request."""


@dataclass(frozen=True, slots=True)
class Where:
    """Where a scan works.

    Attributes:
        scheduler: Of a Dask cluster; None for processes of this machine.
        processes: How many of this machine; None for one each processor.
    """

    scheduler: str | None
    processes: int | None

    def engine(self, snapshot: Snapshot) -> Engine:
        """Make the engine."""
        if self.scheduler is not None:
            return DaskEngine(snapshot, self.scheduler)
        count = self.processes or len(os.sched_getaffinity(0))
        return LocalEngine(snapshot, count)


@dataclass(slots=True)
class _Confirmed:
    """What the node said of the candidates.

    Attributes:
        handlings: How many matched, by what is to be done.
        withdrawn: Candidates that the node did not confirm.
        rejected: Cells that could not be looked up.
    """

    handlings: Counter[str] = field(default_factory=Counter)
    withdrawn: int = 0
    rejected: int = 0


class BulkScan:
    """One scan by row groups.

    Args:
        groups: What is scanned.
        query: For what; its distance is narrowed to the node's threshold.
        max_distance: Where matches are to end; None for where the node ends them.
        output: Where matches go; parts and rejects are beside it.
        open_node: Opens a client of the node.
    """

    def __init__(
        self,
        groups: Sequence[RowGroup],
        query: Query,
        output: Path,
        open_node: Callable[[], AsyncClient],
        *,
        max_distance: int | None,
    ) -> None:
        self._groups = groups
        self._query = query
        self._output = output
        self._rejects = output.with_name(output.name + ".rejects")
        self._parts = Parts(output.with_name(output.name + ".parts"))
        self._open_node = open_node
        self._max_distance = max_distance

    def run(self, where: Where, *, restart: bool, quiet: bool) -> Json:
        """Search what is left, confirm everything, write the output.

        Raises:
            CommandError: Row groups cannot be read (all others are in the output), or
                workers or scheduler are gone.
            HashlightError: The node does not answer, or refuses.
        """
        digest = plan_digest(self._groups, self._query)
        with self._parts.held(digest, restart=restart):
            as_of = int(time.time())
            snapshot = asyncio.run(self._take())
            asked = self._query.max_distance
            distance = max(0, min(asked, snapshot.pdq_threshold))
            made = dict(self._parts.done(len(self._groups), distance))
            resumed = len(made)
            now = Made(snapshot.name, as_of, distance)
            faults = self._search(where, snapshot, now, made, quiet=quiet)
            confirmed, confirmed_at = asyncio.run(self._confirm(sorted(made)))
            answer = self._answer(made, confirmed, resumed)
            answer["confirmed_at"] = _text(confirmed_at)
        if faults:
            groups = [self._groups[number] for number in sorted(faults)]
            first = faults[min(faults)]
            message = (
                f"{len(faults)} row groups cannot be read, the first is number "
                f"{groups[0].number} of {groups[0].path}: {first}; matches in the "
                f"{len(made)} others are in {self._output}"
            )
            raise CommandError(message)
        return answer

    async def _take(self) -> Snapshot:
        async with self._open_node() as node:
            return await take_snapshot(node)

    def _search(
        self,
        where: Where,
        snapshot: Snapshot,
        now: Made,
        made: dict[int, Made],
        *,
        quiet: bool,
    ) -> Mapping[int, str]:
        left = {at: it for at, it in enumerate(self._groups) if at not in made}
        faults: dict[int, str] = {}
        if not left:
            return faults
        query = Query(self._query.columns, self._query.id_column, now.max_distance)
        total = sum(it.rows for it in self._groups)
        rows = total - sum(it.rows for it in left.values())
        found_by = where.engine(snapshot).run(left, query)
        with Progress("scanning", total, done=rows, quiet=quiet) as bar:
            for number, found in found_by:
                if isinstance(found, str):
                    faults[number] = found
                else:
                    self._parts.write(number, found, now)
                    made[number] = now
                rows += left[number].rows
                bar.show(rows)
        return faults

    async def _confirm(self, numbers: Sequence[int]) -> tuple[_Confirmed, int]:
        """Ask the node about every candidate, until nothing dies meanwhile."""
        async with self._open_node() as node:
            for _ in range(_ROUNDS):
                started = int(time.time())
                before = await newest(node)
                confirmed = await self._write(node, numbers)
                if not await died_after(node, before.id):
                    break
            else:
                message = (
                    "signals are withdrawn faster than matches can be confirmed; the "
                    "search is kept, run the same command again later"
                )
                raise CommandError(message)
        for path in (self._output, self._rejects):
            _draft(path).replace(path)
        return confirmed, started

    async def _write(self, node: AsyncClient, numbers: Sequence[int]) -> _Confirmed:
        confirmed = _Confirmed()
        with (
            private(_draft(self._output)) as matches,
            private(_draft(self._rejects)) as rejects,
        ):
            for number in numbers:
                for rows in self._candidates(number):
                    for row in rows:
                        if row["fault"] is not None:
                            rejects.write(self._line(number, row, reason=row["fault"]))
                            confirmed.rejected += 1
                    some = [it for it in rows if it["fault"] is None]
                    for row, said in await self._ask(node, some):
                        if not said["matches"] and not said["truncated"]:
                            confirmed.withdrawn += 1
                            continue
                        names = ("handling", "matches", "truncated")
                        told = {name: said[name] for name in names}
                        matches.write(self._line(number, row, **told))
                        confirmed.handlings[said["handling"]] += 1
            for file in (matches, rejects):
                file.flush()
                os.fsync(file.fileno())
        return confirmed

    def _candidates(self, number: int) -> Iterator[list[dict[str, Any]]]:
        part = self._parts.read(number)
        if part is None:
            message = f"{self._parts.path(number)} is damaged; run the command again"
            raise CommandError(message)
        for batch in part[0].to_batches(_TOGETHER):
            yield batch.to_pylist()

    async def _ask(
        self, node: AsyncClient, rows: Sequence[dict[str, Any]]
    ) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        if not rows:
            return []
        results = await node.lookup_json(
            [Signal(it["type"], it["value"]) for it in rows],
            max_distance=self._max_distance,
            purpose="scan",
        )
        return list(zip(rows, results, strict=True))

    def _line(self, number: int, row: Mapping[str, Any], **said: object) -> bytes:
        line: dict[str, Any] = {"file": self._groups[number].path, "row": row["row"]}
        if "id" in row:
            line["id"] = row["id"]
        return line_of({**line, "column": row["column"], **said})

    def _answer(
        self, made: Mapping[int, Made], confirmed: _Confirmed, resumed: int
    ) -> Json:
        parts = made.values()
        return {
            "rows": sum(self._groups[number].rows for number in made),
            "matches": confirmed.handlings.total(),
            "handlings": dict(sorted(confirmed.handlings.items())),
            "rejected": confirmed.rejected,
            "withdrawn": confirmed.withdrawn,
            "row_groups": len(made),
            "row_groups_of_earlier_runs": resumed,
            "snapshots": len({it.snapshot for it in parts}),
            "as_of": _text(min((it.as_of for it in parts), default=0)),
            "output": str(self._output),
            "rejects_file": str(self._rejects),
        }


def _draft(path: Path) -> Path:
    return path.with_name(path.name + ".new")


def _text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
