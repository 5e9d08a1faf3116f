"""What was measured: one JSON object a line, on disk as soon as it is known.

A run that is interrupted keeps what it has, and a later run of one section adds to
it; where two lines measure the same thing, the later one counts.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

Row: TypeAlias = "dict[str, Any]"

_KEYS: Final = (
    *("section", "what", "distribution", "size"),
    *("contender", "kind", "way", "store"),
)


class Results:
    """A file of results.

    Attributes:
        file: Where; its folder is made.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)

    def add(self, section: str, row: Mapping[str, object]) -> None:
        """Write one result down."""
        with self.file.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"section": section, **row}) + "\n")
            out.flush()
            os.fsync(out.fileno())

    def begin_anew(self) -> None:
        """Start with no results; those of the run before stay beside the file."""
        if self.file.exists():
            self.file.replace(self.file.with_suffix(".previous.jsonl"))

    def keep(self, file: Path) -> None:
        """Write the newest result of each thing measured to another file."""
        lines = [json.dumps(row, ensure_ascii=False) for row in self.read()]
        file.write_text("\n".join(lines) + "\n", "utf-8")

    def read(self) -> list[Row]:
        """Give the newest result of each thing measured, in the order of the file."""
        if not self.file.exists():
            return []
        newest: dict[tuple[object, ...], Row] = {}
        for line in self.file.read_text("utf-8").splitlines():
            try:
                row: Row = json.loads(line)
            except ValueError:
                continue  # the line that an interrupted run was writing
            newest[tuple(row.get(key) for key in _KEYS)] = row
        return list(newest.values())


def chosen(rows: Iterable[Row], **wanted: object) -> list[Row]:
    """Give the rows that have these values."""
    return [
        row
        for row in rows
        if all(row.get(key) == value for key, value in wanted.items())
    ]


def value(rows: Iterable[Row], name: str, **wanted: object) -> float | None:
    """Give one figure of the one row that has these values; None if there is none."""
    for row in chosen(rows, **wanted):
        figure = row.get(name)
        return None if figure is None else float(figure)
    return None
