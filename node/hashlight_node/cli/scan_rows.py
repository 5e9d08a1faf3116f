"""Reads what a platform has stored, block by block: CSV, NDJSON or Parquet.

Rows are counted from 1, a CSV's header not among them.
"""

from __future__ import annotations

import csv
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol

import orjson

from hashlight_node.cli.exporting import PARQUET_MISSING
from hashlight_node.cli.session import CommandError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Any

MAX_LINE_BYTES = 16_777_216
"""Of a line of NDJSON; a longer one is rejected."""


class Row(NamedTuple):
    """A row of the file.

    Attributes:
        number: Counted from 1.
        cells: One for each column that was asked for; None where there is nothing.
        fault: Why the row cannot be read; empty if it can.
    """

    number: int
    cells: Sequence[Any]
    fault: str = ""


class Source(Protocol):
    """A file of rows."""

    @property
    def names(self) -> Sequence[str] | None:
        """The columns, None if only the rows themselves tell."""

    def count(self, lines: int) -> int:
        """Tell about how many rows there are.

        Args:
            lines: Line ends in the file.
        """

    def rows(self, names: Sequence[str], *, after: int) -> Iterator[Row]:
        """Read some columns of all rows behind the first `after` ones."""


def open_source(path: Path) -> Source:
    """Look at a file; its ending says which form it has.

    Raises:
        UsageError: Another ending, or a CSV without a header.
        CommandError: It is Parquet, and pyarrow is not installed.
        OSError: It cannot be read.
    """
    match path.suffix.lower():
        case ".csv":
            return CsvSource(path)
        case ".ndjson" | ".jsonl":
            return NdjsonSource(path)
        case ".parquet":
            return ParquetSource(path)
        case _:
            message = f"{path}: the name must end in .csv, .ndjson or .parquet"
            raise UsageError(message)


def blocks(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    """Cut rows into blocks."""
    while block := list(islice(rows, size)):
        yield block


class CsvSource:
    """CSV with a header."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as file:
            self._names = next(csv.reader(file), [])
        if not self._names:
            message = f"{path}: there is no header"
            raise UsageError(message)

    @property
    def names(self) -> Sequence[str]:
        """The columns."""
        return self._names

    def count(self, lines: int) -> int:
        """Tell about how many rows there are; a cell may hold line ends."""
        return max(0, lines - 1)

    def rows(self, names: Sequence[str], *, after: int) -> Iterator[Row]:
        """Read some columns of all rows behind the first `after` ones."""
        places = [self._names.index(name) for name in names]
        with self._open() as file:
            lines = csv.reader(file)
            next(lines)
            number = 0
            while True:
                number += 1
                try:
                    cells = next(lines)
                except StopIteration:
                    return
                except csv.Error as error:
                    cells, fault = [], f"not CSV: {error}"
                else:
                    fault = self._fault(cells)
                if number > after:
                    yield _csv_row(number, cells, places, fault)

    def _fault(self, cells: Sequence[str]) -> str:
        if len(cells) in {0, len(self._names)}:
            return ""
        return f"{len(cells)} cells under {len(self._names)} columns"

    def _open(self) -> Any:  # noqa: ANN401 -- a text file
        # Bytes that are no UTF-8 spoil their own value and nothing else.
        return self._path.open(
            encoding="utf-8-sig", errors="surrogateescape", newline=""
        )


def _csv_row(
    number: int, cells: Sequence[str], places: Sequence[int], fault: str
) -> Row:
    if fault or not cells:
        return Row(number, [None] * len(places), fault)
    return Row(number, [cells[place] or None for place in places])


class NdjsonSource:
    """A JSON object a line."""

    names = None

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb"):
            pass  # Missing files are told of now.

    def count(self, lines: int) -> int:
        """Tell about how many rows there are."""
        return lines

    def rows(self, names: Sequence[str], *, after: int) -> Iterator[Row]:
        """Read some members of all rows behind the first `after` ones."""
        with self._path.open("rb") as file:
            for number, line in enumerate(_lines(file), 1):
                if number > after:
                    yield _ndjson_row(number, line, names)


def _lines(file: Any) -> Iterator[bytes | None]:  # noqa: ANN401 -- a binary file
    """Read lines; of one that is too long, None."""
    while line := file.readline(MAX_LINE_BYTES):
        if line.endswith(b"\n") or len(line) < MAX_LINE_BYTES:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE_BYTES)
        yield None


def _ndjson_row(number: int, line: bytes | None, names: Sequence[str]) -> Row:
    nothing: list[Any] = [None] * len(names)
    if line is None:
        return Row(number, nothing, "the line is too long")
    if not line.strip():
        return Row(number, nothing)
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return Row(number, nothing, "not JSON")
    if not isinstance(value, dict):
        return Row(number, nothing, "not a JSON object")
    return Row(number, [value.get(name) for name in names])


class ParquetSource:
    """Columns of a Parquet file."""

    def __init__(self, path: Path) -> None:
        try:
            from pyarrow import lib, parquet
        except ImportError:
            raise CommandError(PARQUET_MISSING) from None
        self._parquet = parquet
        self._path = path
        try:
            with parquet.ParquetFile(path) as file:
                self._names: list[str] = file.schema_arrow.names
                groups = range(file.num_row_groups)
                self._groups = [file.metadata.row_group(it).num_rows for it in groups]
        except lib.ArrowInvalid as error:
            message = f"{path}: it is no Parquet file"
            raise CommandError(message) from error

    @staticmethod
    def verify_installed() -> None:
        """Tell whether Parquet can be read at all.

        Raises:
            CommandError: pyarrow is not installed.
        """
        try:
            from pyarrow import parquet  # noqa: F401
        except ImportError:
            raise CommandError(PARQUET_MISSING) from None

    @property
    def names(self) -> Sequence[str]:
        """The columns."""
        return self._names

    def count(self, lines: int) -> int:
        """Tell how many rows there are."""
        del lines
        return sum(self._groups)

    def rows(self, names: Sequence[str], *, after: int) -> Iterator[Row]:
        """Read some columns of all rows behind the first `after` ones."""
        first, skipped = 0, 0
        while first < len(self._groups) and skipped + self._groups[first] <= after:
            skipped += self._groups[first]
            first += 1
        columns = list(dict.fromkeys(names))
        with closing(self._parquet.ParquetFile(self._path)) as file:
            batches = file.iter_batches(
                row_groups=range(first, len(self._groups)), columns=columns
            )
            number = skipped
            for batch in batches:
                lists = [batch.column(name).to_pylist() for name in names]
                for cells in zip(*lists, strict=True):
                    number += 1
                    if number > after:
                        yield Row(number, cells)
