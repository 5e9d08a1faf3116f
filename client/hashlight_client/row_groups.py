"""A row group of a Parquet file as the unit of a scan, and the index of a worker."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa
from pyarrow import parquet

from .record_batches import scan_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .cells import ScanColumn
    from .local_index import LocalIndex
    from .taking import Snapshot

_BATCH_ROWS: Final = 65_536
"""Rows in memory at the same time, whatever the size of a row group."""


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A part of what is scanned.

    Attributes:
        path: The file, as every worker sees it.
        file_bytes: How long the file was when the scan was planned.
        number: Place of the group in the file, from 0.
        first_row: Its first row in the file, from 1.
        rows: How many it has.
    """

    path: str
    file_bytes: int
    number: int
    first_row: int
    rows: int


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked about every row group of a scan.

    Attributes:
        columns: What is looked up.
        id_column: What is copied to the output, if anything.
        max_distance: Where PDQ matches end.
    """

    columns: Sequence[ScanColumn]
    id_column: str | None
    max_distance: int


class UnreadableGroupError(Exception):
    """A row group is damaged, or its file is gone or another one now."""


def scan_row_group(group: RowGroup, index: LocalIndex, query: Query) -> pa.Table:
    """Read a row group and scan it, batch by batch.

    Raises:
        UnreadableGroupError: It cannot be read; the message holds no cell.
    """
    names = [it.name for it in query.columns]
    if query.id_column is not None:
        names.append(query.id_column)
    try:
        if Path(group.path).stat().st_size != group.file_bytes:
            message = "the file is not the one that the scan was planned with"
            raise UnreadableGroupError(message)
        with parquet.ParquetFile(
            group.path, page_checksum_verification=True, pre_buffer=False
        ) as file:
            batches = file.iter_batches(
                _BATCH_ROWS,
                row_groups=[group.number],
                columns=list(dict.fromkeys(names)),
                use_threads=False,
            )
            found, row = [], group.first_row
            for batch in batches:
                found.append(
                    scan_batch(
                        batch,
                        index,
                        query.columns,
                        max_distance=query.max_distance,
                        first_row=row,
                        id_column=query.id_column,
                    )
                )
                row += batch.num_rows
    except (OSError, pa.ArrowException) as error:
        message = f"it cannot be read ({type(error).__name__})"
        raise UnreadableGroupError(message) from error
    if row != group.first_row + group.rows:
        message = "it has another number of rows than its file said"
        raise UnreadableGroupError(message)
    return pa.Table.from_batches(found)


_loading = threading.Lock()
_loaded: dict[str, LocalIndex] = {}


def index_of(snapshot: Snapshot) -> LocalIndex:
    """Give this process's one index of a snapshot; its threads share it.

    Only the newest is kept, so a worker that lives long holds one index.
    """
    with _loading:
        index = _loaded.get(snapshot.name)
        if index is None:
            for old in _loaded.values():
                old.close()
            _loaded.clear()
            index = _loaded[snapshot.name] = snapshot.index()
        return index


def scan_with(snapshot: Snapshot, group: RowGroup, query: Query) -> pa.Table | str:
    """Scan a row group where the snapshot was brought; the work of one task.

    Returns:
        What `scan_row_group` gives, or why the group cannot be read: engines try again
        what raises, and a damaged file stays damaged.
    """
    try:
        return scan_row_group(group, index_of(snapshot), query)
    except UnreadableGroupError as error:
        return str(error)


def forget_index() -> None:
    """Drop what `index_of` keeps, so that erased values leave this process."""
    with _loading:
        for index in _loaded.values():
            index.close()
        _loaded.clear()
