"""Which disk a node watches, and when it has too little room."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hashlight_node.exchange.room import RoomRules
from hashlight_node.store.backends import file_beside

if TYPE_CHECKING:
    from pathlib import Path

    from hashlight_node.config import Settings

_MIB: Final = 1 << 20


def store_directory(settings: Settings) -> Path:
    """Name the directory whose disk must have room.

    With PostgreSQL that is the one in which the node keeps its own files: the server's
    disk is the server's to watch.
    """
    return file_beside(settings.store.url, settings.store.directory, "index").parent


def room_rules(settings: Settings) -> RoomRules:
    """Give when there is too little room, as the operator has it."""
    disk = settings.disk
    return RoomRules(disk.warn_mib * _MIB, disk.stop_mib * _MIB)
