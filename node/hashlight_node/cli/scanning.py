"""`hashlight scan`: which of a platform's stored hashes are known, resumable."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, assert_never

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
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from hashlight_client import AsyncClient
    from hashlight_client.cells import ScanColumn
    from hashlight_node.cli.progress import Progress
    from hashlight_node.cli.scan_files import ScanFiles
    from hashlight_node.cli.scan_queries import Asking, Outcome
    from hashlight_node.cli.scan_rows import Source
    from hashlight_node.local_client import Json, LocalClient

PATIENCE_SECONDS = 300.0
"""How long the node may be away in the middle of a scan."""

_FARTHEST = 256
"""Every PDQ hash is as near as this, so the node's threshold decides."""


class ScanEngine(StrEnum):
    """What searches row groups."""

    LOCAL = "local"
    DASK = "dask"


_BLOCKS_AHEAD = 3
"""Blocks that are asked about while an earlier one is written."""


def scan(
    file: Annotated[Path, typer.Argument(help=".csv with a header, .ndjson, .parquet")],
    output: Annotated[Path, typer.Option(help="Where matches go, as NDJSON.")],
    column: Annotated[
        list[str] | None,
        typer.Option(help="Column to look up: TYPE, or TYPE=NAME; repeatable."),
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", help="Column to copy into the output.")
    ] = None,
    max_distance: Annotated[
        int | None, typer.Option(help="Only PDQ matches at most this far.")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew, whatever is there.")
    ] = False,
    engine: Annotated[
        ScanEngine | None,
        typer.Option(help="Search Parquet by row groups in processes, or on Dask."),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Of the Dask cluster: tcp://HOST:PORT.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Of `--engine local`.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Look up every row of a file. Run it again to resume; rejects go to a file."""
    if engine is not None:
        with reported(as_json=as_json), _file_errors():
            _verify_engine(engine, scheduler, processes)
            answer = _scan_groups(
                file,
                output,
                column,
                id_column=id_column,
                max_distance=max_distance,
                where=(scheduler, processes),
                restart=restart,
                config=config,
                quiet=as_json,
            )
            emit(answer, as_json=as_json, render=lambda out: print_bulk(out, answer))
        return
    if (scheduler, processes) != (None, None):
        with reported(as_json=as_json):
            raise UsageError("--scheduler and --processes belong to an --engine")
    from hashlight_node.cli.calling import translated
    from hashlight_node.cli.scan_files import ScanFiles
    from hashlight_node.cli.scan_rows import open_source

    with reported(as_json=as_json), _file_errors():
        source = open_source(file)
        columns = _columns(column, source, file)
        names = [it.name for it in columns]
        if id_column is not None:
            _check_column(id_column, source, file)
            names.append(id_column)
        client = open_session(config).client
        digest, lines = _digest_and_lines(file)
        what = {
            "sha256": digest,
            "columns": [[_spelled(it.name), it.type] for it in columns],
            "id": None if id_column is None else _spelled(id_column),
            "max_distance": max_distance,
        }
        with (
            ScanFiles(output, file, what, restart=restart) as files,
            translated(client),
        ):
            work = _Scan(source, columns, names, files, source.count(lines))
            asyncio.run(work.run(client, id_column, max_distance, quiet=as_json))
            answer = _totals(files)

        def render(out: Console) -> None:
            print_totals(out, answer)

        emit(answer, as_json=as_json, render=render)


def _verify_engine(
    engine: ScanEngine, scheduler: str | None, processes: int | None
) -> None:
    match engine:
        case ScanEngine.LOCAL:
            if scheduler is not None:
                raise UsageError("--scheduler belongs to --engine dask")
        case ScanEngine.DASK:
            if scheduler is None or processes is not None:
                message = "--engine dask takes --scheduler tcp://HOST:PORT alone"
                raise UsageError(message)
        case _:
            assert_never(engine)


def _scan_groups(
    source: Path,
    output: Path,
    asked: Sequence[str] | None,
    *,
    id_column: str | None,
    max_distance: int | None,
    where: tuple[str | None, int | None],
    restart: bool,
    config: Path,
    quiet: bool,
) -> Json:
    """Scan by row groups; see `scan_bulk`."""
    from hashlight_node.cli.calling import open_client, translated
    from hashlight_node.cli.scan_files import verify_apart, verify_ours
    from hashlight_node.cli.scan_rows import ParquetSource

    if not source.exists():
        message = f"{source}: No such file or directory"
        raise CommandError(message)
    ParquetSource.verify_installed()
    from hashlight_client.row_groups import Query
    from hashlight_node.cli.scan_bulk import BulkScan, Where
    from hashlight_node.cli.scan_parts import plan_groups

    groups = plan_groups(source)
    files = [Path(it) for it in dict.fromkeys(group.path for group in groups)]
    columns: list[ScanColumn] = []
    for file in files:
        opened = ParquetSource(file)
        columns = columns or _columns(asked, opened, file)
        for name in (*(it.name for it in columns), *filter(None, (id_column,))):
            _check_column(name, opened, file)
        verify_apart(file, output)
    verify_ours(output, restart=restart)
    client = open_session(config).client
    distance = _FARTHEST if max_distance is None else max_distance
    query = Query(columns, id_column, distance)

    def open_node() -> AsyncClient:
        return open_client(client, patience_seconds=PATIENCE_SECONDS)

    with translated(client):
        work = BulkScan(groups, query, output, open_node, max_distance=max_distance)
        return work.run(Where(*where), restart=restart, quiet=quiet)


def print_bulk(out: Console, answer: Json) -> None:
    """Print what a scan by row groups found."""
    print_totals(out, answer)
    out.print(f"live at {answer['as_of']}, confirmed at {answer['confirmed_at']}")
    if answer["withdrawn"]:
        out.print(f"{answer['withdrawn']:,} candidates are known no more")


class _Scan:
    """One run of a scan, from where the last one stopped."""

    def __init__(
        self,
        source: Source,
        columns: Sequence[ScanColumn],
        names: Sequence[str],
        files: ScanFiles,
        total: int,
    ) -> None:
        self._source = source
        self._columns = columns
        self._names = names
        self._files = files
        self._total = total

    async def run(
        self,
        client: LocalClient,
        id_column: str | None,
        max_distance: int | None,
        *,
        quiet: bool,
    ) -> None:
        """Look up what is left."""
        from hashlight_node.cli.calling import open_client
        from hashlight_node.cli.progress import Progress
        from hashlight_node.cli.scan_queries import Asking

        if self._files.progress.is_done:
            return
        done = self._files.progress.rows
        bar = Progress("scanning", self._total, done=done, quiet=quiet)
        async with open_client(client, patience_seconds=PATIENCE_SECONDS) as node:
            asking = Asking(
                node, self._columns, id_column=id_column, max_distance=max_distance
            )
            with bar:
                await self._ask_all(asking, bar)
        self._files.finish()

    async def _ask_all(self, asking: Asking, bar: Progress) -> None:
        from hashlight_node.cli.scan_queries import BLOCK_ROWS
        from hashlight_node.cli.scan_rows import blocks

        rows = self._source.rows(self._names, after=self._files.progress.rows)
        waiting: deque[asyncio.Task[Outcome]] = deque()
        remaining = blocks(rows, BLOCK_ROWS)
        try:
            while block := await asyncio.to_thread(next, remaining, None):
                waiting.append(asyncio.create_task(asking.ask(block)))
                if len(waiting) > _BLOCKS_AHEAD:
                    await self._write(waiting.popleft(), bar)
            while waiting:
                await self._write(waiting.popleft(), bar)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _write(self, task: asyncio.Task[Outcome], bar: Progress) -> None:
        outcome = await task
        # Written in the order of the file, whichever answer came first.
        await asyncio.to_thread(
            self._files.add,
            outcome.rows,
            b"".join(outcome.found),
            b"".join(outcome.rejects),
            handlings=outcome.handlings,
            rejected=len(outcome.rejects),
        )
        bar.show(outcome.rows)


def print_totals(out: Console, answer: Json) -> None:
    """Print what a scan found."""
    handlings = answer["handlings"]
    assert isinstance(handlings, dict)  # noqa: S101 -- made below
    said = ", ".join(f"{count:,} {name}" for name, count in handlings.items())
    out.print(f"{answer['rows']:,} rows, {answer['matches']:,} matches ({said or '-'})")
    out.print(f"matches: {answer['output']}", soft_wrap=True)
    if answer["rejected"]:
        rejected = f"{answer['rejected']:,} cells rejected: {answer['rejects_file']}"
        out.print(rejected, soft_wrap=True)


def _totals(files: ScanFiles) -> Json:
    progress = files.progress
    return {
        "rows": progress.rows,
        "matches": sum(progress.handlings.values()),
        "handlings": dict(progress.handlings),
        "rejected": progress.rejected,
        "output": str(files.output),
        "rejects_file": str(files.rejects),
    }


def _columns(
    asked: Sequence[str] | None, source: Source, file: Path
) -> list[ScanColumn]:
    """Read `--column`; without any, take the columns that are named like a type."""
    from hashlight_client.cells import ScanColumn
    from hashlight_protocol import SIGNAL_TYPES

    if asked:
        pairs = [it.partition("=") for it in asked]
        columns = [ScanColumn(name or kind, kind) for kind, _, name in pairs]
    else:
        columns = [
            ScanColumn(it, it) for it in source.names or () if it in SIGNAL_TYPES
        ]
    if not columns or len({*columns}) != len(columns):
        message = f"{file}: name the columns to look up, each once: --column pdq"
        raise UsageError(message)
    for it in columns:
        _check_column(it.name, source, file)
        if not _is_type(it.type):
            message = "--column is TYPE or TYPE=NAME, for example pdq=photo_hash"
            raise UsageError(message)
    return columns


def _spelled(name: str) -> str:
    """Write a column's name as JSON can hold it, distinct from all others."""
    return name.encode(errors="backslashreplace").decode()


def _is_type(name: str) -> bool:
    from hashlight_protocol import BadSignalError, parse_signal

    try:
        parse_signal(name, "0" * 64)
    except BadSignalError as error:
        return error.signal_type == name
    return True


def _check_column(name: str, source: Source, file: Path) -> None:
    if source.names is not None and name not in source.names:
        message = f"{file}: there is no column {name!r}"
        raise UsageError(message)


def _digest_and_lines(file: Path) -> tuple[str, int]:
    digest = hashlib.sha256()
    lines = 0
    with file.open("rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
            lines += block.count(b"\n")
    return digest.hexdigest(), lines


@contextmanager
def _file_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"{error.filename or 'a file'}: {error.strerror}"
        raise CommandError(message) from error


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(scan)
