"""How much room the disk has, and what is refused before it has none.

A disk that is full stops everything at once, withdrawals too. So whatever brings new
content is refused while there is still room: publishing, the bodies of pulls, uploads.
Lookups, reads and withdrawals go on, and entries are still copied, because a RETRACT or
ERASE may be among them; they are a hundredth of what their bodies are.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import structlog

from .errors import NoRoomError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MIB: Final = 1 << 20

_log = structlog.get_logger()


class RoomState(StrEnum):
    """What may still be stored."""

    OK = "ok"
    LOW = "low"
    """Everything; an operator should make room."""

    FULL = "full"
    """No new content."""


@dataclass(frozen=True, slots=True)
class RoomRules:
    """When there is too little room.

    Attributes:
        warn_bytes: Below this an operator is told.
        stop_bytes: Below this no new content is taken.
    """

    warn_bytes: int
    stop_bytes: int


def free_bytes(directory: Path) -> int:
    """Tell how much a process like this one may still write beside a file."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


class Room:
    """Watches the disk of the store.

    Args:
        directory: Where the store's file is; if a server has the store, what this node
            keeps itself.
        rules: The operator's.
        measure: Tells the free bytes; the one place where that is asked.
        on_measured: Told the free bytes and the state.
    """

    def __init__(
        self,
        directory: Path,
        rules: RoomRules,
        *,
        measure: Callable[[Path], int] = free_bytes,
        on_measured: Callable[[int, RoomState], None] = lambda *_: None,
    ) -> None:
        self._directory = directory
        self._rules = rules
        self._measure = measure
        self._on_measured = on_measured
        self.state = RoomState.OK

    async def look(self) -> None:
        """Measure now."""
        self.check()

    def check(self) -> RoomState:
        """Measure, and say so once if it became another state."""
        free = self._measure(self._directory)
        state = RoomState.OK
        if free < self._rules.stop_bytes:
            state = RoomState.FULL
        elif free < self._rules.warn_bytes:
            state = RoomState.LOW
        if state is not self.state:
            _tell(state, free)
        self.state = state
        self._on_measured(free, state)
        return state

    def require(self) -> None:
        """Refuse new content if there is no room for it.

        Measured each time: a large import fills a disk faster than any clock ticks.

        Raises:
            NoRoomError: There is none. It ends by itself once there is room again.
        """
        if self.check() is RoomState.FULL:
            raise NoRoomError

    def has_room(self) -> bool:
        """Tell whether new content may be stored."""
        return self.check() is not RoomState.FULL


def _tell(state: RoomState, free: int) -> None:
    mib = free // _MIB
    match state:
        case RoomState.OK:
            _log.info("the disk has room again", free_mib=mib)
        case RoomState.LOW:
            _log.warning("the disk is getting full", free_mib=mib)
        case RoomState.FULL:
            _log.error("the disk is full, no new content is taken", free_mib=mib)
