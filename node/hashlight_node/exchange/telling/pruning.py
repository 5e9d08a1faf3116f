"""Forgetting old answers to pushes, without forgetting what they prove."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hashlight_node.store import delivery_history

if TYPE_CHECKING:
    from hashlight_node.model import Clock
    from hashlight_node.store.database import Connection, Database
    from hashlight_node.store.delivery_history import Streak

_DAY_SECONDS: Final = 86_400


class DeliveryPruning:
    """Deletes deliveries that are older than the operator wants to keep.

    Args:
        database: The store.
        clock: Unix seconds.
        kept_days: How long everything is kept.
    """

    def __init__(self, *, database: Database, clock: Clock, kept_days: int) -> None:
        self._database = database
        self._clock = clock
        self._kept_seconds = kept_days * _DAY_SECONDS

    async def prune(self) -> None:
        """Delete what is too old, in transactions that hold up nobody."""
        for streak in await self._database.read(delivery_history.list_streaks):
            await self._prune(streak)

    async def _prune(self, streak: Streak) -> None:
        before = self._clock() - self._kept_seconds
        after: tuple[int, int] | None = (0, -1)
        while after is not None:
            after = await self._prune_page(streak, before, after)

    async def _prune_page(
        self, streak: Streak, before: int, after: tuple[int, int]
    ) -> tuple[int, int] | None:
        def write(conn: Connection) -> tuple[int, int] | None:
            return delivery_history.prune_page(conn, streak, before=before, after=after)

        return await self._database.write(write)
