"""How much of a peer's list is copied before others get their turn.

There are few workers. A list that grows as quickly as it is read, or a peer that sends
just quickly enough not to be given up, would keep one for ever. So a pull by a worker
ends after a while, with all that it verified stored, and the rest of the list queues up
behind whoever waits. Where nobody waits it goes on at once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

TURN_SECONDS: Final = 60

TURN_BYTES: Final = 512 * 1024 * 1024
"""Of entries and bodies; a million records of the usual kind."""

PLAN_SECONDS: Final = 120
"""For the hashes of one pull: 32 bytes for 256 records, so 32 MiB at the most that
SPEC.md#limits has us take in one step."""


class Budget:
    """What one pull may cost before it stops at the next place where it can go on."""

    def __init__(
        self, *, seconds: float, byte_count: int, now: Callable[[], float]
    ) -> None:
        self._now = now
        self._until = now() + seconds
        self._bytes_left = byte_count

    def spend(self, byte_count: int) -> None:
        """Note bytes that came."""
        self._bytes_left -= byte_count

    @property
    def is_spent(self) -> bool:
        """Whether others should get their turn."""
        return self._bytes_left <= 0 or self._now() >= self._until


def budget_of_a_turn() -> Budget:
    """Give what a worker spends on one list."""
    now = asyncio.get_running_loop().time
    return Budget(seconds=TURN_SECONDS, byte_count=TURN_BYTES, now=now)
