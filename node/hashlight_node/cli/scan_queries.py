"""From cells of a file to queries, and from answers back to rows."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from hashlight_client import Signal
from hashlight_client.cells import signal_of
from hashlight_protocol import BadSignalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hashlight_client import AsyncClient
    from hashlight_client.cells import ScanColumn
    from hashlight_node.cli.scan_rows import Row

PDQ = "pdq"
BLOCK_ROWS = 16_384
"""Rows that are looked up together and whose results are written together."""

_PURPOSE: Final = "scan"
"""What is stored already is no upload: a template that a platform has a thousand times
must not make the node distrust it, and a scan that is run again matches nothing new."""

_PDQ_BYTES = 32
_MAX_INTEGER: Final = 2**63 - 1
_QUERIES_A_REQUEST = 1000


@dataclass(slots=True)
class Outcome:
    """What came of a block.

    Attributes:
        rows: Rows that are done with it, from the beginning of the file.
        found: Lines of matches, in the order of rows and columns.
        rejects: Lines about cells that could not be looked up, in the same order.
        handlings: How many of `found` say what is to be done.
    """

    rows: int
    found: list[bytes] = field(default_factory=list)
    rejects: list[bytes] = field(default_factory=list)
    handlings: Counter[str] = field(default_factory=Counter)


class _Query(NamedTuple):
    row: int
    column: int
    value: bytes | Signal


@dataclass(slots=True)
class _Prepared:
    """Queries of a block: hashes for the bulk path, and all others."""

    hashes: list[_Query] = field(default_factory=list)
    others: list[_Query] = field(default_factory=list)
    rejects: list[bytes] = field(default_factory=list)


class Asking:
    """Looks up blocks of rows.

    Args:
        node: Who is asked.
        columns: What is looked up.
        id_column: Name of the column that identifies a row in the output, if any; its
            cell comes behind those of `columns`.
        max_distance: Where near matches end; None for the node's setting.
    """

    def __init__(
        self,
        node: AsyncClient,
        columns: Sequence[ScanColumn],
        *,
        id_column: str | None,
        max_distance: int | None,
    ) -> None:
        self._node = node
        self._columns = columns
        self._id_column = id_column
        self._max_distance = max_distance

    async def ask(self, rows: Sequence[Row]) -> Outcome:
        """Look up all cells of a block.

        Raises:
            HashlightError: The node does not answer, or refuses.
        """
        prepared = await asyncio.to_thread(self._prepare, rows)
        work = [self._ask_hashes(prepared.hashes)]
        for start in range(0, len(prepared.others), _QUERIES_A_REQUEST):
            some = prepared.others[start : start + _QUERIES_A_REQUEST]
            work.append(self._ask_others(some))
        tasks = [asyncio.create_task(it) for it in work]
        try:
            answers = chain.from_iterable(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
        return await asyncio.to_thread(self._outcome, rows, prepared, answers)

    def _prepare(self, rows: Sequence[Row]) -> _Prepared:
        prepared = _Prepared()
        for row in rows:
            if row.fault:
                prepared.rejects.append(_reject(row.number, None, row.fault))
                continue
            for place, column in enumerate(self._columns):
                cell = row.cells[place]
                if cell is None:
                    continue
                try:
                    value = _value_of(column.type, cell)
                except BadSignalError as error:
                    line = _reject(row.number, column.name, error.reason)
                    prepared.rejects.append(line)
                    continue
                query = _Query(row.number, place, value)
                is_hash = isinstance(value, bytes)
                (prepared.hashes if is_hash else prepared.others).append(query)
        return prepared

    async def _ask_hashes(self, queries: Sequence[_Query]) -> list[_Answer]:
        if not queries:
            return []
        hashes = b"".join(it.value for it in queries if isinstance(it.value, bytes))
        lines = await self._node.lookup_pdq_lines(
            hashes, max_distance=self._max_distance, purpose=_PURPOSE
        )
        answers = map(orjson.loads, lines)
        return [_Answer(queries[answer["index"]], answer) for answer in answers]

    async def _ask_others(self, queries: Sequence[_Query]) -> list[_Answer]:
        signals = [it.value for it in queries if isinstance(it.value, Signal)]
        results = await self._node.lookup_json(
            signals, max_distance=self._max_distance, purpose=_PURPOSE
        )
        return [
            _Answer(query, result)
            for query, result in zip(queries, results, strict=True)
            if result["matches"] or result["truncated"]
        ]

    def _outcome(
        self, rows: Sequence[Row], prepared: _Prepared, answers: Iterable[_Answer]
    ) -> Outcome:
        outcome = Outcome(rows[-1].number, rejects=prepared.rejects)
        first = rows[0].number
        for query, answer in sorted(answers, key=_place):
            line: dict[str, Any] = {"row": query.row}
            if self._id_column is not None:
                line["id"] = rows[query.row - first].cells[-1]
            line["column"] = self._columns[query.column].name
            for member in ("handling", "matches", "truncated"):
                line[member] = answer[member]
            outcome.found.append(line_of(line))
            outcome.handlings[answer["handling"]] += 1
        return outcome


class _Answer(NamedTuple):
    query: _Query
    result: dict[str, Any]


def _place(answer: _Answer) -> tuple[int, int]:
    return answer.query.row, answer.query.column


def _value_of(type_name: str, cell: object) -> bytes | Signal:
    """Read a cell.

    Raises:
        BadSignalError: It is no value of the type.
    """
    if type_name == PDQ and isinstance(cell, bytes) and len(cell) == _PDQ_BYTES:
        return cell
    signal = signal_of(type_name, cell)
    return bytes.fromhex(signal.value) if type_name == PDQ else signal


def _reject(row: int, column: str | None, reason: str) -> bytes:
    return line_of({"row": row, "column": column, "reason": reason})


def line_of(value: object) -> bytes:
    """Write a line of NDJSON, whatever a file had in it."""
    # A cell that identifies a row may be anything that Parquet knows.
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        plain = _plain(value)
        return orjson.dumps(plain, default=str, option=orjson.OPT_APPEND_NEWLINE)


def _plain(value: object) -> object:
    """Make of what JSON cannot hold the text that is nearest to it."""
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and abs(value) <= _MAX_INTEGER:
        return value
    # Bytes of a CSV that are no UTF-8 become what a reader of text would show.
    return str(value).encode(errors="surrogateescape").decode(errors="replace")
