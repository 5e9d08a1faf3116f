"""How far a long command is: a bar, rows a second, and the time that is left."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class Progress:
    """A bar on standard error; nothing of it is left when the command ends.

    Args:
        title: What is done.
        total: How many rows there are, about.
        done: How many of them were done by an earlier run.
        quiet: Show nothing.
    """

    def __init__(
        self, title: str, total: int, *, done: int = 0, quiet: bool = False
    ) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bars

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]} rows/s"),
            TimeRemainingColumn(),
        )
        screen = Console(stderr=True, quiet=quiet)
        self._bars = Bars(*columns, console=screen, transient=True)
        self._task = self._bars.add_task(title, total=total, completed=done, rate="0")
        self._before = done
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def skip(self, done: int) -> None:
        """Show that so many rows were done by an earlier run."""
        self._before, self._started = done, time.monotonic()
        self.show(done)

    def show(self, done: int) -> None:
        """Show that so many rows are done, those of an earlier run included."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        rate = f"{(done - self._before) / seconds:,.0f}"
        self._bars.update(self._task, completed=done, rate=rate)
