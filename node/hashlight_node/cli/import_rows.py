"""Reads a file of signals into record bodies, row by row, with a reason for rejects.

CSV with a header (any subset and order of the columns below; several signals in a
row are one record), or NDJSON with one record body a line.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from hashlight_node.cli.session import UsageError
from hashlight_node.store.bodies import read_value
from hashlight_node.store.meanings import require_meaning
from hashlight_protocol import MAX_BODY_BYTES, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hashlight_node.local_client import Json

SIGNAL_COLUMNS = ("pdq", "md5", "sha1", "sha256")
COLUMNS = (
    *SIGNAL_COLUMNS,
    "quality",
    "label",
    "source",
    "review",
    "created",
    "expires",
)
_LABEL_SEPARATOR = ";"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the file.

    Attributes:
        number: Counted from 1, without the header.
        text: The row as it stood in the file, for the rejects.
        record: The record it asks for, or None if it is rejected.
        reason: Why it is rejected; empty if it is not.
    """

    number: int
    text: str
    record: Json | None
    reason: str


def read_rows(path: Path, *, created: str) -> Iterator[Row]:
    """Read all rows of a `.csv` or `.ndjson` file.

    Args:
        path: The file; its ending says which form it has.
        created: RFC 3339 time for rows that name none.

    Raises:
        UsageError: Another ending, or a CSV header that is missing or unknown.
    """
    match path.suffix.lower():
        case ".csv":
            return _csv_rows(path, created)
        case ".ndjson" | ".jsonl":
            return _ndjson_rows(path)
        case _:
            message = f"{path}: the name must end in .csv or .ndjson"
            raise UsageError(message)


def rejects_header(path: Path) -> str:
    """Give the first line of the rejects file for an import of `path`."""
    return "row,reason,text\n" if path.suffix.lower() == ".csv" else ""


def _csv_rows(path: Path, created: str) -> Iterator[Row]:
    # Bytes that are no UTF-8 become surrogates, which make that row's value
    # invalid, instead of ending the whole file.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = csv.reader(file, strict=True)
        header = _header_of(path, lines)
        number = 0
        while True:
            number += 1
            try:
                cells = next(lines)
            except StopIteration:
                return
            except csv.Error as error:
                yield Row(number, "", None, f"not CSV: {error}")
                continue
            if cells:
                yield _csv_row(number, header, cells, created)


def _header_of(path: Path, lines: Iterator[list[str]]) -> list[str]:
    header = [name.strip().lower() for name in next(lines, [])]
    unknown = sorted(set(header) - set(COLUMNS))
    if unknown or not set(header) & set(SIGNAL_COLUMNS):
        named = f"unknown column {unknown[0]!r}" if unknown else "no signal column"
        message = f"{path}: {named}; columns are {','.join(COLUMNS)}"
        raise UsageError(message)
    if len(set(header)) != len(header):
        message = f"{path}: a column is named twice"
        raise UsageError(message)
    return header


def _csv_row(number: int, header: list[str], cells: list[str], created: str) -> Row:
    text = ",".join(cells)
    if len(cells) != len(header):
        reason = f"{len(cells)} cells under {len(header)} columns"
        return Row(number, text, None, reason)
    pairs = zip(header, cells, strict=True)
    filled = {name: cell.strip() for name, cell in pairs if cell.strip()}
    try:
        record = _record_of(filled, created)
    except ValueError as error:
        return Row(number, text, None, str(error))
    return _checked(number, text, record)


def _record_of(cells: Mapping[str, str], created: str) -> Json:
    signals = [
        {"type": name, "value": cells[name].lower()}
        for name in SIGNAL_COLUMNS
        if name in cells
    ]
    record: Json = {
        "type": "indicator",
        "kind": "image",
        "signals": [_with_quality(signal, cells) for signal in signals],
        "labels": [
            _label(text)
            for text in cells.get("label", "").split(_LABEL_SEPARATOR)
            if text
        ],
        "source": cells.get("source", "platform"),
        "review": {"level": cells.get("review", "none")},
        "created": cells.get("created", created),
    }
    if "expires" in cells:
        record["expires"] = cells["expires"]
    return record


def _with_quality(signal: dict[str, str], cells: Mapping[str, str]) -> Json:
    if signal["type"] != "pdq" or "quality" not in cells:
        return {**signal}
    quality = cells["quality"]
    if not (quality.isascii() and quality.isdigit() and len(quality) <= len("100")):
        message = "quality is not a number from 0 to 100"
        raise ValueError(message)
    return {**signal, "quality": int(quality)}


def _label(text: str) -> Json:
    scheme, separator, value = text.strip().partition(":")
    if not separator:
        message = "a label is not SCHEME:VALUE"
        raise ValueError(message)
    return {"scheme": scheme, "value": value}


def _ndjson_rows(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        number = 0
        # A line longer than any record is cut in pieces, each too long to be one.
        while raw := file.readline(MAX_BODY_BYTES + 2):
            number += 1
            line = raw.rstrip(b"\r\n")
            if line:
                yield _ndjson_row(number, line)


def _ndjson_row(number: int, line: bytes) -> Row:
    text = line.decode(errors="backslashreplace")
    try:
        record = read_value(line)
    except ProtocolError as error:
        return Row(number, text, None, str(error))
    if not isinstance(record, dict):
        return Row(number, text, None, "not a JSON object")
    return _checked(number, text, {**record})


def _checked(number: int, text: str, record: Json) -> Row:
    try:
        require_meaning(orjson.dumps(record))
    except ProtocolError as error:
        return Row(number, text, None, str(error))
    except orjson.JSONEncodeError:
        return Row(number, text, None, "the text is not UTF-8")
    return Row(number, text, record, "")
