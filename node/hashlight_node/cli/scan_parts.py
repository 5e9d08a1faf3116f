"""The plan of a scan of row groups, and its parts on disk.

A part is what was found in one row group. It appears under its name when it is whole,
says for which plan and with which snapshot it was made, and is not made twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, NamedTuple

import orjson
import pyarrow as pa
from pyarrow import parquet

from hashlight_client.row_groups import RowGroup
from hashlight_node.cli.session import CommandError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from hashlight_client.row_groups import Query

_KEY: Final = b"hashlight"
_PRIVATE: Final = 0o600


class Made(NamedTuple):
    """With what a part was made.

    Attributes:
        snapshot: The snapshot's name.
        as_of: When it was asked for, Unix seconds; what was live then was searched.
        max_distance: Where PDQ matches ended.
    """

    snapshot: str
    as_of: int
    max_distance: int


def plan_groups(source: Path) -> list[RowGroup]:
    """List the row groups of a file, or of every .parquet file under a directory.

    Raises:
        UsageError: There is none.
        CommandError: A file is damaged or cannot be read.
    """
    files = sorted(source.rglob("*.parquet")) if source.is_dir() else [source]
    if not files or any(it.suffix.lower() != ".parquet" for it in files):
        message = f"{source}: engines scan .parquet files, or a directory of them"
        raise UsageError(message)
    return [group for file in files for group in _groups_of(file.resolve())]


def _groups_of(path: Path) -> Iterator[RowGroup]:
    size = path.stat().st_size
    first_row = 1
    with opened(path) as file:
        for number in range(file.num_row_groups):
            rows = file.metadata.row_group(number).num_rows
            yield RowGroup(str(path), size, number, first_row, rows)
            first_row += rows


@contextmanager
def opened(path: Path) -> Iterator[parquet.ParquetFile]:
    """Open a Parquet file.

    Raises:
        CommandError: It is none.
    """
    try:
        file = parquet.ParquetFile(path)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        message = f"{path}: it is no Parquet file, or damaged"
        raise CommandError(message) from error
    with file:
        yield file


def plan_digest(groups: Sequence[RowGroup], query: Query) -> str:
    """Name what is scanned for what, the files by path, length and time."""
    from pathlib import Path

    files = {it.path: it.file_bytes for it in groups}
    times = [(path, Path(path).stat().st_mtime_ns, files[path]) for path in files]
    columns = [list(it) for it in query.columns]
    plan = [times, len(groups), columns, query.id_column]
    return hashlib.sha256(repr(plan).encode(errors="backslashreplace")).hexdigest()


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one scan, held by one process at a time.

    Attributes:
        directory: Where they are.
    """

    directory: Path

    @contextmanager
    def held(self, digest: str, *, restart: bool) -> Iterator[None]:
        """Hold them while a scan runs.

        Args:
            digest: Of the plan.
            restart: Begin anew, whatever is there.

        Raises:
            UsageError: They are of another plan.
            CommandError: Another process holds them.
        """
        self.directory.mkdir(mode=0o700, exist_ok=True)
        plan = self.directory / "plan"
        # A record lock: workers do not inherit it.
        with os.fdopen(os.open(plan, os.O_RDWR | os.O_CREAT, _PRIVATE), "r+") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                message = f"another scan is writing {self.directory}"
                raise CommandError(message) from None
            known = file.read()
            if known not in {"", digest} and not restart:
                message = (
                    f"{self.directory} is of another scan: of another input, or with "
                    "other options; choose another output, or use --restart"
                )
                raise UsageError(message)
            if restart:
                for part in self.directory.glob("part-*"):
                    part.unlink()
            if known != digest:
                # Only while there are no parts: a plan that is cut off names none.
                file.seek(0)
                file.truncate()
                file.write(digest)
                file.flush()
                os.fsync(file.fileno())
            yield

    def path(self, number: int) -> Path:
        """Name a part."""
        return self.directory / f"part-{number:08}.parquet"

    def write(self, number: int, found: pa.Table, made: Made) -> None:
        """Write a part; when this returns it is on disk, whole."""
        said = {_KEY: orjson.dumps(made._asdict())}
        draft = self.path(number).with_suffix(".new")
        with private(draft) as file:
            parquet.write_table(found.replace_schema_metadata(said), file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path(number))

    def read(self, number: int) -> tuple[pa.Table, Made] | None:
        """Read a part; None if there is none, or it is damaged."""
        try:
            with parquet.ParquetFile(self.path(number)) as file:
                found = file.read()
            made = Made(**orjson.loads(found.schema.metadata[_KEY]))
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
            return None
        return found, made

    def done(self, count: int, max_distance: int) -> Mapping[int, Made]:
        """Tell which of the first parts are there and searched far enough."""
        there: dict[int, Made] = {}
        for number in range(count):
            part = self.read(number)
            if part is not None and part[1].max_distance == max_distance:
                there[number] = part[1]
        return there

    def remove(self) -> None:
        """Delete them all."""
        shutil.rmtree(self.directory)


@contextmanager
def private(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file for its owner alone."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, _PRIVATE), "wb") as file:
        yield file
