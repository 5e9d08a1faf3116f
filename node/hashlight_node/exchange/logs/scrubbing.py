"""Making sure that erased bytes are gone, although others are reading."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from hashlight_node.store.errors import ScrubError

if TYPE_CHECKING:
    from hashlight_node.store.database import Database

_PAUSES_SECONDS: Final = (0.05, 0.2, 1.0, 3.0)
"""Reads are short; one that lasts longer than all of these is not a lookup."""


async def scrub(database: Database) -> None:
    """Remove erased bytes from the store's files, waiting for readers if need be.

    Raises:
        ScrubError: Readers never let go. The bytes are unreachable, but still there.
    """
    for pause_seconds in _PAUSES_SECONDS:
        try:
            await database.scrub()
        except ScrubError:
            await asyncio.sleep(pause_seconds)
        else:
            return
    await database.scrub()
