"""Which rows of an Arrow record batch may be known: one function, for any engine.

What it finds are candidates. The index may be older than a withdrawal, so only the
node's answer to a lookup makes a match of a candidate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa
from pyarrow import compute

from hashlight_protocol import BadSignalError

from .cells import signal_of
from .local_index import PDQ
from .requests import HASH_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .cells import ScanColumn
    from .local_index import LocalIndex


_HEX_DIGITS: Final = 2 * HASH_BYTES

SCHEMA: Final = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("column", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("value", pa.string()),
        pa.field("fault", pa.string()),
    ]
)
"""Of what `scan_batch` gives: a candidate has a `value`, any other cell a `fault`."""


def scan_batch(
    batch: pa.RecordBatch,
    index: LocalIndex,
    columns: Sequence[ScanColumn],
    *,
    max_distance: int,
    first_row: int = 0,
    id_column: str | None = None,
) -> pa.RecordBatch:
    """Find the cells that may be known, and those that cannot be looked up.

    Args:
        batch: Rows; other columns do not matter.
        index: What is live.
        columns: What is looked up: text, or bytes of hashes; nulls are passed over.
        max_distance: Where PDQ matches end.
        first_row: Number of the first row.
        id_column: A column to copy as `id`, if any.

    Returns:
        `SCHEMA`, with `id` behind it if asked for; by row, then by column.

    Raises:
        KeyError: There is no such column.
    """
    found: list[tuple[int, int, str | None, str | None]] = []
    for place, column in enumerate(columns):
        array = batch.column(column.name)
        scan = _scan_pdq if column.type == PDQ else _scan_cells
        for row, value, fault in scan(array, index, column, max_distance):
            found.append((row, place, value, fault))
    found.sort(key=lambda it: it[:2])
    rows = [it[0] for it in found]
    arrays = [
        pa.array([row + first_row for row in rows], pa.int64()),
        pa.array([columns[it[1]].name for it in found], pa.string()),
        pa.array([columns[it[1]].type for it in found], pa.string()),
        pa.array([it[2] for it in found], pa.string()),
        pa.array([it[3] for it in found], pa.string()),
    ]
    schema = SCHEMA
    if id_column is not None:
        ids = batch.column(id_column).take(pa.array(rows, pa.int64()))
        arrays.append(ids)
        schema = schema.append(pa.field("id", ids.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _scan_pdq(
    array: pa.Array, index: LocalIndex, column: ScanColumn, max_distance: int
) -> Iterator[tuple[int, str | None, str | None]]:
    places, hashes = _whole_column(array)
    if hashes is None:
        places, parts = [], []
        for row, cell in enumerate(array.to_pylist()):
            if cell is None:
                continue
            try:
                parts.append(bytes.fromhex(signal_of(column.type, cell).value))
            except BadSignalError as error:
                yield row, None, error.reason
            else:
                places.append(row)
        hashes = b"".join(parts)
    may_match = index.may_match_hashes(hashes, max_distance)
    for number, (row, may) in enumerate(zip(places, may_match, strict=True)):
        if may:
            start = number * HASH_BYTES
            yield row, hashes[start : start + HASH_BYTES].hex(), None


def _whole_column(array: pa.Array) -> tuple[Sequence[int], bytes | None]:
    """Read a column without a Python object for each cell, if every cell is regular."""
    if array.null_count:
        return (), None
    kind = array.type
    rows = range(len(array))
    if pa.types.is_fixed_size_binary(kind) and kind.byte_width == HASH_BYTES:
        return rows, b"".join(array.to_pylist()) if array.offset else _bytes_of(array)
    text = _hex_of(array)
    return ((), None) if text is None else (rows, text)


def _hex_of(array: pa.Array) -> bytes | None:
    kind = array.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return None
    lengths = compute.binary_length(array)
    if not compute.all(compute.equal(lengths, _HEX_DIGITS)).as_py():
        return None
    text = "".join(array.to_pylist())
    # `fromhex` passes over blanks, which would shift every hash behind them.
    if not (text.isascii() and text.isalnum()):
        return None
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


def _bytes_of(array: pa.Array) -> bytes:
    data = array.buffers()[1]
    return b"" if data is None else data.to_pybytes()[: len(array) * HASH_BYTES]


def _scan_cells(
    array: pa.Array, index: LocalIndex, column: ScanColumn, max_distance: int
) -> Iterator[tuple[int, str | None, str | None]]:
    for row, cell in enumerate(array.to_pylist()):
        if cell is None:
            continue
        try:
            signal = signal_of(column.type, cell)
        except BadSignalError as error:
            yield row, None, error.reason
            continue
        if index.may_match(signal, max_distance):
            yield row, signal.value, None
