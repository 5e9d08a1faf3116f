"""`hashlight export`: everything that is live into one file, whole or not at all."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing, contextmanager
from pathlib import Path
from tempfile import mkstemp
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from hashlight_node.cli.session import (
    DEFAULT_CONFIG,
    CommandError,
    ConfigOption,
    JsonOption,
    UsageError,
    emit,
    open_session,
    reported,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from io import BufferedWriter
    from typing import Any

    from rich.console import Console

    from hashlight_client import ExportedSignal
    from hashlight_node.local_client import LocalClient

PARQUET_MISSING = (
    "Parquet needs pyarrow, which is not installed; it comes with "
    "`pip install hashlight[parquet]`"
)
_ROWS_A_GROUP = 65_536


class Writer(Protocol):
    """Takes the lines of an export."""

    def write(self, lines: Sequence[bytes]) -> None:
        """Write some lines."""

    def close(self) -> None:
        """Write what is left."""


def export_file(
    file: Annotated[Path, typer.Argument(help=".ndjson or .parquet")],
    signal_type: Annotated[
        str | None, typer.Option("--type", help="Only signals of this type.")
    ] = None,
    list_name: Annotated[
        str | None, typer.Option("--list", help="Only records of LIST or NODE/LIST.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Write every live signal with its records to a file."""
    with reported(as_json=as_json):
        from hashlight_node.cli.calling import translated

        open_writer = _writer_for(file)
        client = open_session(config).client
        counted = _count_live(client, signal_type)
        try:
            with _replacing(file) as target, translated(client):
                writer = open_writer(target)
                work = _export(
                    client, writer, (signal_type, list_name), counted, quiet=as_json
                )
                lines = asyncio.run(work)
        except OSError as error:
            message = f"{file}: {error.strerror}"
            raise CommandError(message) from error

        def render(out: Console) -> None:
            out.print(f"exported {lines:,} signals to {file}", soft_wrap=True)

        emit({"signals": lines, "file": str(file)}, as_json=as_json, render=render)


async def _export(
    client: LocalClient,
    writer: Writer,
    wanted: tuple[str | None, str | None],
    counted: int,
    *,
    quiet: bool,
) -> int:
    from hashlight_node.cli.calling import open_client
    from hashlight_node.cli.progress import Progress

    lines = 0
    async with open_client(client, patience_seconds=0) as node:
        exported = node.export_lines(signal_type=wanted[0], list_name=wanted[1])
        with Progress("exporting", counted, quiet=quiet) as progress:
            async with aclosing(exported):
                async for some in exported:
                    writer.write(some)
                    lines += len(some)
                    progress.show(lines)
    writer.close()
    return lines


def _count_live(client: LocalClient, signal_type: str | None) -> int:
    """Tell about how many lines will come."""
    counts = client.get("/v1/status")["signals"]
    assert isinstance(counts, dict)  # noqa: S101 -- as the node's document says
    if signal_type is not None:
        return int(counts.get(signal_type, 0))
    return sum(map(int, counts.values()))


@contextmanager
def _replacing(file: Path) -> Iterator[BufferedWriter]:
    """Write a file under another name, and give it its own once it is whole."""
    # It holds what others entrusted to us: for its owner only, as this makes it.
    descriptor, name = mkstemp(".tmp", f"{file.name}.", file.parent)
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        fresh.replace(file)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _writer_for(file: Path) -> Callable[[BufferedWriter], Writer]:
    match file.suffix.lower():
        case ".ndjson" | ".jsonl":
            return NdjsonWriter
        case ".parquet":
            try:
                import pyarrow.parquet  # noqa: F401 -- better now than after an hour
            except ImportError:
                raise CommandError(PARQUET_MISSING) from None
            return ParquetWriter
        case _:
            message = f"{file}: the name must end in .ndjson or .parquet"
            raise UsageError(message)


class NdjsonWriter:
    """Lines as the node sent them."""

    def __init__(self, target: BufferedWriter) -> None:
        self._target = target

    def write(self, lines: Sequence[bytes]) -> None:
        """Write some lines."""
        self._target.writelines(line + b"\n" for line in lines)

    def close(self) -> None:
        """Do nothing: all is written."""


class ParquetWriter:
    """One row for each record of each signal, in groups, so that memory is bounded.

    Flat, because tables are joined and counted by rows; `labels` is the only nested
    column, each as `scheme:value`.
    """

    def __init__(self, target: BufferedWriter) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        text, number, instant = pa.string(), pa.int64(), pa.timestamp("s", tz="UTC")
        self._schema = pa.schema(
            [
                pa.field("type", text, nullable=False),
                pa.field("value", text, nullable=False),
                pa.field("ref", text, nullable=False),
                pa.field("list", text, nullable=False),
                pa.field("origin_node", text, nullable=False),
                pa.field("tree_size", number, nullable=False),
                pa.field("labels", pa.list_(text), nullable=False),
                pa.field("source", text, nullable=False),
                pa.field("review", text, nullable=False),
                pa.field("created", instant),
                pa.field("expires", instant),
                pa.field("quality", pa.int16()),
            ]
        )
        self._writer = parquet.ParquetWriter(target, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def write(self, lines: Sequence[bytes]) -> None:
        """Write some lines."""
        from hashlight_client.decoding import decode_export

        for line in lines:
            self._rows += _rows_of(decode_export(line))
            if len(self._rows) >= _ROWS_A_GROUP:
                self._write_group()

    def close(self) -> None:
        """Write the last group and the end of the file."""
        if self._rows:
            self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []


def _rows_of(exported: ExportedSignal) -> Iterator[dict[str, Any]]:
    signal = exported.signal
    for record in exported.records:
        yield {
            "type": signal.type,
            "value": signal.value,
            "ref": record.ref,
            "list": record.list,
            "origin_node": record.origin_node,
            "tree_size": record.tree_size,
            "labels": [f"{label.scheme}:{label.value}" for label in record.labels],
            "source": record.source,
            "review": record.review,
            "created": record.created_at,
            "expires": record.expires_at,
            "quality": record.quality,
        }


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("export")(export_file)
