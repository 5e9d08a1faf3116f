"""`hashlight import`: publish a whole file, resumable at any point.

Rows travel in batches, each under an idempotency key made of the file's digest and
the batch's number. Whatever dies in between, the same command goes on where it
stopped: a batch that the node had already logged is answered again, never logged
twice.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, cast

import typer

from hashlight_node.cli.session import (
    DEFAULT_CONFIG,
    CommandError,
    ConfigOption,
    JsonOption,
    emit,
    open_session,
    reported,
)
from hashlight_node.local_client import NodeUnreachableError, ProblemError, path_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from hashlight_node.cli.import_rows import Row
    from hashlight_node.local_client import Json, LocalClient

BATCH_ROWS = 1000
PATIENCE_SECONDS = 60.0
"""How long a batch is retried while the node is away, for example restarting."""

_UNAVAILABLE = {429, 503}

_UNDER_WAY = 2
"""Batches sent at once: the node reads one while it waits for the disk with another.
Their order in the log may be another one than in the file."""


class _Sending(NamedTuple):
    """A batch that was sent, and what will tell that it was published."""

    done: Future[None]
    number: int
    batch: list[Row]


def import_file(
    list_name: Annotated[str, typer.Argument(metavar="LIST")],
    file: Annotated[Path, typer.Argument(help=".csv with a header, or .ndjson.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Publish a file of signals. Run it again to resume; rejects go to a file."""
    with reported(as_json=as_json):
        client = open_session(config).client
        try:
            run = _Import(client, list_name, file, config.resolve().parent / "imports")
        except OSError as error:
            message = f"{file}: {error.strerror}"
            raise CommandError(message) from error
        answer = run.finish(quiet=as_json)

        def render(out: Console) -> None:
            published, rejected = answer["published"], answer["rejected"]
            out.print(f"published {published:,} records, rejected {rejected:,} rows")
            if rejected:
                out.print(f"rejects: {answer['rejects_file']}", soft_wrap=True)

        emit(answer, as_json=as_json, render=render)


class _Import:
    """One import: its progress is on disk before the next batch is sent."""

    def __init__(
        self, client: LocalClient, list_name: str, file: Path, directory: Path
    ) -> None:
        self._client = client
        self._list = list_name
        self._file = file
        digest, self._lines = _digest_and_lines(file)
        self._state_file = directory / f"{list_name}-{digest[:32]}.json"
        self._rejects = file.with_name(file.name + ".rejects")
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._state: Json = {
            "sha256": digest,
            "created": now,
            "batches": 0,
            "published": 0,
            "rejected": 0,
            "rejects_bytes": 0,
        }
        directory.mkdir(mode=0o700, exist_ok=True)
        if self._state_file.exists():
            self._state = json.loads(self._state_file.read_text(encoding="utf-8"))
        else:
            # `created` is part of what is sent: it must not change on a resume.
            self._save()

    def finish(self, *, quiet: bool) -> Json:
        """Send what is left and return the totals of the whole import."""
        from hashlight_node.cli.progress import Progress

        known = self._count("batches")
        with (
            Progress("importing", self._lines, quiet=quiet) as progress,
            ThreadPoolExecutor(_UNDER_WAY) as sender,
        ):
            sending: deque[_Sending] = deque()
            for number, batch in enumerate(self._batches()):
                if number < known:
                    progress.skip(batch[-1].number)
                    continue
                if len(sending) == _UNDER_WAY:
                    progress.show(self._settle(sending.popleft()))
                future = sender.submit(self._post, number, batch)
                sending.append(_Sending(future, number, batch))
            while sending:
                progress.show(self._settle(sending.popleft()))
        return {
            "published": self._count("published"),
            "rejected": self._count("rejected"),
            "rejects_file": str(self._rejects),
        }

    def _batches(self) -> Iterator[list[Row]]:
        from hashlight_node.cli.import_rows import read_rows

        batch: list[Row] = []
        for row in read_rows(self._file, created=str(self._state["created"])):
            batch.append(row)
            if len(batch) == BATCH_ROWS:
                yield batch
                batch = []
        if batch:
            yield batch

    def _settle(self, sending: _Sending) -> int:
        """Wait for a batch, and give how many rows of the file are done then."""
        sending.done.result()
        batch = sending.batch
        rejected = [row for row in batch if row.record is None]
        rejects_bytes = self._write_rejects(rejected)
        self._state |= {
            "batches": sending.number + 1,
            "published": self._count("published") + len(batch) - len(rejected),
            "rejected": self._count("rejected") + len(rejected),
            "rejects_bytes": rejects_bytes,
        }
        self._save()
        return batch[-1].number

    def _post(self, number: int, batch: list[Row]) -> None:
        records = [row.record for row in batch if row.record is not None]
        if not records:
            return
        path = path_of("lists", self._list, "records")
        digest = str(self._state["sha256"])[:32]
        key = f"import-{digest}-{self._list}-{number}"
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        pause_seconds = 0.1
        while True:
            try:
                self._client.post(path, {"records": records}, idempotency_key=key)
            except (NodeUnreachableError, ProblemError) as error:
                unavailable = (
                    isinstance(error, NodeUnreachableError)
                    or error.status in _UNAVAILABLE
                )
                if not unavailable or time.monotonic() > give_up_at:
                    raise
                time.sleep(pause_seconds)
                pause_seconds = min(pause_seconds * 2, 2.0)
            else:
                return

    def _write_rejects(self, rejected: list[Row]) -> int:
        """Append rejects behind what earlier batches are known to have written."""
        from hashlight_node.cli.import_rows import rejects_header

        known = self._count("rejects_bytes")
        if not rejected:
            return known
        text = io.StringIO()
        if not known:
            text.write(rejects_header(self._file))
        writer = csv.writer(text, lineterminator="\n")
        for row in rejected:
            if self._file.suffix.lower() == ".csv":
                writer.writerow((row.number, row.reason, row.text))
            else:
                line = {"row": row.number, "reason": row.reason, "text": row.text}
                text.write(json.dumps(line) + "\n")
        data = text.getvalue().encode(errors="backslashreplace")
        descriptor = os.open(self._rejects, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            file.truncate(known)
            file.seek(known)
            file.write(data)
        return known + len(data)

    def _count(self, member: str) -> int:
        return cast("int", self._state[member])

    def _save(self) -> None:
        fresh = self._state_file.with_suffix(".tmp")
        fresh.write_text(json.dumps(self._state), encoding="utf-8")
        fresh.replace(self._state_file)


def _digest_and_lines(file: Path) -> tuple[str, int]:
    digest = hashlib.sha256()
    lines = 0
    with file.open("rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
            lines += block.count(b"\n")
    return digest.hexdigest(), lines


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("import")(import_file)
