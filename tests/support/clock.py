"""A clock that stands still until a test moves it."""

from __future__ import annotations

from dataclasses import dataclass

START = 1_750_000_000
"""15 June 2025; any time would do."""


@dataclass
class ManualClock:
    """Gives the same second until it is moved."""

    now: int = START

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: int) -> None:
        self.now += seconds
