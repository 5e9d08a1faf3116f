"""The files of a scan: what it found, what it could not read, and how far it is.

Found lines are written, then the state is replaced that says how long they are. What is
killed in between leaves lines behind that the state does not know; the next run cuts
them off and asks again. So a scan that was killed any number of times leaves the same
files as one that was not.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Self

import orjson

from hashlight_node.cli.session import CommandError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from io import FileIO
    from pathlib import Path
    from types import TracebackType

_VERSION = 1
_PRIVATE = 0o600


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a scan is.

    Attributes:
        rows: Rows that are done.
        found_bytes: Length of what was found in them.
        rejects_bytes: Length of what is said about cells that could not be looked up.
        handlings: How many cells matched, by what is to be done.
        rejected: How many could not be looked up.
        is_done: Whether there are no more rows.
    """

    rows: int = 0
    found_bytes: int = 0
    rejects_bytes: int = 0
    handlings: Mapping[str, int] = field(default_factory=dict)
    rejected: int = 0
    is_done: bool = False


class ScanFiles:
    """Output, rejects and state of one scan, held by one process at a time.

    Args:
        output: Where matches go; the other two are beside it.
        source: The input, which none of them may be.
        what: What decides about the output: the input's digest, columns, options.
        restart: Begin anew, whatever is there.

    Raises:
        UsageError: The state is of another scan, or what is there is of none.
        CommandError: Another process has it, or the output is not as it was left.
    """

    def __init__(
        self,
        output: Path,
        source: Path,
        what: Mapping[str, object],
        *,
        restart: bool,
    ) -> None:
        self.output = output
        self.rejects = output.with_name(output.name + ".rejects")
        self._state = output.with_name(output.name + ".state")
        self._draft = output.with_name(output.name + ".state.tmp")
        self._what = dict(what)
        _verify_apart(source, (output, self.rejects, self._state, self._draft))
        with ExitStack() as stack:
            self._found_file = stack.enter_context(_open(output))
            _lock(self._found_file, output)
            self.progress = Progress() if restart else self._read_state()
            self._rejects_file = stack.enter_context(_open(self.rejects))
            # What matched is about people: for its owner only, also if it was there.
            for file in (self._found_file, self._rejects_file):
                os.fchmod(file.fileno(), _PRIVATE)
            # Before the first row: an output without a state would be lost.
            self._save()
            _cut(self._found_file, self.progress.found_bytes, output)
            _cut(self._rejects_file, self.progress.rejects_bytes, self.rejects)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def add(
        self,
        rows: int,
        found: bytes,
        rejects: bytes,
        *,
        handlings: Mapping[str, int],
        rejected: int,
    ) -> None:
        """Write what came of a block; when this returns it is on disk.

        Args:
            rows: Rows that are done now, from the beginning of the input.
            found: Lines of matches.
            rejects: Lines about cells that could not be looked up.
            handlings: Matches in the block.
            rejected: Lines in `rejects`.
        """
        for file, data in ((self._found_file, found), (self._rejects_file, rejects)):
            if data:
                _write(file, data)
        before = self.progress
        names = sorted({*before.handlings, *handlings})
        self.progress = Progress(
            rows=rows,
            found_bytes=before.found_bytes + len(found),
            rejects_bytes=before.rejects_bytes + len(rejects),
            handlings={
                name: before.handlings.get(name, 0) + handlings.get(name, 0)
                for name in names
            },
            rejected=before.rejected + rejected,
        )
        self._save()

    def finish(self) -> None:
        """Remember that all rows are done."""
        self.progress = replace(self.progress, is_done=True)
        self._save()

    def _read_state(self) -> Progress:
        try:
            raw = self._state.read_bytes()
        except FileNotFoundError:
            _verify_empty((self.output, self.rejects))
            return Progress()
        try:
            state = orjson.loads(raw)
            if (state["version"], state["what"]) == (_VERSION, self._what):
                return Progress(**state["progress"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            pass  # Something else has this name.
        message = (
            f"{self._state} is of another scan: of another input, or with other "
            "options; choose another output, or begin anew with --restart"
        )
        raise UsageError(message)

    def _save(self) -> None:
        state = {
            "version": _VERSION,
            "what": self._what,
            "progress": asdict(self.progress),
        }
        # Left behind by a kill; whoever is here holds the lock.
        self._draft.unlink(missing_ok=True)
        with _open(self._draft, os.O_EXCL) as file:
            _write(file, orjson.dumps(state))
        self._draft.replace(self._state)


def verify_apart(source: Path, output: Path) -> None:
    """Refuse to write over what is scanned.

    Raises:
        UsageError: A file that is written is the source.
    """
    _verify_apart(source, (output, output.with_name(output.name + ".rejects")))


def verify_ours(output: Path, *, restart: bool) -> None:
    """Refuse to write over what no scan by row groups has written.

    Raises:
        UsageError: Something else is there, and nobody said `--restart`.
    """
    parts = output.with_name(output.name + ".parts")
    if not restart and not (parts / "plan").exists():
        _verify_empty((output, output.with_name(output.name + ".rejects")))
    if output.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(output))


def _open(path: Path, flags: int = 0) -> FileIO:
    flags |= os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, _PRIVATE), "r+b", buffering=0)


def _verify_apart(source: Path, written: Iterable[Path]) -> None:
    for path in written:
        if path.exists() and path.samefile(source):
            message = f"{path} is the file that is scanned; choose another output"
            raise UsageError(message)


def _verify_empty(written: Iterable[Path]) -> None:
    for path in written:
        if path.exists() and path.stat().st_size:
            message = (
                f"{path} is not of a scan, or its state is gone; choose another "
                "output, or overwrite it with --restart"
            )
            raise UsageError(message)


def _lock(file: FileIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        message = f"another scan is writing {path}"
        raise CommandError(message) from None


def _cut(file: FileIO, size: int, path: Path) -> None:
    if os.fstat(file.fileno()).st_size < size:
        message = f"{path} is shorter than it was left; begin anew with --restart"
        raise CommandError(message)
    file.truncate(size)
    file.seek(size)


def _write(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
    os.fsync(file.fileno())
