"""Copies under way: how far each is, how quick, and how long it still takes."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class CopyUnderWay:
    """Where the copy of a log stands at a moment.

    Attributes:
        size: Entries that are stored and applied.
        target_size: Entries there will be.
        per_second: Entries a second since it was begun or went on.
        seconds_left: What the rest takes at that pace; None as long as there is none.
    """

    size: int
    target_size: int
    per_second: float
    seconds_left: float | None


@dataclass(slots=True)
class Meter:
    """How far one copy is.

    Attributes:
        first_size: Entries there were when it was begun or went on.
        target_size: Entries there will be.
        began: When that was.
        size: Entries there are.
    """

    first_size: int
    target_size: int
    began: float
    size: int = field(init=False)

    def __post_init__(self) -> None:
        """Begin at the first size."""
        self.size = self.first_size

    def read(self, now: float) -> CopyUnderWay:
        """Tell where the copy stands."""
        seconds = now - self.began
        pace = (self.size - self.first_size) / seconds if seconds > 0 else 0.0
        left = (self.target_size - self.size) / pace if pace else None
        return CopyUnderWay(self.size, self.target_size, pace, left)


class Copies:
    """The copies that are under way in this process.

    Args:
        now: Seconds of a clock that never goes back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._meters: dict[str, Meter] = {}

    def find(self, origin: str) -> CopyUnderWay | None:
        """Tell where the copy of a log stands; None if none is under way."""
        meter = self._meters.get(origin)
        return None if meter is None else meter.read(self._now())

    @contextmanager
    def under_way(self, origin: str, *, size: int, target_size: int) -> Iterator[Meter]:
        """Have a copy be found as long as it goes on.

        Args:
            origin: The log.
            size: Entries there are.
            target_size: Entries there will be.

        Yields:
            What to tell of its growth.
        """
        meter = self._meters[origin] = Meter(size, target_size, self._now())
        try:
            yield meter
        finally:
            del self._meters[origin]
